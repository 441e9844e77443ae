"""What a simulation leaves behind: the records that a stored run has, held in memory (see ``runs/store.py``).

Whoever summarises a run's folder summarises this. Nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class SimResult:
    """Times in seconds of virtual time since the start. Equal inputs give equal results."""

    id: str
    manifest: dict[str, Any]
    """What the simulator knows of the run; a caller adds what it knows (trace, profile, seed)."""
    records: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {"steps": [], "rollouts": [], "decisions": [], "samples": []}
    )

    def read(self, name: str) -> Any:
        """``manifest.json``; ``FileNotFoundError`` for any other file, as a run's folder would."""
        if name != "manifest.json":
            raise FileNotFoundError(f"a simulated run has no {name}")
        return self.manifest

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """Records of ``steps``, ``rollouts``, ``decisions`` or ``samples``; none of anything else."""
        return iter(self.records.get(name, ()))

    def rollouts(self) -> list[dict[str, Any]]:
        """One record a program, in the order of their names."""
        return sorted(self.records["rollouts"], key=lambda record: str(record["program"]))

    def sampled(self) -> dict[str, list[dict[str, Any]]]:
        """The samples of each worker, in the order of time."""
        found: dict[str, list[dict[str, Any]]] = {}
        for sample in self.records["samples"]:
            found.setdefault(sample["worker"], []).append(sample)
        return found
