"""Control groups: limits for a local environment as a whole, and an end for all of its processes at once.

Each environment gets a group below one named ``thunderctl``, in the single hierarchies of version 1 or in version 2,
as found. Only room that is free is used: no group of somebody else's is entered, and none that carries limits is left.
Where that is not possible there is nothing; no function here raises for an odd hierarchy or waits longer than
``END_S`` for it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from thunderctl.environments.processes import kill
from thunderctl.environments.spec import Limits

PARENT = "thunderctl"
CONTROLLERS = ("memory", "pids", "cpu")
END_S = 2.0
_PAUSE_S = 0.002
_PROBE_S = 5.0
_PERIOD_US = 100_000
_QUOTA_MIN_US = 1000

_MIB = 1024 * 1024
_Setting = tuple[str, Callable[[Limits], int | str], bool]


def _quota_us(limits: Limits) -> int:
    return max(_QUOTA_MIN_US, int(limits.cpus * _PERIOD_US))


_SETTINGS: dict[tuple[int, str], tuple[_Setting, ...]] = {
    (1, "memory"): (
        ("memory.limit_in_bytes", lambda x: x.memory_mib * _MIB, True),
        ("memory.memsw.limit_in_bytes", lambda x: x.memory_mib * _MIB, False),
    ),
    (1, "pids"): (("pids.max", lambda x: x.pids, True),),
    (1, "cpu"): (("cpu.cfs_period_us", lambda _: _PERIOD_US, True), ("cpu.cfs_quota_us", _quota_us, True)),
    (2, "memory"): (
        ("memory.max", lambda x: x.memory_mib * _MIB, True),
        ("memory.swap.max", lambda _: 0, False),
    ),
    (2, "pids"): (("pids.max", lambda x: x.pids, True),),
    (2, "cpu"): (("cpu.max", lambda x: f"{_quota_us(x)} {_PERIOD_US}", True),),
}
"""By version and controller: file, value, and whether there is no limit without it (swap may be switched off)."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One place where groups can be made."""

    parent: Path
    """The group ``thunderctl``: made with the first environment, gone with the last."""
    controllers: tuple[str, ...]
    version: Literal[1, 2]

    def join_file(self, group: str) -> str:
        # A process that moves itself thread by thread needs no lock of the whole machine (measured with version 1:
        # 0.05 ms instead of 3). Version 2 has no such way between groups with limits.
        return f"{group}/{'tasks' if self.version == 1 else 'cgroup.procs'}"

    def make(self, lease_id: str, limits: Limits) -> tuple[Path, list[str]] | None:
        """The group of an environment and the controllers that hold it; ``None`` if it cannot be made."""
        group = self.parent / lease_id
        for _ in range(2):  # the last environment of another process may take the parent away in between
            try:
                self.parent.mkdir(exist_ok=True)
                if self.version == 2:
                    self._hand_down()
                group.mkdir(exist_ok=True)
                break
            except FileNotFoundError:
                continue
            except OSError:
                return None
        else:
            return None
        return group, [name for name in self.controllers if self._limit(group, name, limits)]

    def _hand_down(self) -> None:
        """A controller limits groups only where it was switched on for them."""
        for group in (self.parent.parent, self.parent):
            given = _words(group / "cgroup.subtree_control")
            for name in self.controllers:
                if name not in given:
                    _write(group / "cgroup.subtree_control", f"+{name}")

    def _limit(self, group: Path, controller: str, limits: Limits) -> bool:
        settings = _SETTINGS[self.version, controller]
        return all([_write(group / name, str(value(limits))) or not must for name, value, must in settings])


class Groups:
    """The groups of one node's environments."""

    def __init__(self, hierarchies: Sequence[Hierarchy], limited: Iterable[str]) -> None:
        self.hierarchies = tuple(hierarchies)
        self.limited = frozenset(limited)
        """Which of ``CONTROLLERS`` limit an environment as a whole."""

    def join_files(self, lease_id: str, limits: Limits, command: str | None = None) -> list[str]:
        """Where a process writes 0 to enter the groups of its environment, which are made if they are not there.

        With ``command`` there is one more below, which :meth:`end_command` ends.
        """
        files = []
        for number, hierarchy in enumerate(self.hierarchies):
            # Before every command, hence names and not paths: 0.02 ms instead of 0.1.
            group = f"{hierarchy.parent}/{lease_id}"
            if not os.path.isdir(group) and hierarchy.make(lease_id, limits) is None:  # noqa: PTH112
                continue
            if command is not None and number == 0:
                with contextlib.suppress(OSError):
                    os.mkdir(f"{group}/{command}")  # noqa: PTH102
                    group = f"{group}/{command}"
            files.append(hierarchy.join_file(group))
        return files

    def end_command(self, lease_id: str, command: str) -> None:
        """Kill what a command left."""
        if self.hierarchies:
            group = f"{self.hierarchies[0].parent}/{lease_id}/{command}"
            try:
                os.rmdir(group)  # noqa: PTH106 (nearly always nothing is left)
            except OSError:
                end(Path(group))

    def end_lease(self, lease_id: str) -> None:
        """Kill every process of an environment and remove its groups."""
        end_lease(lease_id, [hierarchy.parent for hierarchy in self.hierarchies])


def permitted() -> Groups:
    """The groups that can be had here, each tried with a process; perhaps none."""
    working, limited = [], []
    for hierarchy in find():
        holds = _tried(hierarchy)
        if holds is not None:
            working.append(hierarchy)
            limited += holds
    return Groups(working, limited)


