"""Judges a patch: applied to the untouched repository, with the task's own tests over it, in an environment.

The tests of a bundled task are a folder, those of a row a patch. The environment's own Python runs them
(``inside/run_tests.py``).
"""

from __future__ import annotations

import json
import re
import shlex
from importlib import resources

from thunderctl.agents.client import DaemonClient, Lease
from thunderctl.errors import EnvironmentFailure
from thunderctl.workload.coding import CodingTask

PATCH_FILE = ".thunderctl-submission.patch"
TEST_PATCH_FILE = ".thunderctl-tests.patch"
NAMES_FILE = ".thunderctl-tests.json"
JUDGE_FILE = ".thunderctl_judge.py"
ROW_TESTS_S = 1800.0
"""A row's tests may take so long, as in the official evaluation; a bundled task's are done within a command's time."""


async def judge_patch(
    client: DaemonClient, lease: Lease, task: CodingTask, patch: str
) -> tuple[bool, dict[str, bool | float]]:
    """Whether all of the task's tests pass with the patch, and each test's outcome. A patch that does not apply, or
    that breaks the tests' runner, passes none. ``EnvironmentFailure`` if the tests cannot be run at all."""
    wanted = [*task.fail_to_pass, *task.pass_to_pass]
    none: dict[str, bool | float] = dict.fromkeys(wanted, False)
    if not patch.strip():
        return False, none
    await client.put_files(lease, {PATCH_FILE: patch.encode()})
    applied = await client.execute(lease, f"git apply {PATCH_FILE}")
    if applied.returncode:
        return False, none
    files = {
        JUDGE_FILE: resources.files("thunderctl.agents").joinpath("inside", "run_tests.py").read_bytes(),
        NAMES_FILE: json.dumps(wanted).encode(),
    }
    if task.hidden is not None:
        for path in sorted(p for p in task.hidden.rglob("*") if p.is_file()):
            files[str(path.relative_to(task.hidden))] = path.read_bytes()
    await client.put_files(lease, files)
    if task.test_patch:
        await _apply_tests(client, lease, task.test_patch)
    seconds = ROW_TESTS_S if task.folder is None else None
    result = await client.execute(lease, f"python3 {JUDGE_FILE} {NAMES_FILE}", timeout_s=seconds)
    try:
        outcome = json.loads(result.output.rstrip().rpartition("\n")[2])
        passed, cannot = outcome["passed"], outcome["cannot"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return False, none
    if cannot:
        raise EnvironmentFailure(f"the image has no pytest, and {cannot[0]} wants it")
    tests: dict[str, bool | float] = {name: passed.get(name) is True for name in wanted}
    return all(tests.values()), tests


async def _apply_tests(client: DaemonClient, lease: Lease, patch: str) -> None:
    """Over whatever the submission made of the files that it touches."""
    await client.put_files(lease, {TEST_PATCH_FILE: (patch if patch.endswith("\n") else patch + "\n").encode()})
    names = " ".join(shlex.quote(name) for name in touched_files(patch))
    as_given = f'for f in {names}; do git checkout -q HEAD -- "$f" 2>/dev/null || rm -rf -- "$f"; done'
    applied = await client.execute(lease, f"{as_given}; git apply {TEST_PATCH_FILE}")
    if applied.returncode:
        raise EnvironmentFailure(f"test_patch does not apply: {applied.output.strip()[:300]}")


def touched_files(patch: str) -> list[str]:
    """Every file that a patch in git's form changes, adds or removes."""
    return sorted({name for name in re.findall(r"^(?:---|\+\+\+) [ab]/([^\t\n]+)", patch, re.MULTILINE)})
