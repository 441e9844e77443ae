"""Finding and ending processes by the marks they carry in their environment: of their lease, and of their command.

Only processes of this user are looked at, and never this one or one it descends from. A mark is inherited by every
child, so a double fork into a session of its own is found all the same; one that empties its environment is not.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

MARK = "THUNDERCTL_LEASE"
COMMAND_MARK = "THUNDERCTL_COMMAND"
"""Its value is given out once: several commands of one lease run side by side, and each ends alone."""
_PASSES = 20


def marked(above: int = 0, mark: str = MARK) -> Iterator[tuple[int, str]]:
    """``(pid, lease)`` of every process of this user that carries ``mark``; ``above`` skips smaller pids."""
    mine, needle, me = os.geteuid(), f"{mark}=".encode(), os.getpid()
    for name in os.listdir("/proc"):  # noqa: PTH208 (half the time of Path.iterdir, and this runs after each command)
        if not name.isdecimal() or int(name) <= above or int(name) == me:
            continue
        try:
            if os.stat(f"/proc/{name}").st_uid != mine:  # noqa: PTH116
                continue
            with open(f"/proc/{name}/environ", "rb") as file:  # noqa: PTH123
                said = file.read()
        except OSError:  # it ended in the meantime, or is not ours to read
            continue
        if needle in said:
            for variable in said.split(b"\0"):
                if variable.startswith(needle):
                    yield int(name), variable[len(needle) :].decode("utf-8", "replace")


def kill_marked(value: str, above: int = 0, mark: str = MARK) -> None:
    """Kill every process whose ``mark`` has ``value`` (a lease, or a command), until a look finds none."""
    for _ in range(_PASSES):  # a process may fork between the look and the kill; its child is found by the next look
        found = {pid for pid, whose in marked(above, mark) if whose == value}
        if found:  # seldom, and who the ancestors are takes as long to find out as a look
            found -= ancestors()
        if not found:
            return
        for pid in found:
            kill(pid)


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def kill_group(pgid: int) -> None:
    try:
        os.killpg(pgid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def ancestors() -> set[int]:
    """This process and those it descends from."""
    found, pid = set(), os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            # The name in parentheses may hold anything; the parent is the second field after its end.
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return found


def highest_pid_wrapped(since: int) -> bool:
    """Whether pids were handed out from the start again after ``since`` was: then ``above`` must not be used."""
    try:
        return int(Path("/proc/loadavg").read_text().split()[4]) < since
    except (OSError, ValueError, IndexError):
        return True


def threads_of_machine() -> int:
    """Threads on this machine now: the fourth field of ``/proc/loadavg``, one read instead of a walk."""
    try:
        return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    except (OSError, ValueError, IndexError):
        return 0
