"""The command line of bubblewrap: what a local tool sees of the machine, as data.

Its own processes, network and shared memory; the system's programs read-only; its working directory where the spec
says it is. It ends with the process that started it, and everything inside ends with it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from thunderctl.environments.mounts import checked_mounts
from thunderctl.environments.spec import EnvironmentSpec, Mount, Network
from thunderctl.errors import EnvironmentFailure

TOOLS_BIN = "/opt/tools/bin"
"""Inside: the folder that has ``python`` and ``python3``."""
HOME = "/home/tool"

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
_ETC = (
    "alternatives",
    "ca-certificates",
    "group",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "passwd",
    "resolv.conf",
    "ssl",
)
"""Of /etc only what programs need to start, name users and speak TLS; the rest may hold secrets."""


def arguments(
    bwrap: str,
    *,
    folder: Path,
    work: Path,
    workdir: str,
    tools: Path,
    network: Network,
    mounts: Sequence[Mount] = (),
    variables: int | None = None,
) -> list[str]:
    """``bwrap`` and its options, ready for the command to follow.

    ``folder`` holds what of the environment is not its working directory. ``variables`` is a descriptor from
    :func:`variables`: the environment of the command, and only of the command, for a name like ``LD_PRELOAD`` would
    else reach programs that still run outside.
    """
    line = [bwrap, *(() if variables is None else ("--args", str(variables)))]
    line += ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if network == "none":
        line.append("--unshare-net")
    # As root bubblewrap would keep every capability (seen: CapEff 1fffeffffff with 0.8.0).
    line += ["--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    for path in _SYSTEM:
        if Path(path).is_symlink():
            line += ["--symlink", str(Path(path).readlink()), path]
        else:
            line += ["--ro-bind-try", path, path]
    for name in _ETC:
        line += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    line += ["--proc", "/proc", "--dev", "/dev"]
    # The device file system is in memory and has no limit of its own: closed, and its one public corner on disk.
    line += ["--bind-try", str(folder / "shm"), "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108 (its own)
    line += ["--bind", str(folder / "tmp"), "/tmp"]  # noqa: S108 (its own)
    prefix = Path(sys.base_prefix).resolve()
    if not prefix.is_relative_to("/usr") or prefix.is_relative_to("/usr/local"):
        line += ["--ro-bind-try", str(prefix), str(prefix)]
    line += ["--ro-bind", str(tools), TOOLS_BIN, "--bind", str(folder / "home"), HOME]
    line += ["--bind", str(work), workdir]
    for mount in mounts:
        line += ["--bind" if mount.writable else "--ro-bind", str(mount.source), mount.target]
    return [*line, "--remount-ro", "/", "--chdir", workdir, "--"]


def variables(environment: Mapping[str, str]) -> int:
    """A descriptor from which bubblewrap reads ``environment``; values do not show up in any command line.

    The caller closes it.
    """
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name + value:  # a NUL would begin an option of bubblewrap's
            raise EnvironmentFailure(f"the variable {name!r} cannot be set: its name or value is malformed")
    said = "".join(f"--setenv\0{name}\0{value}\0" for name, value in environment.items())
    descriptor = os.memfd_create("variables")
    with open(descriptor, "wb", closefd=False) as file:  # noqa: PTH123 (a descriptor)
        file.write(os.fsencode(said))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def placed_mounts(spec: EnvironmentSpec) -> list[Mount]:
    """The mounts of ``spec``, checked; ``EnvironmentFailure`` also for a target where this sandbox has something.

    A target that tools can write to is refused as well: a link that a command left there would lead bubblewrap astray.
    """
    mounts = checked_mounts(spec.mounts)
    taken = [PurePosixPath(name) for name in (*_SYSTEM, "/etc", TOOLS_BIN, HOME, "/tmp", spec.workdir)]  # noqa: S108
    for mount in mounts:
        target = PurePosixPath(mount.target)
        for place in taken:
            if target.is_relative_to(place) or place.is_relative_to(target):
                raise EnvironmentFailure(
                    f"the mount target {mount.target} collides with {place} of a local environment",
                    hint="choose a folder of its own, such as /data, and link to it in a set-up command",
                )
    return mounts
