"""Limits of the kernel: what is low is told with what it keeps one from, and how to raise it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

LOOK = """
import json
from thunderctl.doctor.machine import {0}
print(json.dumps([[f.state, f.found, f.needed_for, f.fix] for f in {0}()]))
"""


def under(limit: str, check: str) -> list[str]:
    """What ``check`` finds in a shell where ``ulimit`` was told ``limit``."""
    script = f'ulimit {limit} && exec "$0" -c "$1"'
    done = subprocess.run(["bash", "-c", script, sys.executable, LOOK.format(check)], check=True, capture_output=True)
    found: list[str] = json.loads(done.stdout)[0]
    return found


def test_few_open_files_are_told_as_agents() -> None:
    state, found, needed_for, fix = under("-S -n 1024", "open_files")
    assert (state, found) == ("wanted", "1,024")
    assert needed_for == "more than about 256 agents at once" and fix.startswith("ulimit -n ")


def test_a_hard_limit_is_raised_elsewhere() -> None:
    state, _, _, fix = under("-n 1024", "open_files")
    assert state == "wanted" and "limits.conf" in fix


@pytest.mark.parametrize("check", ["python", "memory", "programs", "processes", "kernel", "shared_memory"])
def test_what_is_not_fine_says_what_it_is_needed_for_and_how_to_mend_it(check: str) -> None:
    done = subprocess.run([sys.executable, "-c", LOOK.format(check)], check=True, capture_output=True)
    findings = json.loads(done.stdout)
    assert findings
    for state, found, needed_for, fix in findings:
        assert found and (state == "ok") == (not needed_for) == (not fix)
