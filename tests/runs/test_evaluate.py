"""The official evaluation judges a run's patches, and the run keeps what it said."""

from __future__ import annotations

import difflib
import io
import json
import sys
import tarfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.official import swebench_python
from thunderctl.environments.docker import connect
from thunderctl.environments.images import BASE, Images
from thunderctl.errors import PreflightError, ThunderError, UsageError
from thunderctl.runs.evaluate import Harness, evaluate, find_harness, rows_of
from thunderctl.runs.store import RunFolder

IMAGE = "thunderctl-test/evaluated:1"
SOURCE = "def double(x):\n    return x\n"
TESTS = (
    "import unittest\nfrom a import double\n\n\nclass TestA(unittest.TestCase):\n"
    "    def test_double(self):\n        self.assertEqual(double(3), 6)\n\n"
    "    def test_zero(self):\n        self.assertEqual(double(0), 0)\n"
)
SCRIPT = """\
#!/bin/bash
set -uxo pipefail
cd /testbed
: '>>>>> Start Test Output'
python3 -m unittest -v test_a
: '>>>>> End Test Output'
"""
ROW = {
    "instance_id": "mine__double-1",
    "repo": "mine/double",
    "version": "1",
    "problem_statement": "double(3) is 3.",
    "image_name": IMAGE,
    "FAIL_TO_PASS": '["test_double (test_a.TestA.test_double)"]',
    "PASS_TO_PASS": ["test_zero (test_a.TestA.test_zero)"],
    "eval_script": SCRIPT,
    "log_parser": "parse_log_django",
    "eval_type": "pass_and_fail",
}
FIVE = Harness(Path(sys.executable), "5.0.2")


def patch(line: str) -> str:
    """Makes the function's body ``line``."""
    after = SOURCE.replace("return x", line)
    lines = difflib.unified_diff(SOURCE.splitlines(True), after.splitlines(True), "a/a.py", "b/a.py")
    return "diff --git a/a.py b/a.py\n" + "".join(lines)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path / "home"))


def stored(rows: Path | None, *agents: tuple[str, str, str]) -> RunFolder:
    """A run whose ``agents`` (name, instance, patch) submitted."""
    run = RunFolder.create("a-run")
    asked = {} if rows is None else {"asked": {"dataset": str(rows)}, "dataset": rows.name}
    run.write("manifest.json", {"schema": 1, "kind": "live", **asked})
    predictions: dict[str, dict[str, str]] = {}
    for agent, name, text in agents:
        record = {"agent": agent, "instance_id": name, "status": "submitted", "submission": text, "resolved": None}
        run.append("rollouts", record)
        predictions.setdefault(
            name, {"model_name_or_path": "thunderctl-live", "instance_id": name, "model_patch": text}
        )
    run.write("preds.json", predictions)
    return run


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def named(name: str, **change: Any) -> dict[str, Any]:
    return {**ROW, "instance_id": name, **change}


@pytest.fixture
def image() -> Iterator[None]:
    engine = connect()
    Images(engine).ensure(BASE)
    commit = "git init -q && git add -A && git -c user.name=a -c user.email=a@localhost commit -qm before"
    files = {
        "Dockerfile": f"FROM {BASE}\nCOPY a.py test_a.py /testbed/\nRUN cd /testbed && {commit}\n",
        "a.py": SOURCE,
        "test_a.py": TESTS,
    }
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, text in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(text)
            tar.addfile(about, io.BytesIO(text.encode()))
    context.seek(0)
    engine.images.build(fileobj=context, custom_context=True, tag=IMAGE, rm=True, forcerm=True)
    yield
    engine.images.remove(IMAGE, force=True)
    engine.close()


