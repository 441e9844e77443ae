"""``thunderctl bench environments``: what collecting saves, what preparing ahead hides, what leases cost."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from thunderctl.cli.show import AsJson, Ticker, out, print_json, ticker
from thunderctl.environments.bench import DiskWork, measure_disk
from thunderctl.environments.bench_cost import AT_ONCE, measure_cost
from thunderctl.errors import UsageError
from thunderctl.report.disk import over_time
from thunderctl.report.page import document, table, tiles
from thunderctl.report.tables import percent, seconds, size
from thunderctl.runs.bench_hidden import HiddenWork, measure_hidden
from thunderctl.runs.store import write_whole


class Part(StrEnum):
    DISK = "disk"
    HIDDEN = "hidden"
    COST = "cost"


def environments(
    part: Annotated[
        list[Part] | None, typer.Option("--part", help="What to measure; may be repeated. [default: all]")
    ] = None,
    programs: Annotated[int, typer.Option(min=1, help="disk: programs, one after the other.")] = 200,
    at_once: Annotated[int, typer.Option(min=1, help="disk: programs at a time.")] = 16,
    layer_mb_min: Annotated[int, typer.Option(min=1, help="disk: MiB of the layer that an image has for itself.")] = 30,
    layer_mb_max: Annotated[int, typer.Option(min=1, help="disk: the most of it.")] = 60,
    seed: Annotated[int, typer.Option(help="disk: of the layers' sizes.")] = 0,
    agents: Annotated[str, typer.Option(help="hidden: agents that begin at once, separated by commas.")] = "8,32",
    ahead: Annotated[int, typer.Option(min=1, help="hidden: environments prepared ahead, at most.")] = 32,
    places: Annotated[int, typer.Option(min=1, help="hidden: programs that fit into the KV cache.")] = 6,
    setup_s: Annotated[float, typer.Option(min=0, help="hidden: seconds that each set-up command takes.")] = 3.0,
    model_s: Annotated[float, typer.Option(min=0, help="hidden: seconds that a model call takes.")] = 2.0,
    rounds: Annotated[int, typer.Option(min=2, help="cost: how often each way is measured.")] = 25,
    execs: Annotated[int, typer.Option(min=1, help="cost: commands in each container.")] = 5,
    creates: Annotated[int, typer.Option(min=1, help="cost: creates at once.")] = AT_ONCE,
    to: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the figures and the plot.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure tool environments on the Docker engine: disk with and without collection, preparation that nobody waits
    for, and what a lease costs beside plain docker. Whatever is made for it is removed, also on Ctrl-C.

    \b
    Examples:
      thunderctl bench environments --part disk --out figures
      thunderctl bench environments --part disk --programs 12 --at-once 3
      thunderctl bench environments --part cost --rounds 50 --json
    """
    if layer_mb_max < layer_mb_min:
        raise UsageError("--layer-mb-max is below --layer-mb-min")
    wanted = list(dict.fromkeys(part or list(Part)))
    counts = _counts(agents)
    found: dict[str, Any] = {}
    with ticker() as tell:
        for each in wanted:
            if each is Part.DISK:
                found[each] = measure_disk(DiskWork(programs, at_once, (layer_mb_min, layer_mb_max), seed), tell)
            elif each is Part.HIDDEN:
                found[each] = measure_hidden(_arms(counts, ahead, setup_s, model_s, places), tell)
            else:
                found[each] = measure_cost(rounds, execs, creates, tell)
            if to is not None:
                _write(to, each, found[each], tell)
    if as_json:
        print_json({"schema": 1, **found})
        return
    for each in wanted:
        _SHOW[each](found[each])


def _counts(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not part.isdecimal() or not 1 <= int(part) <= 1000:
            raise UsageError(f"--agents: numbers from 1 to 1000 with commas between are wanted, not {part!r}")
    return [int(part) for part in parts]


def _arms(counts: list[int], ahead: int, setup_s: float, model_s: float, places: int) -> list[HiddenWork]:
    return [
        HiddenWork(agents=count, ahead=each, setup_s=setup_s, model_s=model_s, places=places)
        for count in counts
        for each in (None, 0, ahead)
    ]


def _write(folder: Path, part: Part, result: dict[str, Any], tell: Ticker) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"environments-{part}.json", json.dumps(result, indent=1) + "\n")
    if part is Part.DISK:
        write_whole(folder / "environments-disk.html", disk_page(result))
    tell(f"written to {folder}")


# ------------------------------------------------------------------ disk


