"""A run's figures as a person reads them: one table, the kind of model behaviour on top."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from thunderctl.report.disk import run_figure
from thunderctl.report.page import document
from thunderctl.runs.store import RunFolder, write_whole

KIND_MEANS = {
    "replay": "replay: the engine was forced to emit recorded answers; prefill, cache and tools are real",
    "live": "live: the model decided every answer",
    "trace": "trace: token counts and tool times of recorded or synthetic programs; no text, no tools run",
}
ENGINE_MEANS = {
    "cpu": "vLLM on the CPU with a small random model; compare ratios, not absolute figures",
    "emulated": "emulated: vLLM's own server, scheduler and cache; the GPU's arithmetic replaced by a time model of "
    "{time_model}",
    "simulated": "simulated: virtual time, the real scheduler, and a model of vLLM's workers on {time_model}",
}
"""Engines whose figures need a word; of ``{time_model}`` a manifest tells."""
LAG_THAT_SHOWS = 0.05
"""Share of its time that an emulated engine may come late; see ``report/stats.py``."""

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


Row = tuple[str, str]


def _rows(s: dict[str, Any]) -> list[list[Row]]:
    """Label and text of each line, in sections."""
    if s["kind"] == "trace":
        return [_programs(s), _speed(s), _cache(s), _scheduling(s), [_tool_time(s)]]
    return [_agents(s), _speed(s), _cache(s), _scheduling(s), [_tool_time(s), *_environments(s)]]


def _statuses(s: dict[str, Any]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(s["agents"]["by_status"].items()))


def _agents(s: dict[str, Any]) -> list[Row]:
    agents = s["agents"]
    judged = (
        f"{agents['resolved'] + agents['not_resolved']}: {agents['resolved']} resolved, {agents['not_resolved']} not"
    )
    if agents["not_judged"]:
        judged += f"; {agents['not_judged']} agents without a judged patch"
    return [
        ("agents", f"{agents['asked']} ({_statuses(s)})"),
        ("programs finished", f"{agents['finished']}"),
        ("patches evaluated", judged),
    ]


def _programs(s: dict[str, Any]) -> list[Row]:
    rows = [("agents", f"{s['agents']['asked']}"), ("programs", _statuses(s) or "none ended")]
    if "trace" in s:
        work = s["trace"]
        until = f"{work['programs']} programs" if work["programs"] else f"{work['duration_s']:g} s"
        rows.append(("work", f"{until}, {work['start']} start, seed {work['seed']}"))
    return rows


def _speed(s: dict[str, Any]) -> list[Row]:
    rate, context = s["throughput"], s["context_tokens"]
    return [
        ("measured window", seconds(s["window_s"])),
        ("throughput", f"{rate['steps_per_min']:.1f} steps/min  ({rate['steps']} steps)"),
        ("", f"{rate['programs_per_h']:.1f} programs/h"),
        ("", f"{rate['output_tokens_per_s']:.1f} output tokens/s"),
        ("context", f"{context['mean']:,.0f} tokens on average, {context['max']:,} at most"),
    ]


def _cache(s: dict[str, Any]) -> list[Row]:
    tokens, space = s["tokens"], s["kv_space_time"]
    uses = ", ".join(f"{use} {percent(space.get(use, 0.0))}" for use in USES)
    rows = [
        ("cache hit rate", f"{percent(s['hit_rate'])}  (engine's own counters: {percent(s['engine_hit_rate'])})"),
        ("tokens", f"{tokens['prompt']:,} prompt, {tokens['cached']:,} of them cached; {tokens['output']:,} output"),
        ("computed again", f"{space['recomputed_tokens']:,.0f} tokens"),
        ("KV space × time", uses),
    ]
    if s["workers"] > 1:
        apart = s["imbalance"]
        rows.append(
            (
                "imbalance",
                f"{percent(apart['mean'])} of KV between {s['workers']} workers, {percent(apart['max'])} at most",
            )
        )
    return rows


def _scheduling(s: dict[str, Any]) -> list[Row]:
    sched, latency, unpaused = s["scheduler"], s["latency_s"], s["latency_without_pauses_s"]
    return [
        ("step latency", f"{seconds(latency['p50'])} median, {seconds(latency['p90'])} p90"),
        ("  without pauses", f"{seconds(unpaused['p50'])} median, {seconds(unpaused['p90'])} p90"),
        ("held by scheduler", f"{seconds(s['held_s']['total'])} in all, {seconds(s['held_s']['max'])} longest"),
        (
            "scheduler",
            f"{sched['pauses']} pauses, {sched['restores']} restores "
            f"({sched['forced_restores']} forced, {sched['migrations']} to another worker)",
        ),
    ]


def _tool_time(s: dict[str, Any]) -> Row:
    text = f"{seconds(s['tool_s']['total'])} in all, {seconds(s['tool_s']['p50'])} median"
    return ("tool time", text if s["kind"] == "trace" else f"{text}, {s['tool_timeouts']} timed out")


def _environments(s: dict[str, Any]) -> list[Row]:
    disk = s["disk"]
    waiting = s.get("environment_wait_s")  # runs of an earlier version waited for all of it
    waited = f", of which agents waited {seconds(waiting['mean'])}" if waiting else ""
    kinds = ", ".join(f"{kind} {size(value)}" for kind, value in sorted(disk["peak_by_kind"].items()) if value)
    rows = [
        ("environments", f"{s['environments']}, prepared in {seconds(s['prepare_s']['mean'])} on average{waited}"),
        (
            "environment disk",
            f"{size(disk['peak_bytes'])} peak ({kinds or 'nothing'}), {size(disk['now_bytes'])} now",
        ),
    ]
    computed = disk.get("without_collection_peak_bytes", 0)
    if computed > disk["peak_bytes"] > 0:
        times = computed / disk["peak_bytes"]
        rows.append(("  without collection", f"{size(computed)} peak, {times:.1f}× as much (computed)"))
    return rows


def engine_line(summary: dict[str, Any]) -> str | None:
    """What the engine's figures stand for; ``None`` for a real engine on real hardware."""
    means = ENGINE_MEANS.get(summary["engine"])
    return means and "engine: " + means.format(time_model=summary.get("time_model") or "a GPU")


