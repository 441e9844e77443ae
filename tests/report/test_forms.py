"""All forms of a report show the same figures, and the folder bears them out: of whole, empty, failed and cut runs."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.report.recompute import differences, recompute
from tests.report.runs import a_coding_manifest
from thunderctl.report import forms, run_page, tables
from thunderctl.report.stats import summarise
from thunderctl.runs.store import RunFolder

small = st.floats(0, 50, allow_nan=False).map(lambda value: round(value, 3))
tokens = st.integers(0, 5000)
text = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=12)
models = st.sampled_from(["small", "org/model-8B", "a|b", "<b>\\*x*"])


@st.composite
def steps(draw: st.DrawFn, agent: str) -> list[dict[str, Any]]:
    found, at = [], draw(small)
    for number in range(draw(st.integers(0, 4))):
        held, answer, tool = draw(small), draw(small), draw(small)
        prompt = draw(tokens)
        found.append({
            "agent": agent, "program": f"r/{agent}", "step": number + 1, "at": at, "latency_s": held + answer,
            "held_s": held, "tool_s": tool, "ended": at + held + answer + tool, "prompt_tokens": prompt,
            "cached_tokens": draw(st.integers(0, prompt)), "output_tokens": draw(tokens), "worker": "w0",
            "command": draw(st.sampled_from(["ls", None])), "timed_out": draw(st.booleans()), "content": draw(text),
        })  # fmt: skip
        at = found[-1]["ended"]
    return found


@st.composite
def rollouts(draw: st.DrawFn, agent: str, status: str) -> dict[str, Any]:
    return {
        "agent": agent, "program": f"r/{agent}", "instance_id": draw(st.sampled_from(["t1", "t2"])), "status": status,
        "error": draw(text) if status == "failed" else None, "started": draw(small), "ended": draw(small),
        "prepare_s": draw(small), "environment_wait_s": draw(small),
        "resolved": draw(st.sampled_from([True, False, None])), "drifted": draw(st.integers(0, 3)),
        "parts": draw(st.dictionaries(st.sampled_from(["tests", "score"]), st.booleans() | small)),
        "models": draw(st.dictionaries(models, st.fixed_dictionaries({
            "calls": tokens, "prompt_tokens": tokens, "output_tokens": tokens, "cost_usd": small,
            "answered": st.integers(0, 1),
        }), max_size=2)),
    }  # fmt: skip


@st.composite
def samples(draw: st.DrawFn) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    costs = {"decode": 0.0, "prefill": 0.0, "recompute": 0.0, "caching": 0.0, "recomputed_tokens": 0.0}
    hits = 0
    workers = draw(st.integers(1, 3))
    for n in range(draw(st.integers(0, 5))):
        for worker in range(workers):
            costs = {key: value + draw(small) for key, value in costs.items()}
            hits += draw(st.integers(0, 9))
            found.append({
                "n": len(found) + 1, "at": 2.0 * n, "worker": f"w{worker}", "capacity_tokens": 1000, "cost": costs,
                "engine": {"prefix_hits": hits, "prefix_queries": 2 * hits + n, "kv_usage": 0.5},
                "reasoning_tokens": draw(st.integers(0, 900)), "acting_tokens": draw(st.integers(0, 900)),
            })  # fmt: skip
    return found


def decisions(agents: list[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    if not agents:
        return st.just([])
    one = st.fixed_dictionaries({
        "effect": st.sampled_from(["Paused", "Restored", "Reject"]), "at": small,
        "program": st.sampled_from([f"r/{agent}" for agent in agents]), "worker": st.just("w0"),
        "reason": st.sampled_from(["first placement", "fits"]), "forced": st.booleans(), "moved": st.booleans(),
    })  # fmt: skip
    return st.lists(one, max_size=6).map(lambda found: sorted(found, key=lambda d: d["at"]))


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """A run that ended well, failed, was interrupted (agents without a last word, a torn line), or did nothing."""
    agents = [f"agent-{n:03d}" for n in range(draw(st.integers(0, 4)))]
    states = st.sampled_from(["submitted", "step limit", "failed", None])
    ended = {agent: draw(states) for agent in agents}
    return {
        "manifest": a_coding_manifest(max(1, len(agents)), kind=draw(st.sampled_from(["replay", "live"]))),
        "steps": [step for agent in agents for step in draw(steps(agent))],
        "rollouts": [draw(rollouts(agent, status)) for agent, status in ended.items() if status],
        "samples": draw(samples()),
        "decisions": draw(decisions(agents)),
        "disk": [{"at": 1.0 * n, "bytes_now": draw(tokens), "by_kind": {}} for n in range(draw(st.integers(0, 3)))],
        "torn": draw(st.booleans()),
        "profile": draw(st.booleans()),
    }


def stored(folder: Path, found: dict[str, Any]) -> RunFolder:
    run = RunFolder(folder)
    run.write("manifest.json", found["manifest"])
    if found["profile"]:
        run.write("profile.json", {"profile": {"runs": {"max_error_share": 0.2}, "model": {"source": "small"}}})
    for name in ("steps", "rollouts", "samples", "decisions", "disk"):
        for record in found[name]:
            run.append(name, record)
    run.close()
    if found["torn"]:
        with (folder / "steps.jsonl").open("a") as file:
            file.write('{"agent": "agent-000", "at": 9')
    return run


class Tables(HTMLParser):
    """The cells of every table of a page, and whether anything on it asks for something from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        """By id."""
        self.scripts = 0
        self._in_cell = False
        self._rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        if tag == "table":
            self._rows = self.tables.setdefault(dict(attrs).get("id") or "", [])
        if tag == "tr":
            self.rows.append([])
            self._rows.append(self.rows[-1])
        if tag in ("td", "th"):
            self._in_cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[-1][-1] += data


