"""Judges a science agent's program: run over the untouched data, then its result checked, both in an environment.

Two figures are told apart, as in ScienceAgentBench: a *valid program* ends without an error and leaves its result file;
*success* means that every check of that file holds.
"""

from __future__ import annotations

import json
import shlex

from thunderctl.agents.client import DaemonClient, Lease
from thunderctl.workload.science import CHECK, ScienceTask

PROGRAM = "program.py"
JUDGE = ".judge"
"""Where a bundled task's check lies, once the program has run."""
EVALUATIONS = "benchmark/eval_programs"
"""Where the scripts of ScienceAgentBench expect to lie, and their programs the data: paths are part of its rows."""

_EVALUATE = """\
import importlib, json, sys
sys.path.insert(0, ".")
success, _ = importlib.import_module(sys.argv[1]).eval()
print()
print(json.dumps({"evaluation": bool(success)}))
"""
"""Runs an evaluation script of the benchmark: ``eval()`` returns a truth value and a text."""


def arrange(task: ScienceTask) -> list[str]:
    """Set-up commands that bring a row's data to where its program looks for them; none for a bundled task."""
    if not task.dataset:
        return []
    folder = shlex.quote(f"benchmark/datasets/{task.dataset}")
    kept = "! -name benchmark ! -name pred_results ! -name .git"
    return [
        f"mkdir -p {folder} pred_results {EVALUATIONS} && touch benchmark/__init__.py {EVALUATIONS}/__init__.py "
        f"&& find . -mindepth 1 -maxdepth 1 {kept} -exec mv -t {folder} {{}} +"
    ]


async def judge_program(
    client: DaemonClient, lease: Lease, task: ScienceTask, program: str, seconds: float
) -> tuple[bool, dict[str, bool | float]]:
    """Whether the program succeeds, and what that is made of. ``seconds``: longest run of it, and of its check."""
    parts: dict[str, bool | float] = {"valid_program": False, "success": False}
    if not program.strip():
        return False, parts
    await client.put_files(lease, {PROGRAM: program.encode()})
    ran = await client.execute(lease, f"python3 {PROGRAM}", timeout_s=seconds)
    left = await client.execute(lease, f"test -s {shlex.quote(task.output_fname)}")
    parts["valid_program"] = ran.returncode == 0 and not ran.timed_out and left.returncode == 0
    if not parts["valid_program"]:
        return False, parts
    # The check arrives only now: a program cannot read it.
    await client.put_files(lease, _check_files(task))
    checked = await client.execute(lease, _check_command(task), timeout_s=seconds)
    checks = _checks(checked.output) if checked.returncode == 0 else {}
    success = bool(checks) and all(checks.values())
    return success, {**parts, "success": success, **checks}


def _check_files(task: ScienceTask) -> dict[str, bytes]:
    if task.hidden is not None:
        files = sorted(path for path in task.hidden.rglob("*") if path.is_file())
        return {f"{JUDGE}/{path.relative_to(task.hidden)}": path.read_bytes() for path in files}
    assert task.evaluation is not None  # noqa: S101 (else it is not judged)
    folder = task.evaluation.parent
    files = [task.evaluation, *task.evaluation_files]
    return {
        f"{JUDGE}/evaluate.py": _EVALUATE.encode(),
        **{f"{EVALUATIONS}/{path.relative_to(folder)}": path.read_bytes() for path in files},
    }


def _check_command(task: ScienceTask) -> str:
    if task.evaluation is not None:
        return f"python3 {JUDGE}/evaluate.py {shlex.quote(f'benchmark.eval_programs.{task.evaluation.stem}')}"
    # A module that the program left beside its result is not imported in place of the library of that name.
    return f"PYTHONSAFEPATH=1 python3 {JUDGE}/{CHECK}"


def _checks(output: str) -> dict[str, bool]:
    """What a check printed in its last line; nothing if that is no object."""
    try:
        said = json.loads(output.rstrip().rpartition("\n")[2])
    except json.JSONDecodeError:
        return {}
    return {str(name): value is True for name, value in said.items()} if isinstance(said, dict) else {}
