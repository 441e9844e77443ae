"""Judges a patch: applied to the untouched repository, with the task's hidden tests over it, in an environment."""

from __future__ import annotations

import json

from thunderctl.agents.client import DaemonClient, Lease
from thunderctl.workload.coding import CodingTask

PATCH_FILE = ".thunderctl-submission.patch"
JUDGE_FILE = ".thunderctl_judge.py"

_JUDGE = """\
import io, json, sys, unittest
outcome = {}
for name in sys.argv[1:]:
    suite = unittest.defaultTestLoader.loadTestsFromName(name)
    result = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
    outcome[name] = result.testsRun > 0 and result.wasSuccessful()
print()
print(json.dumps(outcome))
"""
"""Runs inside the environment: each test by its id, and one line of JSON at the end."""


async def judge_patch(
    client: DaemonClient, lease: Lease, task: CodingTask, patch: str
) -> tuple[bool, dict[str, bool | float]]:
    """Whether all of the task's tests pass with the patch, and each test's outcome. A patch that does not apply, or
    that breaks the tests' runner, passes none."""
    wanted = [*task.fail_to_pass, *task.pass_to_pass]
    none: dict[str, bool | float] = dict.fromkeys(wanted, False)
    if not patch.strip():
        return False, none
    await client.put_files(lease, {PATCH_FILE: patch.encode()})
    applied = await client.execute(lease, f"git apply {PATCH_FILE}")
    if applied.returncode:
        return False, none
    files = {JUDGE_FILE: _JUDGE.encode()}
    if task.hidden is not None:
        for path in sorted(p for p in task.hidden.rglob("*") if p.is_file()):
            files[str(path.relative_to(task.hidden))] = path.read_bytes()
    await client.put_files(lease, files)
    result = await client.execute(lease, f"python3 {JUDGE_FILE} {' '.join(wanted)}")
    try:
        outcome = json.loads(result.output.rstrip().rpartition("\n")[2])
    except json.JSONDecodeError:
        return False, none
    tests: dict[str, bool | float] = {name: outcome.get(name) is True for name in wanted}
    return all(tests.values()), tests
