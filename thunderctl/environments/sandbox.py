"""The command line of bubblewrap: what a local tool sees of the machine, as data.

Its own processes, network and shared memory; the system's programs read-only; its working directory where the spec
says it is. It ends with the process that started it, and everything inside ends with it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from thunderctl.environments.spec import Network

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
    bwrap: str, *, work: Path, workdir: str, home: Path, temporary: Path, tools: Path, network: Network
) -> list[str]:
    """``bwrap`` and its options, ready for the command to follow."""
    line = [bwrap, "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
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
    line += ["--proc", "/proc", "--dev", "/dev", "--bind", str(temporary), "/tmp"]  # noqa: S108 (its own)
    prefix = Path(sys.base_prefix).resolve()
    if not prefix.is_relative_to("/usr") or prefix.is_relative_to("/usr/local"):
        line += ["--ro-bind-try", str(prefix), str(prefix)]
    line += ["--ro-bind", str(tools), TOOLS_BIN, "--bind", str(home), HOME, "--bind", str(work), workdir]
    return [*line, "--remount-ro", "/", "--chdir", workdir, "--"]
