"""A run's figures as a person reads them: a sentence, notes, rows of text. Every form of a report shows these."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

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


def rows(s: dict[str, Any]) -> list[list[Row]]:
    """Label and text of each line of a run's report, in sections; every form of the report shows these."""
    if s["kind"] == "trace":
        return [_programs(s), _speed(s), _cache(s), _scheduling(s), [_tool_time(s)], *_models(s)]
    return [_agents(s), _speed(s), _cache(s), _scheduling(s), [_tool_time(s), *_environments(s)], *_models(s)]


def _statuses(s: dict[str, Any]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(s["agents"]["by_status"].items()))


def _agents(s: dict[str, Any]) -> list[Row]:
    agents, drift = s["agents"], s["drift"]
    judged = f"{agents['resolved']} of {agents['resolved'] + agents['not_resolved']} judged"
    if agents["not_judged"]:
        judged += f"; {agents['not_judged']} agents left nothing that was judged"
    found = [
        ("agents", f"{agents['asked']} ({_statuses(s) or 'none ended'})"),
        ("programs finished", f"{agents['finished']}"),
        (s["judged"], judged),
    ]
    found += [(f"  {name}", _part(part)) for name, part in s["parts"].items()]
    if s["evaluation"]:
        found.append(("  judged by", str(s["evaluation"]["by"])))
    if s["rows_refused"]:
        found.append(("rows left out", f"{s['rows_refused']}: the manifest says which and why"))
    if s["kind"] == "replay":
        steps = f"{drift['steps']} steps of {drift['programs']} programs" if drift["steps"] else "none"
        found.append(("drift from recording", steps))
    return [*found, *_errors(s)]


def _part(part: dict[str, float]) -> str:
    return f"{part['passed']:.0f} of {part['of']:.0f}" if "passed" in part else f"{part['mean']:.3g} on average"


def _errors(s: dict[str, Any]) -> list[Row]:
    errors = s["errors"]
    if not errors["failed"]:
        return []
    limit = "" if errors["limit"] is None else f"; the profile allows {percent(errors['limit'])}"
    return [("failed", f"{errors['failed']}, {percent(errors['share'])} of those that were due{limit}")]


def _models(s: dict[str, Any]) -> list[list[Row]]:
    found = [
        (
            f"model {name}",
            f"{used['calls']:,.0f} calls, {used['prompt_tokens']:,.0f} prompt and {used['output_tokens']:,.0f} output "
            f"tokens, {used['cost_usd']:.4f} USD"
            + (f"; {used['right']:.0f} of its {used['answered']:.0f} answers are right" if used["answered"] else "")
            + (f"  ({s['roles'][name]})" if name in s["roles"] else ""),
        )
        for name, used in s["models"].items()
    ]
    return [found] if found else []


def _programs(s: dict[str, Any]) -> list[Row]:
    found = [("agents", f"{s['agents']['asked']}"), ("programs", _statuses(s) or "none ended")]
    if "trace" in s:
        work = s["trace"]
        until = f"{work['programs']} programs" if work["programs"] else f"{work['duration_s']:g} s"
        found.append(("work", f"{until}, {work['start']} start, seed {work['seed']}"))
    return [*found, *_errors(s)]


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
    load = s["load"]
    found = [
        ("cache hit rate", f"{percent(s['hit_rate'])}  (engine's own counters: {percent(s['engine_hit_rate'])})"),
        ("tokens", f"{tokens['prompt']:,} prompt, {tokens['cached']:,} of them cached; {tokens['output']:,} output"),
        ("computed again", f"{space['recomputed_tokens']:,.0f} tokens"),
        ("KV space × time", uses),
        ("KV reserved", f"{percent(load['mean'])} of capacity on average, {percent(load['max'])} at most"),
    ]
    if s["workers"] > 1:
        apart = s["imbalance"]
        found.append(
            (
                "imbalance",
                f"{percent(apart['mean'])} of KV between {s['workers']} workers, {percent(apart['max'])} at most",
            )
        )
    return found


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
        *_driver(s["driver"]),
    ]


def _driver(driver: dict[str, float] | None) -> list[Row]:
    """Nothing for simulations, and for runs that were stored before drivers measured themselves."""
    if not driver:
        return []
    lag = f"lag {seconds(driver['lag_mean_s'])} mean, {seconds(driver['lag_p99_s'])} p99"
    cost = f"{driver['cpu_ms_per_call']:.2f} ms of CPU a call"
    return [("driver", f"{lag}; {cost}; the daemon answered in {seconds(driver['daemon_answer_p50_s'])} (median)")]