def lag_line(summary: dict[str, Any]) -> str | None:
    """How far an emulated engine fell behind; a warning if that shows in the figures, ``None`` where time is real."""
    lag = summary.get("host_lag")
    if lag is None:
        return None
    if lag <= LAG_THAT_SHOWS:
        return f"host lag {percent(lag)}: this machine kept pace with the emulated one"
    return (
        f"host lag {percent(lag)}: this machine was too slow for what it emulated, and the figures show it; "
        "use fewer agents or raise emulation.time_scale"
    )


def run_table(summary: dict[str, Any]) -> RenderableType:
    """The report of one run."""
    title = f"{summary['workload']} · profile {summary['profile']} · policy {summary['policy']} · run {summary['run']}"
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for number, section in enumerate(_rows(summary)):
        for row in [*([("", "")] if number else []), *section]:
            table.add_row(*row)
    facts = [
        Text(title, style="bold"),
        Text(f"{KIND_MEANS[summary['kind']]}; tasks {summary['tasks_are']}", style="dim"),
    ]
    engine, lag = engine_line(summary), lag_line(summary)
    if engine:
        facts.append(Text(engine, style="dim"))
    if lag:
        facts.append(Text(lag, style="yellow" if summary["host_lag"] > LAG_THAT_SHOWS else "dim"))
    if not summary["complete"]:
        facts.append(Text("this run did not end by itself: figures cover what was stored", style="yellow"))
    return Group(*facts, Text(""), table)


def write_page(run: RunFolder, content: RenderableType) -> None:
    """``report.html``: what the terminal shows, as a page that needs nothing else."""
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(content)
    drawn = run_figure(list(run.lines("disk")))
    if drawn is None:
        page = console.export_html(inline_styles=True)
    else:
        text = console.export_html(inline_styles=True, code_format='<pre class="wide">{code}</pre>')
        page = document(sentence=f"Run {run.id}", title="", drawn=[drawn], before=text)
    write_whole(run.folder / "report.html", page)
