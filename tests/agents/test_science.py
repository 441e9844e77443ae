"""The science agent's loop and its judge, in real tool environments; the model's answers are given."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.environments.conftest import MakeManager, home, make_manager  # noqa: F401 (fixtures)
from thunderctl import paths
from thunderctl.agents.client import Answer, DaemonClient, Lease, ToolResult
from thunderctl.agents.desk import Desk
from thunderctl.agents.rollout import Rollout
from thunderctl.agents.science import ScienceAgent, actions_of
from thunderctl.environments.ahead import bring_base
from thunderctl.environments.manager import EnvironmentManager
from thunderctl.environments.spec import EnvironmentSpec
from thunderctl.profile import ToolEnvironmentSpec
from thunderctl.workload.files import RecordedObservation, RecordedStep, read_section
from thunderctl.workload.science import ScienceTask, ScienceWorkload, load_dataset, load_task

FOLDER = paths.bundled_workloads() / "scienceagent"
WORKLOAD = read_section(ScienceWorkload, FOLDER / "workload.yaml")
TASKS = [load_task(folder) for folder in sorted((FOLDER / "tasks").iterdir())]
PLAIN = WORKLOAD.model_copy(update={"environment": WORKLOAD.environment.model_copy(update={"image": None})})
"""The bundled workload without its packages, for tasks of these tests."""


class Daemon(DaemonClient):
    """A daemon's tool environments within this process; its model says what a replay forces it to say."""

    def __init__(self, manager: EnvironmentManager) -> None:
        super().__init__("http://127.0.0.1:1", model="none")
        self._manager = manager
        self.prompts: list[list[dict[str, Any]]] = []

    async def environment(self, program: str, run: str, **spec: Any) -> Lease:
        wait = spec.pop("wait", True)
        spec["setup"] = tuple(spec["setup"])
        lease = self._manager.announce(program, run, EnvironmentSpec(**spec))
        if wait:
            await self._manager.ready(lease.id)
        return Lease(lease.id, 0.0)

    async def execute(self, lease: Lease, command: str, timeout_s: float | None = None) -> ToolResult:
        done = await self._manager.execute(lease.id, command, timeout_s)
        return ToolResult(**dataclasses.asdict(done))

    async def put_files(self, lease: Lease, files: dict[str, bytes]) -> None:
        await self._manager.put_files(lease.id, files)

    async def release(self, program: str) -> None:
        await self._manager.release_program(program)

    async def chat(self, program: str, messages: list[dict[str, Any]], **how: Any) -> Answer:
        self.prompts.append([dict(message) for message in messages])
        return Answer(how["replay"], "stop", 1, 0, 1, 0.0, 0.0, "w0", 1)


def agent_on(daemon: Daemon, task: ScienceTask, workload: ScienceWorkload = PLAIN) -> tuple[ScienceAgent, Rollout]:
    rollout = Rollout("a0", f"r.{task.instance_id}", task.instance_id, "replay")
    desk = Desk(client=daemon, run="r", clock=lambda: 0.0, noted=lambda ending, step: None)
    return ScienceAgent(desk, workload, task, rollout), rollout


async def judged(daemon: Daemon, task: ScienceTask, program: str, workload: ScienceWorkload = PLAIN) -> Rollout:
    agent, rollout = agent_on(daemon, task, workload)
    rollout.status, rollout.submission = "submitted", program
    await agent.judge()
    assert rollout.error is None
    return rollout


@pytest.fixture
def doubling(tmp_path: Path) -> ScienceTask:
    """A task that needs no packages: write the double of data/number.txt to results/double.txt."""
    folder = tmp_path / "doubling"
    (folder / "files" / "data").mkdir(parents=True)
    (folder / "files" / "data" / "number.txt").write_text("21\n")
    (folder / "hidden").mkdir()
    (folder / "hidden" / "check.py").write_text(
        "import json\nsaid = int(open('results/double.txt').read())\n"
        "print(json.dumps({'even': said % 2 == 0, 'double': said == 42}))\n"
    )
    meta = {"instance_id": "doubling", "title": "t", "domain": "d", "difficulty": "easy"}
    meta |= {"task_inst": "Double it.", "domain_knowledge": "none", "output_fname": "results/double.txt"}
    (folder / "task.yaml").write_text(json.dumps(meta))
    return load_task(folder)


