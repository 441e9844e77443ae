"""The disk that tool environments held over time: as it was sampled, and as it would have been without collection.

The second is computed: to what is there, everything is added that was reclaimed or removed since the first sample, at
the size it had at its end. It says too little where images went before any sample saw them, and never too much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thunderctl.report.page import Figure

GIB = 2**30
POINTS = 300
"""A line has no more points than this; each is the highest of those it stands for."""
WITH, WITHOUT = "#2b7bba", "#d1495b"


def without_collection(samples: Sequence[dict[str, Any]]) -> list[int]:
    """Bytes at each of ``samples`` if nothing had been collected since the first of them; none if they cannot tell."""
    if not samples or any("collected_bytes" not in sample for sample in samples):
        return []
    before = samples[0]["collected_bytes"]
    return [sample["bytes_now"] + sample["collected_bytes"] - before for sample in samples]


def over_time(lines: Mapping[str, tuple[Sequence[float], Sequence[int]]], title: str, note: str) -> Figure:
    """A plot of bytes over seconds. ``lines``: name → seconds and bytes; the first is the one without collection."""
    data = []
    for (name, (at, held)), colour in zip(lines.items(), (WITHOUT, WITH), strict=False):
        every = max(1, -(-len(at) // POINTS))
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": [round(at[n], 1) for n in range(0, len(at), every)],
                "y": [round(max(held[n : n + every]) / GIB, 4) for n in range(0, len(at), every)],
                "line": {"color": colour, "width": 2.5},
            }
        )
    layout = {
        "xaxis": {"title": {"text": "seconds"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "GiB"}, "rangemode": "tozero"},
    }
    return Figure(title, note, data, layout)


def run_figure(samples: Sequence[dict[str, Any]]) -> Figure | None:
    """The plot for the report of a run; ``None`` if its environments held nothing that was seen."""
    if not any(sample["bytes_now"] for sample in samples):
        return None
    at = [sample["at"] for sample in samples]
    sampled = {"as it was": (at, [sample["bytes_now"] for sample in samples])}
    computed = without_collection(samples)
    return over_time(
        {"without collection (computed)": (at, computed), **sampled} if computed else {"": ((), ()), **sampled},
        "Disk of tool environments",
        "Writable layers, images that this home brought, volumes, folders. Without collection: what was reclaimed, at "
        "its last size, added to what was there.",
    )
