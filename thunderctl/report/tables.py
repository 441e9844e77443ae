"""A run's figures as a person reads them: one table, the kind of model behaviour on top."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from thunderctl.runs.store import RunFolder, write_whole

KIND_MEANS = {
    "replay": "replay: the engine was forced to emit recorded answers; prefill, cache and tools are real",
    "live": "live: the model decided every answer",
}


USES = ("decode", "prefill", "recompute", "caching", "unused")


def size(count: float) -> str:
    """Bytes in a unit that keeps three digits or so."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def seconds(value: float) -> str:
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def _rows(s: dict[str, Any]) -> list[tuple[str, str] | None]:
    """Label and text of each line; ``None`` is an empty one."""
    agents, sched, tokens, space, disk = s["agents"], s["scheduler"], s["tokens"], s["kv_space_time"], s["disk"]
    statuses = ", ".join(f"{count} {name}" for name, count in sorted(agents["by_status"].items()))
    kinds = ", ".join(f"{kind} {size(value)}" for kind, value in sorted(disk["peak_by_kind"].items()) if value)
    uses = ", ".join(f"{use} {percent(space.get(use, 0.0))}" for use in USES)
    judged = (
        f"{agents['resolved'] + agents['not_resolved']}: {agents['resolved']} resolved, {agents['not_resolved']} not"
    )
    if agents["not_judged"]:
        judged += f"; {agents['not_judged']} agents without a judged patch"
    latency, unpaused, rate = s["latency_s"], s["latency_without_pauses_s"], s["throughput"]
    return [
        ("agents", f"{agents['asked']} ({statuses})"),
        ("programs finished", f"{agents['finished']}"),
        ("patches evaluated", judged),
        None,
        ("measured window", seconds(s["window_s"])),
        ("throughput", f"{rate['steps_per_min']:.1f} steps/min  ({rate['steps']} steps)"),
        ("", f"{rate['programs_per_h']:.1f} programs/h"),
        ("", f"{rate['output_tokens_per_s']:.1f} output tokens/s"),
        ("context", f"{s['context_tokens']['mean']:,.0f} tokens on average, {s['context_tokens']['max']:,} at most"),
        None,
        ("cache hit rate", f"{percent(s['hit_rate'])}  (engine's own counters: {percent(s['engine_hit_rate'])})"),
        ("tokens", f"{tokens['prompt']:,} prompt, {tokens['cached']:,} of them cached; {tokens['output']:,} output"),
        ("computed again", f"{space['recomputed_tokens']:,.0f} tokens"),
        ("KV space × time", uses),
        None,
        ("step latency", f"{seconds(latency['p50'])} median, {seconds(latency['p90'])} p90"),
        ("  without pauses", f"{seconds(unpaused['p50'])} median, {seconds(unpaused['p90'])} p90"),
        ("held by scheduler", f"{seconds(s['held_s']['total'])} in all, {seconds(s['held_s']['max'])} longest"),
        (
            "scheduler",
            f"{sched['pauses']} pauses, {sched['restores']} restores "
            f"({sched['forced_restores']} forced, {sched['migrations']} to another worker)",
        ),
        None,
        (
            "tool time",
            f"{seconds(s['tool_s']['total'])} in all, {seconds(s['tool_s']['p50'])} median, "
            f"{s['tool_timeouts']} timed out",
        ),
        ("environments", f"{s['environments']}, prepared in {seconds(s['prepare_s']['mean'])} on average"),
        (
            "environment disk",
            f"{size(disk['peak_bytes'])} peak ({kinds or 'nothing'}), {size(disk['now_bytes'])} now",
        ),
    ]


def run_table(summary: dict[str, Any]) -> RenderableType:
    """The report of one run."""
    title = f"{summary['workload']} · profile {summary['profile']} · policy {summary['policy']} · run {summary['run']}"
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for row in _rows(summary):
        table.add_row(*(row or ("", "")))
    facts = [
        Text(title, style="bold"),
        Text(f"{KIND_MEANS[summary['kind']]}; tasks {summary['tasks_are']}", style="dim"),
    ]
    if summary["engine"] == "cpu":
        facts.append(
            Text("engine: vLLM on the CPU with a small random model; compare ratios, not absolute figures", style="dim")
        )
    if not summary["complete"]:
        facts.append(Text("this run did not end by itself: figures cover what was stored", style="yellow"))
    return Group(*facts, Text(""), table)


def write_page(run: RunFolder, content: RenderableType) -> None:
    """``report.html``: what the terminal shows, as a page that needs nothing else."""
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(content)
    write_whole(run.folder / "report.html", console.export_html(inline_styles=True))