def program(result: str) -> str:
    write = f"pathlib.Path('results/double.txt').write_text(str({result}))"
    return (
        f"import os, pathlib\nos.makedirs('results', exist_ok=True)\nn = int(open('data/number.txt').read())\n{write}\n"
    )


def test_an_answer_is_searched_for_programs_commands_and_the_submission() -> None:
    (action,) = actions_of("I try:\n\n```python\nprint('``')\n```\n")
    assert action.tool == "program" and action.command.endswith("python3 program.py")
    assert [a.tool for a in actions_of("```bash\nls\n```\n```bash\nsubmit\n```")] == ["bash", "submit"]
    assert actions_of("```json\n{}\n```") == []


async def test_a_program_is_saved_as_it_was_written(make_manager: MakeManager) -> None:  # noqa: F811
    text = "print('''END_OF_PROGRAM\n$HOME `ls` \\n''')"
    manager = await make_manager()
    lease = await manager.request("p", "r", EnvironmentSpec())
    (action,) = actions_of(f"```python\n{text}\n```")
    assert (await manager.execute(lease.id, action.command)).output == "END_OF_PROGRAM\n$HOME `ls` \n\n"
    assert (await manager.execute(lease.id, "cat program.py")).output == text + "\n"


async def test_an_agent_repairs_its_program_submits_it_and_is_judged(
    make_manager: MakeManager,  # noqa: F811
    doubling: ScienceTask,
) -> None:
    said = [
        ("```bash\nsubmit\n```", 1),  # nothing to hand in yet
        ("no action", None),
        ("```python\nprint(1 / 0)\n```", 1),
        (f"```python\n{program('2 * m')}```", 1),
        ("```bash\nsed -i 's/2 [*] m/2 * n/' program.py && python3 program.py\n```", 7),  # was 7 when recorded
        ("```bash\nsubmit\n```", None),
    ]
    steps = [
        RecordedStep(content=text, observation=None if code is None else RecordedObservation(returncode=code))
        for text, code in said
    ]
    daemon = Daemon(await make_manager())
    agent, rollout = agent_on(daemon, dataclasses.replace(doubling, trajectory=steps))
    await agent.run()
    assert (rollout.status, rollout.steps, rollout.drifted, rollout.error) == ("submitted", 6, 1, None)
    assert rollout.submission == program("2 * n")
    seen = [message["content"] for message in daemon.prompts[-1][1:] if message["role"] == "user"]
    assert "Double it." in seen[0] and "number.txt (3 bytes)" in seen[0] and "{{" not in seen[0]
    for text, told in zip(seen[1:], ["no program.py", "0 actions", "ZeroDivisionError", "NameError"], strict=False):
        assert told in text
    await agent.judge()
    assert rollout.resolved is True
    assert rollout.parts == {"valid_program": True, "success": True, "even": True, "double": True}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", {"valid_program": False, "success": False}),
        ("raise SystemExit(3)", {"valid_program": False, "success": False}),
        ("print(42)", {"valid_program": False, "success": False}),
        (program("4"), {"valid_program": True, "success": False, "even": True, "double": False}),
        (program("'forty'"), {"valid_program": True, "success": False}),
        # What a program leaves beside its result does not stand in for the check's libraries.
        (program("4") + "open('json.py', 'w').write('dumps = lambda checks: \\'{\"double\": true}\\'')",
         {"valid_program": True, "success": False, "even": True, "double": False}),
        (program("4") + "os.makedirs('.judge'); open('.judge/check.py', 'w').write('print(\\'{\"double\": true}\\')')",
         {"valid_program": True, "success": False, "even": True, "double": False}),
    ],
    ids=["nothing", "fails", "no result", "wrong", "not a number", "plants a module", "plants a check"],
)  # fmt: skip
async def test_a_program_that_is_not_right_is_told_apart_from_one_that_is_not_valid(
    text: str,
    parts: dict[str, bool],
    make_manager: MakeManager,  # noqa: F811
    doubling: ScienceTask,
) -> None:
    rollout = await judged(Daemon(await make_manager()), doubling, text)
    assert (rollout.resolved, rollout.parts) == (False, parts)


