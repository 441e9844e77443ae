"""``report.html`` of one run: the headline, every figure, the plots, the programs, and how to repeat it."""

from __future__ import annotations

import json
import shlex
from html import escape
from typing import Any

from thunderctl.report import figures, series, tables
from thunderctl.report.forms import flat, shown
from thunderctl.report.page import document, searchable, section, table, tiles, told
from thunderctl.report.stats import Loaded, RunRecords, last_words, summarise
from thunderctl.report.work import profile_of
from thunderctl.runs.store import RunFolder, write_whole

PROGRAMS = ("program", "task", "status", "steps", "began, s", "took, s", "waited, s", "paused, s", "prompt tokens",
            "hit rate", "outcome", "error")  # fmt: skip


def write_page(run: RunFolder, summary: dict[str, Any] | None = None) -> None:
    """``report.html`` into the run's folder."""
    write_whole(run.folder / "report.html", page(run, summary))


def page(run: RunRecords, summary: dict[str, Any] | None = None) -> str:
    """The page as HTML. ``summary``: what ``summarise`` made of this run, if that was done."""
    loaded = Loaded(run)
    summary = summary or summarise(loaded)
    programs = series.programs(loaded)
    sentence, big = tables.headline(summary)
    plain, warnings = tables.notes(summary)
    before = (
        "".join(f'<p class="warn" role="note">{escape(line)}</p>' for line in warnings)
        + "".join(f"<p>{escape(line)}</p>" for line in plain)
        + section("figures-in-words", "Figures", told(tables.rows(summary), "figures-table"))
    )
    after = (
        _errors(loaded, summary)
        + section("all-programs", "Programs", searchable(PROGRAMS, _programs(loaded, programs), "Programs"), "long")
        + section("every-figure", "Every figure", _every_figure(summary), "long")
        + section("repeat", "Repeat it", _repeat(loaded, summary), "long")
    )
    return document(
        sentence=sentence,
        title=tables.title(summary),
        drawn=figures.of_run(loaded, programs),
        big=tiles(big),
        before=before,
        after=after,
    )


def _programs(run: RunRecords, programs: list[series.Program]) -> list[list[str]]:
    last = {series.name_of(r): r for r in last_words(run.lines("rollouts"))}
    prompt: dict[str, int] = {}
    cached: dict[str, int] = {}
    for step in run.lines("steps"):
        name = series.name_of(step)
        prompt[name] = prompt.get(name, 0) + step["prompt_tokens"]
        cached[name] = cached.get(name, 0) + step["cached_tokens"]
    found = []
    for p in programs:
        rollout, tokens = last.get(p.name, {}), prompt.get(p.name, 0)
        outcome = {True: "yes", False: "no"}.get(rollout.get("resolved"), "")  # type: ignore[arg-type]
        waited = sum(end - begin for begin, end in p.waiting)
        found.append([
            p.name, p.task, p.status, str(p.steps), f"{p.began:.1f}", f"{p.ended - p.began:.1f}", f"{waited:.1f}",
            f"{p.paused_s:.1f}", f"{tokens:,}", f"{cached.get(p.name, 0) / tokens:.3f}" if tokens else "", outcome,
            str(rollout.get("error") or "")[:300],
        ])  # fmt: skip
    return found


def _errors(run: RunRecords, summary: dict[str, Any]) -> str:
    """Failed programs by reason, calls that were refused, tools that took too long; nothing if all went well."""
    found = [[f"{count}", message] for message, count in summary["errors"]["messages"].items()]
    refused: dict[str, int] = {}
    for decision in run.lines("decisions"):
        if decision["effect"] == "Reject":
            reason = f"call refused: {decision.get('reason', '')}"
            refused[reason] = refused.get(reason, 0) + 1
    found += [[str(count), reason] for reason, count in refused.items()]
    if summary["tool_timeouts"]:
        found.append([str(summary["tool_timeouts"]), "commands ran out of time"])
    inside = table(("how many", "what"), found, "Errors", "words") if found else "<p>None.</p>"
    return section("errors", "Errors", inside)


def _every_figure(summary: dict[str, Any]) -> str:
    rows = [(path, shown(value)) for path, value in flat(summary)]
    inside = table(("figure", "value"), rows, "Every figure of this run", "words")
    return f"<p>As in the md, json and csv forms; thunderctl/report/stats.py defines them.</p>{inside}"


def _repeat(run: RunRecords, summary: dict[str, Any]) -> str:
    """The command, the versions, and the manifest and profile as they were stored."""
    manifest, profile = run.read("manifest.json"), profile_of(run)
    argv = manifest.get("argv")
    command = shlex.join(argv) if argv else "not stored: this run was not made by a command of its own"
    host = manifest.get("host", {})
    facts = [
        ("thunderctl", str(manifest.get("thunderctl", "not stored"))),
        ("Python", str(manifest.get("python", "not stored"))),
        ("machine", ", ".join(f"{key} {value}" for key, value in host.items()) or "not stored"),
        ("engine", summary["engine"]),
        ("model", str(summary["model"] or "not stored")),
        ("profile", f"{summary['profile']} (digest {manifest.get('profile_digest', 'not stored')})"),
    ]
    whole = f"<details><summary>Manifest</summary><pre>{_json(manifest)}</pre></details>"
    if profile:
        whole += f"<details><summary>Profile, resolved</summary><pre>{_json(profile)}</pre></details>"
    return f"<pre>{escape(command)}</pre>{told([facts])}{whole}"


def _json(value: Any) -> str:
    return escape(json.dumps(value, indent=1, ensure_ascii=False))
