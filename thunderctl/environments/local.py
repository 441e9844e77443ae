"""Environments as folders of this machine: the back-end where no engine answers.

A command runs as this user with an environment of its own making (nothing is inherited), under resource limits, in a
control group where that is permitted, and inside bubblewrap where that works. ``notice`` says what of it is missing.
Without bubblewrap an environment has a ``HOME`` and a ``TMPDIR`` of its own, but the name ``/tmp`` means the machine's:
what one leaves there the others find, and nobody removes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from thunderctl.environments import beneath, cgroup, packages, sandbox
from thunderctl.environments import command as commands
from thunderctl.environments.backend import Made, OnDeath, Wanted, to_the_end
from thunderctl.environments.disk import folder_bytes
from thunderctl.environments.files import checked_tree, inside
from thunderctl.environments.lease import Lease
from thunderctl.environments.output import HeadTail
from thunderctl.environments.processes import (
    COMMAND_MARK,
    MARK,
    highest_pid_wrapped,
    kill_marked,
    threads_of_machine,
)
from thunderctl.environments.sizes import FolderSizes, told_full
from thunderctl.environments.spec import EnvironmentSpec, ExecResult, Held, Mount
from thunderctl.errors import EnvironmentFailure, PreflightError
from thunderctl.profile import ToolEnvironmentSpec

_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_ADDRESS_SPACE_FACTOR = 4
_ADDRESS_SPACE_MIN_MIB = 4096
"""RLIMIT_AS counts reservations, not use; threads and BLAS reserve gigabytes they never touch."""

# $1 address space (KiB), $2 file size (blocks of 1,024 bytes), $3 CPU seconds, $4 processes; then the files through
# which control groups are entered, `--`, and the command line. bash's own limits cost nothing; a function run between
# fork and exec is not safe in a process with threads.
_WRAPPER = (
    "{ ulimit -c 0; ulimit -v $1; ulimit -f $2; ulimit -t $3; ulimit -u $4; shift 4; "
    'while [ "$1" != -- ]; do echo 0 > "$1"; shift; done; shift; } 2>/dev/null; exec "$@"'
)
_PARTS = ("home", "tmp", "shm")
"""What a folder has beside ``root``, where the working directory is."""
_BARE = (
    "tools run as this user and see its files and the network, and all environments share /tmp (TMPDIR is each one's "
    "own)."
)
"""What a person is told where there is no bubblewrap."""
_UNLIMITED = {
    "memory": "memory is limited for each process, not for an environment as a whole",
    "pids": "the number of processes is not limited",
    "cpu": "processors are not limited",
}


@dataclass(frozen=True, slots=True)
class Entrance:
    """What to start a process with: its command line follows ``argv``."""

    argv: list[str]
    env: Mapping[str, str]
    cwd: Path
    keep_open: tuple[int, ...] = ()
    """Descriptors that it inherits."""


class LocalBackend:
    """Environments below ``<node folder>/environments``."""

    name = "local"

    def __init__(self, node_dir: Path, *, bubblewrap: bool | None = None) -> None:
        self._root = node_dir / "environments"
        self._tools = node_dir / "tools-bin"
        self._wish = bubblewrap
        self._bwrap: str | None = None
        self._bash = "/bin/bash"
        self._groups = cgroup.Groups((), ())
        self._sizes = FolderSizes(self._root)
        self.notice: str | None = None
        self._over: dict[str, int] = {}
        """What reclaimed environments held at the end, until it is told."""

    async def available(self) -> str | None:
        for program in ("bash", "git"):
            if shutil.which(program, path=_SYSTEM_PATH) is None:
                raise PreflightError(
                    f"{program} is missing, and local tool environments need it", hint=f"install {program}"
                )
        self._bash = shutil.which("bash", path=_SYSTEM_PATH) or self._bash
        await asyncio.to_thread(self._make_folders)
        if self._wish is not False:
            await asyncio.to_thread(self._try_bubblewrap)
        if self._wish and self._bwrap is None:
            return self.notice
        self._groups = await asyncio.to_thread(cgroup.permitted)
        self._tell_limits()
        return None

    async def prepare(self, lease: Lease, wanted: Wanted) -> Made:
        self._refuse(wanted.spec)
        kit = packages.set_of(wanted.spec.image)
        if kit is not None:
            await asyncio.to_thread(packages.ensure_packages, kit)
        folder = self._root / lease.id
        await to_the_end(asyncio.to_thread(self._make, folder, wanted))
        return Made(str(folder))

    async def fill(self, lease: Lease, wanted: Wanted) -> None:
        await to_the_end(asyncio.to_thread(self._copy, self._present(lease, wanted), wanted))

    async def keep(self, lease: Lease, wanted: Wanted) -> None:
        return  # a folder has no layers

    async def exec(
        self, lease: Lease, wanted: Wanted, command: str, timeout_s: float, env: Mapping[str, str]
    ) -> ExecResult:
        token = secrets.token_hex(8)
        kept, limit_mib = HeadTail(wanted.limits.output_bytes), wanted.limits.disk_mib
        with (
            self.entrance(lease, wanted, timeout_s, env, token) as way,
            self._sizes.watched(lease.id, limit_mib * 1024 * 1024) as full,
        ):
            ended = await commands.run(
                [*way.argv, "bash", "-c", command],
                env=way.env,
                cwd=way.cwd,
                timeout_s=timeout_s,
                kept=kept,
                hunt=functools.partial(self._hunt, lease.id, token),
                stop=full,
                keep_open=way.keep_open,
            )
        text, cut = kept.text()
        if ended.stopped:
            await self._sizes.look(lease.id)  # what was still written until the end is not the next command's doing
            text = told_full(text, full.result(), limit_mib)
        return ExecResult(text, ended.code, ended.seconds, ended.timed_out, cut)

    @contextlib.contextmanager
    def entrance(
        self, lease: Lease, wanted: Wanted, timeout_s: float, env: Mapping[str, str], token: str
    ) -> Iterator[Entrance]:
        """How a process gets into the environment, within its limits; to be started while the context lasts.

        ``token`` marks it and what it starts.
        """
        folder, work, limits = self._root / lease.id, self._present(lease, wanted), wanted.limits
        address_mib = max(_ADDRESS_SPACE_MIN_MIB, limits.memory_mib * _ADDRESS_SPACE_FACTOR)
        # The kernel counts this limit per user, not per tree: an upper bound of what others use stands in for them.
        processes = threads_of_machine() + limits.pids
        cpu_s = max(1, int(timeout_s * max(1.0, limits.cpus)) + 5)
        line = [self._bash, "-c", _WRAPPER, "tool"]
        line += [str(n) for n in (address_mib * 1024, limits.disk_mib * 1024, cpu_s, processes)]
        # In a namespace of its own a command ends as a whole; else a group of its own sees to that.
        line += self._groups.join_files(lease.id, limits, None if self._bwrap else token)
        line.append("--")
        inner = self._environment(lease, folder, {**self._packages(wanted), **wanted.spec.env, **env}, token)
        if self._bwrap is None:
            yield Entrance(line, inner, work)
            return
        mounts = sandbox.placed_mounts(wanted.spec)
        kit = packages.set_of(wanted.spec.image)
        if kit is not None:
            mounts.append(Mount(packages.folder_of(kit) / "site", packages.INSIDE))
        variables = sandbox.variables(inner)
        try:
            line += self._sandboxed(folder, wanted, mounts, variables)
            yield Entrance(line, {"PATH": _SYSTEM_PATH, MARK: lease.id, COMMAND_MARK: token}, work, (variables,))
        finally:
            os.close(variables)

    async def put_files(self, lease: Lease, wanted: Wanted, contents: Mapping[str, bytes]) -> None:
        work = self._present(lease, wanted)
        with self._sizes.changing(lease.id):
            await to_the_end(asyncio.to_thread(beneath.write, work, contents))

    async def read_file(self, lease: Lease, wanted: Wanted, path: str, max_bytes: int) -> bytes:
        return await asyncio.to_thread(beneath.read, self._present(lease, wanted), path, max_bytes)

    async def reclaim(self, lease: Lease) -> None:
        known = self._sizes.forget(lease.id)
        await to_the_end(asyncio.to_thread(self._remove, lease.id, known))

    async def sizes(self) -> Held:
        over, self._over = self._over, {}
        found = await self._sizes.all()
        return Held({**over, **found}, {"folders": sum(found.values())})

    async def tidy(self, settings: ToolEnvironmentSpec, run: str) -> None:
        return  # nor images

    async def ports(self, lease: Lease) -> dict[int, int]:
        return {}

    async def watch(self, on_death: OnDeath) -> None:
        await asyncio.Event().wait()  # a folder does not die

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
                f"bubblewrap is not installed: {_BARE} "
                "Install bubblewrap or Docker before running code you do not trust."
            )
            return
        probe = self._root / ".probe"
        for part in ("work", *_PARTS):
            (probe / part).mkdir(parents=True, exist_ok=True)
        line = sandbox.arguments(
            bwrap,
            folder=probe,
            work=probe / "work",
            workdir="/testbed",
            tools=self._tools,
            network="none",
        )
        tried = subprocess.run([*line, "bash", "-c", "git --version"], capture_output=True, text=True, check=False)
        shutil.rmtree(probe, ignore_errors=True)
        if tried.returncode == 0:
            self._bwrap = bwrap
        else:
            self.notice = f"bubblewrap does not work here ({tried.stderr.strip()}): {_BARE}"

    def _tell_limits(self) -> None:
        """Add to ``notice`` what nothing here limits."""
        missing = [name for name in cgroup.CONTROLLERS if name not in self._groups.limited]
        if os.geteuid() != 0 and "pids" in missing:  # the kernel's limit per user stands in, which exempts root
            missing.remove("pids")
        if missing:
            told = "; ".join(_UNLIMITED[name] for name in missing)
            told = f"There are no control groups for {' and '.join(missing)} here: {told}."
            self.notice = f"{self.notice} {told}" if self.notice else told

    def _refuse(self, spec: EnvironmentSpec) -> None:
        """``EnvironmentFailure`` for what only containers have."""
        bare = self._bwrap is None
        for asked, what, why in (
            (spec.ports, "ports", "a server inside listens on this machine itself if network is bridge"),
            (spec.user, "user", "tools run as the user of thunderctl"),
            (spec.mounts and bare, "mounts", "without bubblewrap tools see the files of this machine as they are"),
        ):
            if asked:
                raise EnvironmentFailure(
                    f"a local environment cannot have `{what}`: {why}", hint=f"use Docker, or leave `{what}` out"
                )
        sandbox.placed_mounts(spec)

    def _sandboxed(self, folder: Path, wanted: Wanted, mounts: list[Mount], variables: int) -> list[str]:
        assert self._bwrap is not None  # noqa: S101
        return sandbox.arguments(
            self._bwrap,
            folder=folder,
            work=self._work(folder, wanted),
            workdir=wanted.spec.workdir,
            tools=self._tools,
            network=wanted.network,
            mounts=mounts,
            variables=variables,
        )

    def _environment(self, lease: Lease, folder: Path, asked: Mapping[str, str], token: str) -> dict[str, str]:
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
            COMMAND_MARK: token,
        }

    def _packages(self, wanted: Wanted) -> dict[str, str]:
        """What makes the packages of ``base:NAME`` importable; the image itself says nothing to a folder."""
        kit = packages.set_of(wanted.spec.image)
        if kit is None:
            return {}
        return {"PYTHONPATH": packages.INSIDE if self._bwrap else str(packages.folder_of(kit) / "site")}

    def _hunt(self, lease_id: str, token: str, pid: int) -> None:
        if self._bwrap is None:  # else the end of its first process ended the whole namespace
            self._groups.end_command(lease_id, token)
            kill_marked(token, 0 if highest_pid_wrapped(pid) else pid, COMMAND_MARK)

    def _present(self, lease: Lease, wanted: Wanted) -> Path:
        """The working directory, which somebody may have removed by hand."""
        folder = self._root / lease.id
        work = self._work(folder, wanted)
        if not folder.is_dir():
            raise EnvironmentFailure(f"the folder {folder} of lease {lease.id} is gone")
        if not work.is_dir():
            raise EnvironmentFailure(f"the working directory {wanted.spec.workdir} of lease {lease.id} was removed")
        return work

    def _work(self, folder: Path, wanted: Wanted) -> Path:
        return folder / "root" / inside(wanted.spec.workdir.strip("/"))

    def _make(self, folder: Path, wanted: Wanted) -> None:
        work = self._work(folder, wanted)
        for made in (work, *(folder / part for part in _PARTS)):
            made.mkdir(parents=True)
        self._copy(work, wanted)

    def _copy(self, work: Path, wanted: Wanted) -> None:
        for source, relative in checked_tree(wanted.spec.files) if wanted.spec.files is not None else ():
            target = work / relative
            if source.is_symlink():
                target.symlink_to(source.readlink())
            elif source.is_dir():
                target.mkdir()
                target.chmod(source.stat().st_mode & 0o777 | 0o700)
            else:
                shutil.copy2(source, target)

    def _remove(self, lease_id: str, known: int | None) -> None:
        folder = self._root / lease_id
        self._groups.end_lease(lease_id)
        if folder.exists():
            self._over[lease_id] = folder_bytes(folder) if known is None else known
        _remove_folder(folder, lease_id)


def end_tools(lease_id: str) -> None:
    """End every process of a lease and keep its folder: for a daemon that takes environments over."""
    cgroup.end_lease(lease_id)
    kill_marked(lease_id)


def remove_folder(folder: Path, lease_id: str) -> None:
    """End what still runs for the lease, then remove its folder; gone already is fine."""
    cgroup.end_lease(lease_id)
    _remove_folder(folder, lease_id)


def _remove_folder(folder: Path, lease_id: str) -> None:
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