def markdown_rows(markdown: str) -> list[list[str]]:
    """The cells of every table, without the signs that keep text from being read as anything else."""
    found = []
    for line in markdown.splitlines():
        if line.startswith("| "):
            cells = line.replace("\\\\", "\0").replace("\\|", "\1")[2:-2].split(" | ")
            found.append([cell.replace("\\", "").replace("\0", "\\").replace("\1", "|") for cell in cells])
    return found


def agree(run: RunFolder) -> None:
    """Assert it of one run."""
    summary = summarise(run)
    assert differences(run.folder, summary) == []
    exact = dict(forms.flat(summary))
    from_csv = {name: value for name, value in csv.reader(io.StringIO(forms.as_csv(summary)))}
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert set(from_csv) - {"figure"} == set(exact)
    page = Tables()
    page.feed(run_page.page(run))
    on_page = dict(page.tables["table-every-figure-of-this-run"])
    in_markdown = dict(markdown_rows(forms.as_markdown(summary).partition("## Every figure")[2]))
    for path, value in exact.items():
        told = {"page": on_page[path], "markdown": in_markdown[" ".join(path.split())]}
        for form, said in told.items():
            expected = forms.shown(value)
            assert " ".join(said.split()) == " ".join(expected.split()), f"{path} in {form}"
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert float(from_csv[path]) == value
    for path, expected in recompute(run.folder).items():
        assert float(from_csv[".".join(path)]) == pytest.approx(expected, abs=1e-9)
    for group in tables.rows(summary):
        for label, said in group:
            assert [label, said] in page.tables["figures-table"]
    assert page.scripts == 3


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(records())
def test_every_form_of_a_report_agrees_with_the_others_and_with_the_folder(found: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        agree(stored(Path(folder), found))


def test_a_run_without_anything_but_its_manifest_has_a_report_in_every_form(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write("manifest.json", a_coding_manifest(4))
    agree(run)
    assert "made no step" in run_page.page(run)


def test_what_programs_wrote_is_text_in_every_form(tmp_path: Path) -> None:
    nasty = "</script><script>alert(1)</script> | `x` **b** <b>"
    run = RunFolder(tmp_path)
    run.write("manifest.json", a_coding_manifest(1, workload=nasty, argv=["thunderctl", "run", nasty]))
    run.append("rollouts", {"agent": nasty, "instance_id": nasty, "status": "failed", "error": nasty, "resolved": None})
    run.close()
    agree(run)
    assert nasty not in run_page.page(run)
    assert "<script>" not in forms.as_markdown(summarise(run))
