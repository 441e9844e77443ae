"""``rollout``: groups in files, over kills too; and what cannot be is said before anything starts."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.cli.conftest import Counting
from tests.commandline import LOCAL, CommandLine, until
from thunderctl.cli.main import app
from thunderctl.cli.rollout import table
from thunderctl.errors import UsageError
from thunderctl.rollouts.check import check
from thunderctl.rollouts.files import GroupFiles

STEPS = 3


def a_trace(folder: Path) -> str:
    """Programs of a few steps, with tools that take no time."""
    file = folder / "few.jsonl"
    programs = [
        {"id": f"p{n}", "first_prompt": 900 + n, "gap": "tool", "steps": [[20, 0, 40, 0]] * STEPS} for n in range(5)
    ]
    file.write_text("".join(json.dumps(program) + "\n" for program in programs))
    return str(file)


def asked(folder: Path, groups: int, *more: str) -> list[str]:
    size = ["--samples-per-task", "2", "--tasks", str(groups), "--agents", "4"]
    return ["rollout", "trace", "--trace", a_trace(folder), *size, "--out", str(folder / "out"), *more]


@pytest.fixture(scope="module")
def came(counting: Counting, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a roll-out with over-sampling says of itself."""
    folder = tmp_path_factory.mktemp("came")
    found: dict[str, Any] = counting.cli.json(*asked(folder, 3, "--keep", "first:1", "--progress", "quiet"))
    return found


def test_groups_are_written_and_the_figures_say_what_they_are(came: dict[str, Any]) -> None:
    assert came["kind"] == "trace" and came["engine"] == "external"
    assert came["groups"] == {"asked": 3, "complete": 3, "timed_out": 0, "mixed": 0}
    assert came["samples"]["by_status"] == {"finished": 3} and came["samples"]["dropped"] <= 3
    assert came["rewards"] == {"judged": 0, "mean": None, "nothing_to_judge": 3}
    assert came["blocking_s"]["worst"] >= came["blocking_s"]["mean"] >= 0
    groups = list(GroupFiles(Path(came["out"])).read())
    assert came["tokens"]["model"] == 20 * sum(sample.steps for group in groups for sample in group.samples)
    assert came["tokens"]["model_per_s"] > 0 and came["steps_per_min"] > 0 and came["hit_rate"] > 0
    assert check(Path(came["out"])).violations == []
    lines = [json.loads(line) for line in (Path(came["folder"]) / "groups.jsonl").read_text().splitlines()]
    assert sorted(line["group"] for line in lines) == [group.name for group in sorted(groups, key=lambda g: g.name)]


def test_a_person_is_shown_the_same_figures(came: dict[str, Any]) -> None:
    console = Console(width=200, record=True, file=StringIO())
    console.print(table(came, came["run"]))
    shown = console.export_text()
    for words in ("3 of 3 complete", "3 kept (3 finished)", "not judged", "versions on average", "at worst", "trace"):
        assert words in shown, words


def test_a_roll_outs_run_is_reported_and_not_resumed_as_a_run(counting: Counting, came: dict[str, Any]) -> None:
    name = Path(came["folder"]).name
    assert counting.cli.json("report", name)["throughput"] == came["run"]["throughput"]
    done = counting.cli.run("run", "--resume", name)
    assert done.returncode == 2 and "rollout run --resume" in done.stderr


def survives(counting: Counting, folder: Path, groups: int, kills: int, seed: int) -> None:
    """Kill a roll-out at seeded moments, resume it each time, and look at what is there in the end."""
    dice = random.Random(seed)  # noqa: S311 - moments of a test
    out, files = folder / "out", GroupFiles(folder / "out")
    runs = counting.cli.home / "runs"
    before = set(runs.glob("*"))
    line, whole, killed = asked(folder, groups, "--progress", "quiet"), dict[tuple[str, str], bytes](), 0
    while killed < kills:
        process = counting.cli.start(*line)
        steps = dice.randrange(1, 5 * STEPS)
        until(lambda: bool(set(runs.glob("*")) - before) and (out / "rollout.json").exists(), 60)
        (run,) = set(runs.glob("*")) - before
        made = (run / "steps.jsonl").stat().st_size if (run / "steps.jsonl").exists() else 0

        give_up = time.monotonic() + 60
        while process.poll() is None and lines_after(run / "steps.jsonl", made) < steps:
            assert time.monotonic() < give_up
            time.sleep(0.02)
        time.sleep(dice.uniform(0, 0.25))
        assert process.poll() is None, f"it was to be killed, and ended: {process.communicate()}"
        process.kill()
        process.communicate()
        killed += 1
        now = {(e.name, form): path.read_bytes() for e in files.entries() for form, path in e.files.items()}
        assert files.torn() == [] and whole.items() <= now.items(), "what was whole stays as it was"
        whole = now
        line = ["rollout", "run", "--resume", str(out), "--progress", "quiet"]
    came = counting.cli.json(*line)
    groups_there = list(files.read())
    assert sorted(group.name for group in groups_there) == [f"g{n:05d}" for n in range(groups)], "none lost, none twice"
    samples = Counter((s.group, s.index) for group in groups_there for s in group.samples)
    assert set(samples.values()) == {1} and len(samples) == 2 * groups
    assert len({s.program for group in groups_there for s in group.samples}) == 2 * groups
    assert check(out).violations == [] and not list(out.rglob("*.writing"))
    assert came["groups"]["complete"] == groups and came["run"]["sittings"] == kills + 1
    assert came["run"]["throughput"]["steps"] == sum(s.steps for group in groups_there for s in group.samples)


