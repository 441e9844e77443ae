"""Which folders of this machine may show up in an environment: one pure check for every back-end.

A declared mount is something the person asked for, so it is refused with its name and never repaired. Refused is what
would hand over the machine: its root, the kernel's views, its settings, an engine's socket, thunderctl's own state.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path

from thunderctl import paths
from thunderctl.environments.spec import Mount
from thunderctl.errors import EnvironmentFailure

_MACHINE = ("/proc", "/sys", "/dev", "/run", "/etc")
"""Neither these nor anything below them."""
_RESERVED = ("/proc", "/sys", "/dev")
"""Inside, every back-end puts its own view at these places."""
_ENGINE_SOCKETS = ("/var/run/docker.sock", "/run/docker.sock", "/run/podman/podman.sock")


def checked_mounts(mounts: Iterable[Mount]) -> list[Mount]:
    """``mounts`` with links in the source followed and the target tidied up.

    ``EnvironmentFailure`` names the first one that cannot be: a source that is missing, not absolute, neither folder
    nor file, or one of the refused places, below one, or around one; a target that is not absolute, is reserved or
    named twice.
    """
    checked: list[Mount] = []
    for mount in mounts:
        target = _checked_target(mount)
        if any(target == other.target for other in checked):
            raise EnvironmentFailure(f"two mounts have the target {target}", hint="give each a target of its own")
        checked.append(Mount(_checked_source(mount), target, mount.writable))
    return checked


def _checked_source(mount: Mount) -> Path:
    if not mount.source.is_absolute():
        raise EnvironmentFailure(f"the mount source {mount.source} is not absolute", hint="give its full path")
    try:
        source = mount.source.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
        why = error.strerror if isinstance(error, OSError) else "its links go in a circle"
        raise EnvironmentFailure(f"the mount source {mount.source} cannot be used: {why}") from None
    if not source.is_dir() and not source.is_file():
        raise EnvironmentFailure(f"the mount source {mount.source} is neither a folder nor a file")
    for refused, what in _refused():
        if source.is_relative_to(refused) or refused.is_relative_to(source):
            same = f" ({source})" if source != mount.source else ""
            around = "is around" if source != refused and refused.is_relative_to(source) else "is in"
            raise EnvironmentFailure(
                f"the mount source {mount.source}{same} {around} {what} ({refused}) and is refused",
                hint="mount a folder that holds only what the tools need, or copy it with `files`",
            )
    return source


def _refused() -> Iterator[tuple[Path, str]]:
    for name in _MACHINE:
        yield Path(name), "the machine itself"
    yield paths.home().resolve(), "thunderctl's home"
    yield paths.cache().resolve(), "thunderctl's cache"
    chosen = os.environ.get("DOCKER_HOST", "")
    for name in (*_ENGINE_SOCKETS, *([chosen[len("unix://") :]] if chosen.startswith("unix://") else ())):
        yield Path(name).resolve(), "the engine's socket"


def _checked_target(mount: Mount) -> str:
    if not mount.target.startswith("/") or "\0" in mount.target or ".." in mount.target.split("/"):
        raise EnvironmentFailure(
            f"the mount target {mount.target!r} is not an absolute path inside the environment",
            hint="give an absolute path without '..'",
        )
    target = posixpath.normpath("/" + mount.target.lstrip("/"))
    if target == "/" or any(target == name or target.startswith(f"{name}/") for name in _RESERVED):
        raise EnvironmentFailure(
            f"the mount target {mount.target} is reserved", hint=f"not /, nor below {', '.join(_RESERVED)}"
        )
    return target
