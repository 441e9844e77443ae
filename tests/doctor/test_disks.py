"""Where state goes: room, kind of file system, and a place that would do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from thunderctl.doctor.disks import disks
from thunderctl.doctor.finding import Finding, State

EXAMINE = """
import json
from thunderctl.doctor.disks import disks
print(json.dumps([[f.state, f.found, f.fix] for f in disks()]))
"""


def homes_disk(monkeypatch: pytest.MonkeyPatch, home: Path) -> Finding:
    monkeypatch.setenv("THUNDERCTL_HOME", str(home))
    return next(iter(disks()))


def test_a_folder_that_does_not_exist_yet_is_judged_by_the_one_above(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = homes_disk(monkeypatch, tmp_path / "not" / "yet")
    assert found.state is State.ok and str(tmp_path / "not" / "yet") in found.found
    assert not (tmp_path / "not").exists(), "it only looks"


def test_a_place_that_cannot_be_written_to_is_broken_and_the_fix_moves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = homes_disk(monkeypatch, Path("/proc/thunderctl"))
    assert found.state is State.broken
    assert "cannot be written to" in found.found and found.fix.startswith("export THUNDERCTL_HOME=")


def test_state_in_memory_is_told_as_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    found = homes_disk(monkeypatch, Path("/dev/shm/thunderctl"))
    assert found.state is State.wanted
    assert "in memory" in found.found and "tmpfs" in found.found and "restart" in found.needed_for


@pytest.mark.docker  # whoever may use an engine may mount
def test_a_full_disk_is_broken_and_the_fix_makes_room_or_moves(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    script = 'mount -t tmpfs -o size=64m none "$0" && head -c 50M /dev/zero >"$0/fill" && exec "$1" -c "$2"'
    line = ["unshare", "--mount", "sh", "-c", script, str(small), sys.executable, EXAMINE]
    env = {**os.environ, "THUNDERCTL_HOME": str(small / "home")}
    state, found, fix = json.loads(subprocess.run(line, env=env, check=True, capture_output=True).stdout)[0]
    assert state == "broken" and "14.0 MiB free" in found and "200.0 MiB are needed" in found
    assert "thunderctl gc" in fix and "THUNDERCTL_HOME=" in fix
