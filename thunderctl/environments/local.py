"""Environments as folders of this machine: the back-end where no engine answers.

A command runs as this user with an environment of its own making (nothing is inherited), under resource limits, and
inside bubblewrap where that works. Without it a tool can read what this user can read; ``notice`` says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from thunderctl.environments import command as commands
from thunderctl.environments import sandbox
from thunderctl.environments.backend import Wanted, to_the_end
from thunderctl.environments.files import checked_tree, inside
from thunderctl.environments.lease import Lease
from thunderctl.environments.output import HeadTail
from thunderctl.environments.processes import MARK, highest_pid_wrapped, kill_marked, threads_of_machine
from thunderctl.environments.spec import ExecResult
from thunderctl.errors import EnvironmentFailure, PreflightError

_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_ADDRESS_SPACE_FACTOR = 4
_ADDRESS_SPACE_MIN_MIB = 4096
"""RLIMIT_AS counts reservations, not use; threads and BLAS reserve gigabytes they never touch."""
_FILE_MIB = 4096

# $1 the command, $2 address space (KiB), $3 file size (blocks of 1,024 bytes), $4 CPU seconds, $5 processes.
# bash's own limits cost nothing; a function run between fork and exec is not safe in a process with threads.
_WRAPPER = '{ ulimit -c 0; ulimit -v $2; ulimit -f $3; ulimit -t $4; ulimit -u $5; } 2>/dev/null; exec bash -c "$1"'


class LocalBackend:
    """Environments below ``<node folder>/environments``."""

    name = "local"

    def __init__(self, node_dir: Path, *, bubblewrap: bool | None = None) -> None:
        self._root = node_dir / "environments"
        self._tools = node_dir / "tools-bin"
        self._wish = bubblewrap
        self._bwrap: str | None = None
        self.notice: str | None = None

    async def available(self) -> str | None:
        for program in ("bash", "git"):
            if shutil.which(program, path=_SYSTEM_PATH) is None:
                raise PreflightError(
                    f"{program} is missing, and local tool environments need it", hint=f"install {program}"
                )
        await asyncio.to_thread(self._make_folders)
        if self._wish is not False:
            await asyncio.to_thread(self._try_bubblewrap)
        if self._wish and self._bwrap is None:
            return self.notice
        return None

    async def prepare(self, lease: Lease, wanted: Wanted) -> str:
        folder = self._root / lease.id
        await to_the_end(asyncio.to_thread(self._fill, folder, wanted))
        return str(folder)

    async def exec(
        self, lease: Lease, wanted: Wanted, command: str, timeout_s: float, env: Mapping[str, str]
    ) -> ExecResult:
        folder, limits = self._folder(lease), wanted.limits
        address_mib = max(_ADDRESS_SPACE_MIN_MIB, limits.memory_mib * _ADDRESS_SPACE_FACTOR)
        # The kernel counts this limit per user, not per tree: an upper bound of what others use stands in for them.
        processes = threads_of_machine() + limits.pids
        cpu_s = max(1, int(timeout_s * max(1.0, limits.cpus)) + 5)
        line = ["bash", "-c", _WRAPPER, "tool", command]
        line += [str(n) for n in (address_mib * 1024, _FILE_MIB * 1024, cpu_s, processes)]
        work = self._work(folder, wanted)
        if self._bwrap is not None:
            line = self._sandboxed(folder, wanted) + line
        kept = HeadTail(limits.output_bytes)
        code, took, timed_out = await commands.run(
            line,
            env=self._environment(lease, folder, {**wanted.spec.env, **env}),
            cwd=work,
            timeout_s=timeout_s,
            kept=kept,
            hunt=functools.partial(self._hunt, lease.id),
        )
        text, cut = kept.text()
        return ExecResult(text, code, took, timed_out, cut)

    async def put_files(self, lease: Lease, wanted: Wanted, contents: Mapping[str, bytes]) -> None:
        work = self._work(self._folder(lease), wanted)
        await to_the_end(asyncio.to_thread(self._put, work, contents))

    async def read_file(self, lease: Lease, wanted: Wanted, path: str, max_bytes: int) -> bytes:
        work = self._work(self._folder(lease), wanted)
        return await asyncio.to_thread(self._read, work, path, max_bytes)

    async def reclaim(self, lease: Lease) -> None:
        await to_the_end(asyncio.to_thread(remove_folder, self._root / lease.id, lease.id))

    async def sizes(self) -> tuple[dict[str, int], dict[str, int]]:
        found = await asyncio.to_thread(self._measure)
        return found, {"folders": sum(found.values())}

    async def close(self) -> None:
        return

    # The rest blocks and runs in a thread, or is one step of the above.

    def _make_folders(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        self._tools.mkdir(parents=True, exist_ok=True)
        interpreter = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
        for name in ("python", "python3"):  # many systems have no plain `python`
            link = self._tools / name
            if not link.is_symlink() or link.readlink() != interpreter:
                link.unlink(missing_ok=True)
                link.symlink_to(interpreter)

    def _try_bubblewrap(self) -> None:
        bwrap = shutil.which("bwrap", path=_SYSTEM_PATH)
        if bwrap is None:
            self.notice = (
                "bubblewrap is not installed: tools run as this user, see its files and the network, and may start "
                "any number of processes. Install bubblewrap or Docker before running code you do not trust."
            )
            return
        probe = self._root / ".probe"
        for part in ("work", "home", "tmp"):
            (probe / part).mkdir(parents=True, exist_ok=True)
        line = sandbox.arguments(
            bwrap,
            work=probe / "work",
            workdir="/testbed",
            home=probe / "home",
            temporary=probe / "tmp",
            tools=self._tools,
            network="none",
        )
        tried = subprocess.run([*line, "bash", "-c", "git --version"], capture_output=True, text=True, check=False)
        shutil.rmtree(probe, ignore_errors=True)
        if tried.returncode == 0:
            self._bwrap = bwrap
            if os.geteuid() == 0:
                self.notice = "tools run as root without capabilities; the number of their processes is not limited."
        else:
            self.notice = (
                f"bubblewrap does not work here ({tried.stderr.strip()}): tools run as this user and see its files "
                "and the network."
            )

    def _sandboxed(self, folder: Path, wanted: Wanted) -> list[str]:
        assert self._bwrap is not None  # noqa: S101
        return sandbox.arguments(
            self._bwrap,
            work=self._work(folder, wanted),
            workdir=wanted.spec.workdir,
            home=folder / "home",
            temporary=folder / "tmp",
            tools=self._tools,
            network=wanted.network,
        )

    def _environment(self, lease: Lease, folder: Path, asked: Mapping[str, str]) -> dict[str, str]:
        inner = self._bwrap is not None
        tools = sandbox.TOOLS_BIN if inner else str(self._tools)
        return {
            "PATH": f"{tools}:{_SYSTEM_PATH}",
            "HOME": sandbox.HOME if inner else str(folder / "home"),
            "TMPDIR": "/tmp" if inner else str(folder / "tmp"),  # noqa: S108 (bound to the lease's own)
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            **asked,
            MARK: lease.id,
        }

    def _hunt(self, lease_id: str, pid: int) -> None:
        if self._bwrap is None:  # else the end of its first process ended the whole namespace
            kill_marked(lease_id, above=0 if highest_pid_wrapped(pid) else pid)

    def _folder(self, lease: Lease) -> Path:
        folder = self._root / lease.id
        if not folder.is_dir():
            raise EnvironmentFailure(f"the folder {folder} of lease {lease.id} is gone")
        return folder

    def _work(self, folder: Path, wanted: Wanted) -> Path:
        return folder / "root" / inside(wanted.spec.workdir.strip("/"))

    def _fill(self, folder: Path, wanted: Wanted) -> None:
        work = self._work(folder, wanted)
        for made in (work, folder / "home", folder / "tmp"):
            made.mkdir(parents=True)
        for source, relative in checked_tree(wanted.spec.files) if wanted.spec.files is not None else ():
            target = work / relative
            if source.is_symlink():
                target.symlink_to(source.readlink())
            elif source.is_dir():
                target.mkdir()
                target.chmod(source.stat().st_mode & 0o777 | 0o700)
            else:
                shutil.copy2(source, target)

    def _put(self, work: Path, contents: Mapping[str, bytes]) -> None:
        for path in {name: inside(name) for name in contents}.values():
            here = work
            for part in path.parts[:-1]:
                here = here / part
                if here.is_symlink():  # a link that a command left; what is put stays below the working directory
                    here.unlink()
                here.mkdir(exist_ok=True)
        for name, data in contents.items():
            target = work / inside(name)
            if target.is_dir() and not target.is_symlink():
                raise EnvironmentFailure(f"{name} is a folder in the environment and cannot become a file")
            target.unlink(missing_ok=True)
            target.write_bytes(data)

    def _read(self, work: Path, path: str, max_bytes: int) -> bytes:
        target = work / inside(path)
        if not target.exists() and not target.is_symlink():
            raise EnvironmentFailure(f"there is no file {path} in the environment")
        if target.resolve() != work.resolve() / inside(path) or not target.is_file():
            raise EnvironmentFailure(f"{path} is not a file (links are not followed)")
        size = target.stat().st_size
        if size > max_bytes:
            raise EnvironmentFailure(f"the file {path} has {size} bytes, more than {max_bytes}")
        return target.read_bytes()

    def _measure(self) -> dict[str, int]:
        if not self._root.is_dir():
            return {}
        return {folder.name: folder_bytes(folder) for folder in self._root.iterdir() if folder.name[0] != "."}


def folder_bytes(folder: Path) -> int:
    """Bytes on disk below ``folder``; what disappears during the walk counts nothing."""
    total, pending = 0, [folder]
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(Path(entry.path))
    return total


def remove_folder(folder: Path, lease_id: str) -> None:
    """End what still runs for the lease, then remove its folder; gone already is fine."""
    kill_marked(lease_id)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():  # tools may have taken the write permission off their own folders
        for parent, folders, _ in os.walk(folder):
            for inner in (Path(parent) / name for name in folders):
                with contextlib.suppress(OSError):
                    if not inner.is_symlink():
                        inner.chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise EnvironmentFailure(f"the folder {folder} could not be removed", hint=f"remove it by hand: {folder}")
