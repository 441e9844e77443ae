"""Chooses the back-end: Docker where an engine answers, else local folders, unless the profile insists."""

from __future__ import annotations

from pathlib import Path

from thunderctl import paths
from thunderctl.environments.backend import Backend, Progress
from thunderctl.environments.docker import DockerBackend
from thunderctl.environments.local import LocalBackend
from thunderctl.environments.pulls import PullLimits
from thunderctl.errors import PreflightError
from thunderctl.profile import ToolEnvironmentSpec


async def choose_backend(settings: ToolEnvironmentSpec, node: str, node_dir: Path, progress: Progress) -> Backend:
    """``PreflightError`` if the profile insists on one that cannot be used."""
    why = "the profile asks for the local back-end"
    if settings.backend != "local":
        docker = DockerBackend(paths.owner(), node, progress=progress, pulls=PullLimits.from_settings(settings))
        missing = await docker.available()
        if missing is None:
            return docker
        await docker.close()
        if settings.backend == "docker":
            raise PreflightError(
                missing, hint="start the engine, or set environments.backend to auto or local in the profile"
            )
        why = missing
    local = LocalBackend(node_dir)
    missing = await local.available()
    if missing is not None:
        raise PreflightError(missing)
    progress(f"tools run in local folders ({why})")
    return local
