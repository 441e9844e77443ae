"""A trainer in this process takes groups while the next ones are being done; what it leaves is left in order."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Counting, counting
from thunderctl.errors import UsageError
from thunderctl.rollouts import Group, Rollouts, rollouts
from thunderctl.rollouts.files import GroupFiles
from thunderctl.runs.store import RunFolder

__all__ = ["counting"]


@pytest.fixture
def asked(counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:  # noqa: F811
    """Of short programs, on the node that is up."""
    monkeypatch.setenv("THUNDERCTL_HOME", str(counting.cli.home))
    file = tmp_path / "few.jsonl"
    programs = [
        {"id": f"p{n}", "first_prompt": 900 + n, "gap": "tool", "steps": [[20, 0, 40, 0]] * 2} for n in range(4)
    ]
    file.write_text("".join(json.dumps(program) + "\n" for program in programs))
    return {"workload": "trace", "trace": str(file), "samples_per_task": 2, "tasks": 3, "agents": 4}


async def test_a_trainer_takes_every_group_and_knows_its_tokens(asked: dict[str, Any], tmp_path: Path) -> None:
    taken: list[Group] = []
    async with Rollouts(**asked, out=tmp_path / "out") as r:
        async for group in r:
            taken.append(group)
        came = r.figures()
        assert await r.version() == 0 and r.waiting == 0
    assert sorted(group.name for group in taken) == ["g00000", "g00001", "g00002"]
    assert all(sum(segment.mask) for group in taken for sample in group.samples for segment in sample.segments)
    assert came["groups"]["complete"] == 3 and came["tokens"]["model"] > 0
    assert {group.name: group for group in GroupFiles(tmp_path / "out").read()} == {g.name: g for g in taken}
    said = RunFolder(r.folder).read("manifest.json")
    assert said["ended"] == "done" and (r.folder / "summary.json").is_file()


async def test_the_short_form_gives_the_same_groups(asked: dict[str, Any]) -> None:
    workload = asked.pop("workload")
    assert sorted([group.name async for group in rollouts(workload, **asked)]) == ["g00000", "g00001", "g00002"]


async def test_a_trainer_that_leaves_early_leaves_nothing_behind(asked: dict[str, Any], counting: Counting) -> None:  # noqa: F811
    asked |= {"tasks": 30}
    async with Rollouts(**asked) as r:
        async for _ in r:
            break
    assert RunFolder(r.folder).read("manifest.json")["ended"] == "interrupted"
    handle = r.client
    async with handle:
        assert await handle.programs() == {}
    workload = asked.pop("workload")
    async with contextlib.aclosing(rollouts(workload, **asked)) as groups:
        async for _ in groups:
            break


async def test_what_ends_the_roll_out_is_told_to_the_trainer(asked: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match="groups-jsonl"):
        async with Rollouts(**asked, out=tmp_path / "out") as r:
            (tmp_path / "out" / "groups-jsonl").write_text("in the way of the first group")
            async for _ in r:
                pass
    assert RunFolder(r.folder).read("manifest.json")["ended"] == "failed"


async def test_nonsense_is_refused_on_entering(asked: dict[str, Any], tmp_path: Path) -> None:
    for nonsense, said in (
        ({"tasks": 0}, "at least one"),
        ({"keep": "first:9"}, "9 of 2"),
        ({"sampling": {"temperature": 1.0}}, "live"),
        ({"trace": None}, "--trace"),
    ):
        with pytest.raises(UsageError, match=said):
            async with Rollouts(**{**asked, **nonsense}):
                pass
    with pytest.raises(UsageError, match="async with"):
        await anext(Rollouts(**asked))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "rollout.json").write_text("{}")
    with pytest.raises(UsageError, match="holds a roll-out already"):
        async with Rollouts(**asked, out=tmp_path / "out"):
            pass