def _tool_time(s: dict[str, Any]) -> Row:
    text = f"{seconds(s['tool_s']['total'])} in all, {seconds(s['tool_s']['p50'])} median"
    return ("tool time", text if s["kind"] == "trace" else f"{text}, {s['tool_timeouts']} timed out")


def _environments(s: dict[str, Any]) -> list[Row]:
    disk = s["disk"]
    waiting = s.get("environment_wait_s")  # runs of an earlier version waited for all of it
    waited = f", of which agents waited {seconds(waiting['mean'])}" if waiting else ""
    kinds = ", ".join(f"{kind} {size(value)}" for kind, value in sorted(disk["peak_by_kind"].items()) if value)
    found = [
        ("environments", f"{s['environments']}, prepared in {seconds(s['prepare_s']['mean'])} on average{waited}"),
        (
            "environment disk",
            f"{size(disk['peak_bytes'])} peak ({kinds or 'nothing'}), {size(disk['now_bytes'])} now",
        ),
    ]
    computed = disk.get("without_collection_peak_bytes", 0)
    if computed > disk["peak_bytes"] > 0:
        times = computed / disk["peak_bytes"]
        found.append(("  without collection", f"{size(computed)} peak, {times:.1f}× as much (computed)"))
    return found


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


def title(s: dict[str, Any]) -> str:
    return f"{s['workload']} · profile {s['profile']} · policy {s['policy']} · run {s['run']}"


def notes(s: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What a reader has to know before any figure, and what makes the figures doubtful."""
    engine, lag, errors = engine_line(s), lag_line(s), s["errors"]
    plain = [f"{KIND_MEANS[s['kind']]}; tasks {s['tasks_are']}", *([engine] if engine else [])]
    warnings: list[str] = []
    if lag:
        (warnings if s["host_lag"] > LAG_THAT_SHOWS else plain).append(lag)
    if not s["complete"]:
        how = f" ({s['ended']})" if s["ended"] else ""
        warnings.append(f"this run did not end by itself{how}: figures cover what was stored")
    if s["sittings"] > 1:
        plain.append(f"resumed: done in {s['sittings']} sittings; the engines' own figures are of the last")
    if errors["limit"] is not None and errors["share"] > errors["limit"]:
        warnings.append(f"{errors['failed']} programs failed, more than the {percent(errors['limit'])} that it allows")
    return plain, warnings


def headline(s: dict[str, Any]) -> tuple[str, list[Row]]:
    """What a reader should take away: a sentence, and three figures with what they are."""
    agents, rate = s["agents"], s["throughput"]
    if not rate["steps"]:
        sentence = f"Run {s['run']} made no step: {_statuses(s) or 'no program ended'}."
    else:
        came = (
            f" {agents['resolved']} of {agents['asked']} {s['judged']}."
            if agents["resolved"] + agents["not_resolved"]
            else ""
        )
        sentence = (
            f"{behaviour(s)}: {agents['asked']} agents of "
            f"{s['workload']} made {rate['steps_per_min']:.0f} steps a minute under {s['policy']}, and "
            f"{percent(s['hit_rate'])} of their prompt tokens came from the cache.{came}"
        )
    third = (
        (f"{agents['resolved']} of {agents['asked']}", s["judged"])
        if agents["resolved"] + agents["not_resolved"]
        else (seconds(s["latency_s"]["p90"]), "step latency, 90% are below")
    )
    return sentence, [
        (f"{rate['steps_per_min']:.1f}", f"steps/min ({rate['steps']:,} in {seconds(s['window_s'])})"),
        (percent(s["hit_rate"]), "cache hit rate"),
        third,
    ]


def behaviour(s: dict[str, Any]) -> str:
    """What kind of run it was, in a word or two: who decided, and whether the engine was real."""
    return str(s["kind"]).capitalize() + (f", {s['engine']}" if s["engine"] in ("emulated", "simulated") else "")


def run_table(summary: dict[str, Any]) -> RenderableType:
    """The report of one run."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for number, section in enumerate(rows(summary)):
        for label, text in [*([("", "")] if number else []), *section]:
            table.add_row(Text(label), Text(text))
    plain, warnings = notes(summary)
    facts = [Text(title(summary), style="bold"), *(Text(line, style="dim") for line in plain)]
    return Group(*facts, *(Text(line, style="yellow") for line in warnings), Text(""), table)