def _tried(hierarchy: Hierarchy) -> list[str] | None:
    made = hierarchy.make(f"probe-{os.getpid()}", Limits())
    if made is None:
        return None
    group, holds = made
    try:
        line = ["/bin/sh", "-c", 'echo 0 > "$0" && exec cat "$1"']
        line += [hierarchy.join_file(str(group)), str(group / "cgroup.procs")]
        tried = subprocess.run(line, capture_output=True, timeout=_PROBE_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    finally:
        end(group)
        _remove(hierarchy.parent)
    return holds if tried.returncode == 0 and tried.stdout.strip() else None


def find(process: Path = Path("/proc/self")) -> list[Hierarchy]:
    """Where groups may be made, by what the kernel tells of ``process``.

    Version 1: where the process is in no group. Version 2: in the root, or else beside the group of the process,
    unless that group carries limits, since they would no longer hold. The one that counts processes comes first:
    no fork outruns the end of its groups.
    """
    found: list[Hierarchy] = []
    claimed: set[str] = set()
    second: list[Hierarchy] = []
    for point, own, names in _mounted(process):
        if names is None:
            second += _second(point, own)
            continue
        wanted = tuple(name for name in CONTROLLERS if name in names and name not in claimed)
        if wanted and own == "" and _ours(point):
            claimed.update(wanted)
            found.append(Hierarchy(point / PARENT, wanted, 1))
    # Beside hierarchies of version 1 an empty version 2 (the usual mixture) adds only the price of entering it.
    found.sort(key=lambda each: "pids" not in each.controllers)
    return found + [each for each in second[:1] if each.controllers or not found]


def _second(point: Path, own: str) -> Iterator[Hierarchy]:
    place = point / own
    if own:
        if any(_words(place / name)[:1] not in ([], ["max"]) for name in ("memory.max", "pids.max", "cpu.max")):
            return
        place = place.parent
    available = _words(place / "cgroup.subtree_control")
    if not own:
        available += _words(place / "cgroup.controllers")
    if _ours(place):
        yield Hierarchy(place / PARENT, tuple(name for name in CONTROLLERS if name in available), 2)


def _ours(place: Path) -> bool:
    return os.access(place, os.W_OK) and os.access(place / "cgroup.procs", os.W_OK)


def _mounted(process: Path) -> Iterator[tuple[Path, str, list[str] | None]]:
    """``(mount point, group of the process below it, controllers)`` of each hierarchy; ``None`` is version 2."""
    paths: dict[str, str] = {}
    try:
        for line in (process / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            paths.update(dict.fromkeys(controllers.split(","), path))
        mounts = (process / "mountinfo").read_text().splitlines()
    except (OSError, ValueError):
        return
    for line in mounts:
        # man 5 proc: id, parent, device, root, mount point, options, … - type, source, options of the super block
        before, _, after = line.partition(" - ")
        if not after.startswith("cgroup"):
            continue
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or len(kinds) < 3:
            continue
        names = None if kinds[0] == "cgroup2" else kinds[2].split(",")
        own = paths.get("" if names is None else next((name for name in names if name in paths), "-"))
        root = fields[3].rstrip("/")
        if own is None or ".." in own.split("/") or not f"{own.rstrip('/')}/".startswith(f"{root}/"):
            continue
        yield Path(fields[4]), own[len(root) :].strip("/"), names


def left() -> list[str]:
    """Leases that have groups on this machine, whoever's they are: for the collector, which knows its own."""
    found = {entry.name for parent in _parents() for entry in _folders(parent)}
    return sorted(name for name in found if not name.startswith("probe-"))


def end_lease(lease_id: str, parents: Iterable[Path] | None = None) -> None:
    """Kill every process of an environment and remove its groups, wherever they are; gone already is fine."""
    if not lease_id or "/" in lease_id or lease_id.startswith("."):
        return
    for parent in _parents() if parents is None else parents:
        if end(parent / lease_id):
            _remove(parent)  # refused while another environment has a group


def end(group: Path) -> bool:
    """Kill every process in ``group`` and below, and remove it; whether it is gone after at most ``END_S``."""
    until = time.monotonic() + END_S
    while not _removed(group):
        if time.monotonic() > until:  # a process that the kernel does not let go
            return False
        _kill(group)
        time.sleep(_PAUSE_S)
    return True


def _removed(group: Path) -> bool:
    for inner in _folders(group):
        _removed(inner)
    _remove(group)
    return not group.exists()


def _kill(group: Path) -> None:
    if _write(group / "cgroup.kill", "1"):  # version 2 since Linux 5.14: all at once, whatever forks meanwhile
        return
    for inner in _folders(group):
        _kill(inner)
    _write(group / "pids.max", "0")  # then no fork outruns the list
    for word in _words(group / "cgroup.procs"):
        if word.isdecimal() and int(word) > 1 and int(word) != os.getpid():  # 0 is a process of another namespace
            kill(int(word))


def _parents() -> Iterator[Path]:
    """Every group named ``thunderctl``. In version 2 they may lie beside any group that a daemon was started in."""
    seen: set[Path] = set()
    for point, _, names in _mounted(Path("/proc/self")):
        if names is not None:
            found = [point / PARENT] if (point / PARENT).is_dir() else []
        else:
            found = [Path(here) / PARENT for here, folders, _ in os.walk(point) if PARENT in folders]
        yield from (parent for parent in found if parent not in seen)
        seen.update(found)


def _folders(group: Path) -> list[Path]:
    try:
        with os.scandir(group) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except (OSError, UnicodeDecodeError):
        return []


def _write(file: Path, text: str) -> bool:
    try:
        descriptor = os.open(file, os.O_WRONLY)  # never makes a file, should this be no hierarchy at all
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return True


def _remove(group: Path) -> None:
    with contextlib.suppress(OSError):
        group.rmdir()