@pytest.mark.docker
@pytest.mark.usefixtures("image")
def test_patches_are_judged_by_swebench_in_images_built_here_and_the_run_keeps_its_verdict(
    tmp_path: Path,
) -> None:
    right, wrong = patch("return 2 * x"), patch("return x + 1")
    rows = written(
        tmp_path,
        named("mine__right-1"),
        named("mine__wrong-2"),
        {key: value for key, value in named("mine__bare-3").items() if key != "eval_script"},
        named("mine__gone-4", image_name="127.0.0.1:9/nobody/nothing:1"),
        {"instance_id": "mine__broken-5"},
    )
    run = stored(
        rows,
        ("agent-0", "mine__right-1", right),
        ("agent-1", "mine__wrong-2", wrong),
        ("agent-2", "mine__bare-3", right),
        ("agent-3", "mine__gone-4", right),
        ("agent-4", "mine__right-1", wrong),  # preds.json has the first one's
    )
    harness = find_harness(swebench_python())
    found = evaluate(run, harness, dataset=None, workers=2, timeout_s=120, progress=print)
    assert (found.resolved, found.unresolved) == (["mine__right-1"], ["mine__wrong-2"])
    assert set(found.not_evaluated) == {"mine__bare-3", "mine__gone-4"}
    assert "wants the columns eval_script" in found.not_evaluated["mine__bare-3"]
    latest = {record["agent"]: record for record in run.lines("rollouts")}
    assert [latest[f"agent-{n}"]["resolved"] for n in range(5)] == [True, False, None, None, None]
    assert latest["agent-0"]["judged_by"] == harness.name
    said = run.read("manifest.json")["evaluation"]
    assert (said["by"], said["resolved"], said["unresolved"]) == (harness.name, 1, 1)
    engine = connect()
    assert engine.containers.list(all=True, filters={"name": run.id}) == []
    engine.close()


@pytest.mark.docker
def test_a_harness_that_fails_is_told_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stored(written(tmp_path, named("mine__right-1")), ("agent-0", "mine__right-1", patch("return 2 * x")))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(ThunderError, match="ended with 1 and no report") as caught:
        evaluate(run, find_harness(swebench_python()), dataset=None, workers=1, timeout_s=60, progress=print)
    assert any("docker" in line.lower() for line in caught.value.details)
    assert "evaluation" not in run.read("manifest.json")


def test_without_swebench_it_says_what_to_install(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    with pytest.raises(PreflightError, match="does not have") as caught:
        find_harness(tmp_path / "bare" / "bin" / "python")
    assert "pip install 'thunderctl[swebench]'" in (caught.value.hint or "")
    with pytest.raises(PreflightError, match="cannot be run"):
        find_harness(tmp_path / "none")


def test_what_has_no_rows_or_no_patches_cannot_be_evaluated(tmp_path: Path) -> None:
    bundled = stored(None, ("agent-0", "x", "diff"))
    with pytest.raises(UsageError, match="worked on bundled tasks"):
        evaluate(bundled, FIVE, dataset=None, workers=1, timeout_s=1, progress=print)
    bundled.write("preds.json", {})
    with pytest.raises(UsageError, match="nothing to evaluate"):
        evaluate(bundled, FIVE, dataset=None, workers=1, timeout_s=1, progress=print)
    (bundled.folder / "preds.json").unlink()
    with pytest.raises(UsageError, match="has no patches"):
        evaluate(bundled, FIVE, dataset=None, workers=1, timeout_s=1, progress=print)


def test_rows_go_with_the_image_that_the_agents_had_and_a_patch_without_a_row_is_told(tmp_path: Path) -> None:
    plain = {key: value for key, value in named("django__django-1").items() if key != "image_name"}
    rows = written(tmp_path, plain)
    run = stored(rows, ("agent-0", "django__django-1", "diff"), ("agent-1", "other__other-2", "diff"))
    found, left_out = rows_of(run, None, FIVE, run.read("preds.json"))
    assert [row["image"] for row in found] == ["swebench/sweb.eval.x86_64.django_1776_django-1:latest"]
    assert left_out == {"other__other-2": f"{rows} has no such row"}
    older = written(tmp_path, {k: v for k, v in plain.items() if k not in ("eval_script", "log_parser", "eval_type")})
    assert rows_of(run, str(older), Harness(FIVE.python, "4.1.0"), run.read("preds.json"))[0]
