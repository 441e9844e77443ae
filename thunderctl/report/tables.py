"""A run's figures as a person reads them: one table, the kind of model behaviour on top."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from thunderctl.runs.store import RunFolder, write_whole

KIND_MEANS = {
    "replay": "replay: the engine was forced to emit recorded answers; prefill, cache and tools are real",
    "live": "live: the model decided every answer",
}


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
    agents, sched = s["agents"], s["scheduler"]
    statuses = ", ".join(f"{count} {name}" for name, count in sorted(agents["by_status"].items()))
    judged = agents["resolved"] + agents["not_resolved"]
    disk_kinds = ", ".join(f"{kind} {size(value)}" for kind, value in sorted(s["disk"]["peak_by_kind"].items()) if value)
    space = s["kv_space_time"]
    return [
        ("agents", f"{agents['asked']} ({statuses})"),
        ("programs finished", f"{agents['finished']}"),
        (
            "patches evaluated",
            f"{judged}: {agents['resolved']} resolved, {agents['not_resolved']} not"
            + (f"; {agents['not_judged']} agents without a judged patch" if agents["not_judged"] else ""),
        ),
        None,
        ("measured window", seconds(s["window_s"])),
        ("throughput", f"{s['throughput']['steps_per_min']:.1f} steps/min  ({s['throughput']['steps']} steps)"),
        ("", f"{s['throughput']['programs_per_h']:.1f} programs/h"),
        ("", f"{s['throughput']['output_tokens_per_s']:.1f} output tokens/s"),
        ("context", f"{s['context_tokens']['mean']:,.0f} tokens on average, {s['context_tokens']['max']:,} at most"),
        None,
        ("cache hit rate", f"{percent(s['hit_rate'])}  (engine's own counters: {percent(s['engine_hit_rate'])})"),
        ("tokens", f"{s['tokens']['prompt']:,} prompt, of them {s['tokens']['cached']:,} cached; {s['tokens']['output']:,} output"),
        ("computed again", f"{space['recomputed_tokens']:,.0f} tokens"),
        (
            "KV space × time",
            f"decode {percent(space.get('decode', 0))}, prefill {percent(space.get('prefill', 0))}, recompute "
            f"{percent(space.get('recompute', 0))}, caching {percent(space.get('caching', 0))}, unused {percent(space['unused'])}",
        ),
        None,
        ("step latency", f"{seconds(s['latency_s']['p50'])} median, {seconds(s['latency_s']['p90'])} p90"),
        (
            "  without pauses",
            f"{seconds(s['latency_without_pauses_s']['p50'])} median, {seconds(s['latency_without_pauses_s']['p90'])} p90",
        ),
        ("held by scheduler", f"{seconds(s['held_s']['total'])} in all, {seconds(s['held_s']['max'])} longest"),
        (
            "scheduler",
            f"{sched['pauses']} pauses, {sched['restores']} restores "
            f"({sched['forced_restores']} forced, {sched['migrations']} to another worker)",
        ),
        None,
        ("tool time", f"{seconds(s['tool_s']['total'])} in all, {seconds(s['tool_s']['p50'])} median, {s['tool_timeouts']} timed out"),
        ("environments", f"{s['environments']}, prepared in {seconds(s['prepare_s']['mean'])} on average"),
        ("environment disk", f"{size(s['disk']['peak_bytes'])} peak ({disk_kinds or 'nothing'}), {size(s['disk']['now_bytes'])} now"),
    ]  # fmt: skip


def run_table(summary: dict[str, Any]) -> RenderableType:
    """The report of one run."""
    title = f"{summary['workload']} · profile {summary['profile']} · policy {summary['policy']} · run {summary['run']}"
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for row in _rows(summary):
        table.add_row(*(row or ("", "")))
    facts = [Text(title, style="bold"), Text(f"{KIND_MEANS[summary['kind']]}; tasks {summary['tasks_are']}", style="dim")]
    if summary["engine"] == "cpu":
        facts.append(Text("engine: vLLM on the CPU with a small random model; compare ratios, not absolute figures", style="dim"))
    if not summary["complete"]:
        facts.append(Text("this run did not end by itself: figures cover what was stored", style="yellow"))
    return Group(*facts, Text(""), table)


def write_page(run: RunFolder, content: RenderableType) -> None:
    """``report.html``: what the terminal shows, as a page that needs nothing else."""
    console = Console(record=True, width=120, file=_Nowhere())
    console.print(content)
    write_whole(run.folder / "report.html", console.export_html(inline_styles=True))


class _Nowhere:
    """A terminal that forgets what is printed on it; the console keeps its own record."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        return None
