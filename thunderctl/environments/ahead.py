"""Brings what a workload's environments start from before a run begins: one clear error instead of one an agent.

Only bundled bases (``base:NAME``): they are few, and made here. Blocks; progress is told line by line.
"""

from __future__ import annotations

import contextlib

import docker

from thunderctl.environments.docker import connect
from thunderctl.environments.images import Images
from thunderctl.environments.packages import Progress, ensure_packages, set_of
from thunderctl.errors import EnvironmentFailure, PreflightError
from thunderctl.profile import ToolEnvironmentSpec


def bring_base(image: str | None, settings: ToolEnvironmentSpec, progress: Progress = lambda line: None) -> None:
    """The image of ``base:NAME`` on the engine, or its packages in the cache where environments are local folders.

    Raises:
        PreflightError: it cannot be had. An engine that does not answer is not this function's to tell.
    """
    client = None if settings.backend == "local" else _engine()
    if client is not None:
        with contextlib.closing(client):
            wanted = settings.image or image
            if wanted is not None and wanted.startswith("base:"):
                _bring(client, wanted, progress)
        return
    packages = set_of(image)
    if packages is not None and settings.backend != "docker":
        ensure_packages(packages, progress=progress)


def _engine() -> docker.DockerClient | None:
    try:
        return connect()
    except EnvironmentFailure:
        return None


def _bring(client: docker.DockerClient, image: str, progress: Progress) -> None:
    try:
        Images(client).ensure(image, progress)
    except EnvironmentFailure as failure:
        raise PreflightError(failure.message, hint=failure.hint, details=failure.details) from failure