async def test_a_row_of_the_benchmark_finds_its_data_and_its_evaluation_script_the_result(
    make_manager: MakeManager,  # noqa: F811
    tmp_path: Path,
) -> None:
    root = tmp_path / "benchmark"
    (root / "datasets" / "numbers" / "deep").mkdir(parents=True)
    (root / "datasets" / "numbers" / "deep" / "n.txt").write_text("21")
    (root / "eval_programs" / "gold_results").mkdir(parents=True)
    (root / "eval_programs" / "gold_results" / "double_gold.txt").write_text("42")
    (root / "eval_programs" / "double_eval.py").write_text(
        "def eval():\n    gold = open('benchmark/eval_programs/gold_results/double_gold.txt').read()\n"
        "    return int(open('pred_results/double.txt').read() == gold), 'log'\n"
    )
    row = {
        "instance_id": 1,
        "task_inst": "t",
        "dataset_folder_tree": "|-- numbers/",
        "eval_script_name": "double_eval.py",
    }
    (tmp_path / "sheet.jsonl").write_text(json.dumps(row | {"output_fname": "pred_results/double.txt"}) + "\n")
    (task,) = load_dataset(tmp_path)
    daemon = Daemon(await make_manager())
    text = "n = int(open('benchmark/datasets/numbers/deep/n.txt').read())\n"
    text += "open('pred_results/double.txt', 'w').write(str({}))"
    right, wrong = await judged(daemon, task, text.format("2 * n")), await judged(daemon, task, text.format("n"))
    assert (right.resolved, right.parts) == (True, {"valid_program": True, "success": True, "evaluation": True})
    assert (wrong.resolved, wrong.parts["valid_program"]) == (False, True)


async def validate(manager: EnvironmentManager, tasks: list[ScienceTask]) -> None:
    """Their gold programs pass every check; nothing, and a program that does nothing, pass none."""
    turns = asyncio.Semaphore(2)

    async def one(task: ScienceTask) -> None:
        assert task.gold is not None
        async with turns:
            gold = await judged(Daemon(manager), task, task.gold.read_text(), WORKLOAD)
            idle = await judged(Daemon(manager), task, "import numpy, pandas", WORKLOAD)
        assert gold.resolved is True and all(gold.parts.values()), (task.instance_id, gold.parts)
        assert idle.resolved is False and not any(idle.parts.values()), task.instance_id

    async with asyncio.TaskGroup() as group:
        for task in tasks:
            group.create_task(one(task))


@pytest.mark.docker
async def test_every_gold_program_passes_and_the_untouched_task_fails_in_docker(
    make_manager: MakeManager,  # noqa: F811
) -> None:
    settings = ToolEnvironmentSpec(backend="docker")
    bring_base(WORKLOAD.environment.image, settings, print)
    await validate(await make_manager(backend="docker"), TASKS)


@pytest.mark.engine
async def test_gold_programs_pass_and_untouched_tasks_fail_in_local_folders(make_manager: MakeManager) -> None:  # noqa: F811
    bring_base(WORKLOAD.environment.image, ToolEnvironmentSpec(backend="local"), print)
    await validate(await make_manager(), TASKS[::4])