def lines_after(path: Path, size: int) -> int:
    if not path.exists():
        return 0
    data = path.read_bytes()
    return data[size if size <= len(data) else 0 :].count(b"\n")


def test_a_roll_out_that_is_killed_loses_nothing_and_does_nothing_twice(counting: Counting, tmp_path: Path) -> None:
    survives(counting, tmp_path, groups=12, kills=2, seed=8)
    again = counting.cli.run("rollout", "run", "--resume", str(tmp_path / "out"))
    assert again.returncode == 2 and "complete" in again.stderr
    anew = counting.cli.run(*asked(tmp_path, 12))
    assert anew.returncode == 2 and "--resume" in anew.stderr


@pytest.mark.slow
def test_a_roll_out_survives_twenty_kills(counting: Counting, tmp_path: Path) -> None:
    survives(counting, tmp_path, groups=100, kills=20, seed=20)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--out", "{new}", "--tasks", "0"], "--tasks"),
        (["--out", "{new}", "--samples-per-task", "0"], "samples"),
        (["--out", "{new}", "--samples-per-task", "4", "--keep", "first:5"], "5 of 4"),
        (["--out", "{new}", "--keep", "6"], "first:K"),
        (["--out", "{new}", "--group-timeout", "0"], "time-out"),
        (["--out", "{new}", "--temperature", "0.5"], "live"),
        (["--out", "{full}"], "not empty"),
        ([], "--out"),
        (["--out", "{new}", "--resume", "{full}"], "leave WORKLOAD out"),
    ],
)
def test_nonsense_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], said: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path / "home"))
    places = {"new": str(tmp_path / "new"), "full": str(tmp_path / "full")}
    words = ["rollout", "swebench", "-p", "laptop", *(word.format(**places) for word in more)]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, UsageError), done.output
    assert said in f"{done.exception.message} {done.exception.hint}"
    assert not (tmp_path / "new").exists() and not list((tmp_path / "home").glob("runs/*"))


def test_a_folder_without_a_roll_out_cannot_be_gone_on_with(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["rollout", "run", "--resume", str(tmp_path)])
    assert isinstance(done.exception, UsageError) and "holds no roll-out" in done.exception.message


def test_the_first_word_may_be_the_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    short, long = (CliRunner().invoke(app, ["rollout", *words, "--help"]).stdout for words in (["swebench"], ["run"]))
    assert "--samples-per-task" in short and short == long
    assert "check" in CliRunner().invoke(app, ["rollout", "--help"]).stdout


@pytest.mark.engine
def test_bundled_tasks_become_groups_that_hold_every_promise(tmp_path: Path) -> None:
    """Real engine, real tools: two samples of two tasks; rewards judged once more from the stored patches agree."""
    import pandas
    import pyarrow.parquet

    cli, out = CommandLine(tmp_path / "home"), tmp_path / "out"
    size = ["--samples-per-task", "2", "--tasks", "2", "--agents", "4"]
    came = cli.json("rollout", "swebench", "-p", "laptop", *LOCAL, *size, "--out", str(out), "--progress", "quiet")
    assert came["samples"]["by_status"] == {"submitted": 4} and came["rewards"]["judged"] == 4
    assert came["tokens"]["with_logprobs"] == came["tokens"]["model"] > 0
    files = sorted((out / "groups").glob("*.parquet"))
    rows: dict[str, list[dict[str, Any]]] = {str(file): pyarrow.parquet.read_table(file).to_pylist() for file in files}
    assert len(rows) == 2
    for file, found in rows.items():
        frame = pandas.read_parquet(file)
        assert len(frame) == len(found) and set(frame["task"]) == {found[0]["task"]}
        for row in found:
            assert len(row["ids"]) == len(row["mask"]) == len(row["versions"]) == len(row["logprobs"]) > 0
            assert sum(row["mask"]) == sum(turn["end"] - turn["start"] for turn in row["turns"])
    checked = cli.json("rollout", "check", str(out), "--rewards", "--backend", "local")
    assert checked["ok"] is True and checked["violations"] == []
    assert cli.nothing_runs()