def disk_page(result: dict[str, Any]) -> str:
    """The disk over time both ways, as a page that needs nothing else."""
    work, arms = result["work"], result["arms"]
    kept, collected = reversed(list(arms.items()))
    lines: dict[str, tuple[list[float], list[int]]] = {
        name: ([s["at"] for s in arm["samples"]], [s["held"] for s in arm["samples"]])
        for name, arm in (kept, collected)
    }
    note = (
        f"{work['programs']} programs, {work['at_once']} at once, each with an image of its own "
        f"({work['layer_mib'][0]} to {work['layer_mib'][1]} MiB beyond the base). Bytes of our containers, images and "
        "volumes on the engine's disk; the base image, which was there before, does not count."
    )
    shown = [(_times(result["saved_at_peak"]), "less disk at the peak")]
    shown += [(size(arm["peak_bytes"]), f"peak {name}") for name, arm in (collected, kept)]
    return document(
        sentence=f"With collection the disk peaks at {size(collected[1]['peak_bytes'])}, "
        f"without at {size(kept[1]['peak_bytes'])}",
        title="Tool environments: the same work with and without collection",
        drawn=[over_time(lines, "Disk over time", note)],
        before=tiles(shown),
        after=table(["", *_DISK], _disk_rows(result)),
    )


_DISK = ("peak", "mean", "at the end", "growth", "file system's peak", "work")


def _disk_rows(result: dict[str, Any]) -> list[list[str]]:
    return [
        [
            name,
            size(arm["peak_bytes"]),
            size(arm["mean_bytes"]),
            size(arm["final_bytes"]),
            _times(arm["growth"]),
            "–" if arm["peak_used_bytes"] is None else size(arm["peak_used_bytes"]),
            seconds(arm["work_s"]),
        ]
        for name, arm in result["arms"].items()
    ]


def _show_disk(result: dict[str, Any]) -> None:
    out.print(_table("disk", _DISK, _disk_rows(result)))
    out.print(
        f"saved at the peak: {_times(result['saved_at_peak'])}; by the file system's own count: "
        f"{_times(result['saved_at_peak_of_file_system'])}"
    )
    computed = result["computed_without_collection"]
    if computed is not None:
        out.print(f"what a report computes for “without collection” is {percent(computed)} of what was measured")
    out.print("[dim]growth: mean of the third quarter of the work ÷ mean of the second; 1 is flat[/]\n")


# ------------------------------------------------------------------ hidden and cost


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _show_hidden(result: dict[str, Any]) -> None:
    rows = [
        [
            f"{arm['agents']} agents, {arm['arm']}",
            seconds(arm["prepared_s"]),
            seconds(arm["waited_s"]),
            _share(arm["hidden"]),
            f"{_share(arm['hidden_of_queued'])} ({arm['queued']})",
            seconds(arm["median_first_result_s"]),
        ]
        for arm in result["arms"]
    ]
    title = f"set-up of {result['setup_s']:g} s, model calls of {result['model_s']:g} s, {result['places']} places"
    out.print(_table(title, ("preparing", "waited for", "hidden", "of those that queued", "first tool result"), rows))


def _show_cost(result: dict[str, Any]) -> None:
    rows = [[way["way"], _ms(way["create_s"]), _ms(way["exec_s"])] for way in result["ways"]]
    out.print(
        _table(f"medians of {result['rounds']} rounds: create until ready, one command", ("create", "command"), rows)
    )
    rows = [[f"{r['of']} ÷ {r['to']}", _ratio(r["create"]), _ratio(r["exec"])] for r in result["ratios"]]
    out.print(_table("ratios of medians", ("create", "command"), rows))
    for each in result["together"]:
        out.print(f"{each['count']} at once, {each['way']}: {seconds(each['seconds'])}, {len(each['errors'])} errors")
    out.print("[dim]in brackets: 95% bootstrap intervals[/]\n")


_SHOW = {Part.DISK: _show_disk, Part.HIDDEN: _show_hidden, Part.COST: _show_cost}


def _table(title: str, names: tuple[str, ...], rows: list[list[str]]) -> Table:
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    shown.add_column("", no_wrap=True)
    for name in names:
        shown.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    return shown


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}×"


def _ms(told: dict[str, float]) -> str:
    return f"{1000 * told['median']:.0f} ms ({1000 * told['low']:.0f}–{1000 * told['high']:.0f})"


def _ratio(told: dict[str, float]) -> str:
    return f"{told['median']:.2f}× ({told['low']:.2f}–{told['high']:.2f})"
