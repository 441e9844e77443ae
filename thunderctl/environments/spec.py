"""What an environment is asked for, and what comes back from it: plain values, no behaviour.

Nothing here knows a back-end. Times are in seconds, sizes in the unit their name ends in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from thunderctl.profile import ToolEnvironmentSpec

Network = Literal["none", "bridge"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one environment may use at most."""

    cpus: float = 1.0
    memory_mib: int = 1024
    pids: int = 256
    exec_timeout_s: float = 60.0
    output_bytes: int = 1_000_000
    wall_s: float = 43_200.0
    """Longest life of the environment, from the moment it is ready."""
    disk_mib: int = 10_240
    """What the environment may write, beyond its image."""

    @classmethod
    def from_settings(cls, settings: ToolEnvironmentSpec) -> Limits:
        return cls(
            cpus=settings.cpus,
            memory_mib=settings.memory_mib,
            pids=settings.pids,
            exec_timeout_s=settings.exec_timeout_s,
            output_bytes=settings.output_bytes,
            wall_s=settings.wall_s,
            disk_mib=settings.disk_mib,
        )


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of this machine that shows up in the environment. Only declared ones do."""

    source: Path
    target: str
    """Absolute path inside."""
    writable: bool = False


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """One tool environment, as a workload describes it. What is ``None`` comes from the profile."""

    image: str | None = None
    """Where its file system comes from; the local back-end has no images. ``None`` is the bundled base image.

    A plain name is an image of the engine, pulled if it is missing. ``base:NAME`` is a bundled recipe
    (``base:default``), ``build:FOLDER`` a folder with a Dockerfile, ``import:FILE`` a tar of a root file system.
    """
    files: Path | None = None
    """A folder whose content becomes the working directory. Links that leave it are refused."""
    setup: tuple[str, ...] = ()
    """Commands run once, in order, after the copy and before the first commit. Docker keeps what they made as a layer:
    the next environment of the same image, files and commands starts from there."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables of every command; nothing else of the daemon's own environment gets in."""
    limits: Limits | None = None
    network: Network | None = None
    mounts: tuple[Mount, ...] = ()
    ports: tuple[int, ...] = ()
    """Ports of a server inside, published on this machine's loopback under numbers that the engine chooses. They want
    ``network="bridge"``."""
    user: str | None = None
    """User of the tools; ``None`` is the one that the image names."""
    workdir: str = "/testbed"
    git: bool = True
    """Commit the prepared working directory once, so that ``git diff`` shows what the program did."""


@dataclass(frozen=True, slots=True)
class ExecResult:
    """One command, carried out."""

    output: str
    """Standard output and error in the order they were written; the middle is missing if it was too long."""
    returncode: int
    """As a shell tells it: 128 + n for a command that signal n ended."""
    duration_s: float
    timed_out: bool = False
    truncated_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Bytes that environments hold, sampled; ``by_kind`` sums up to ``bytes_now``."""

    bytes_now: int
    by_kind: dict[str, int]
    """``containers``: writable layers; ``images``: layers that only images of this home have; ``build cache``: those of
    them that are kept of set-up commands; ``volumes``; ``folders``: of local environments."""
    collected_bytes: int = 0
    """What reclaimed environments and removed images held. Without collection it would be here besides."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a back-end measured, in bytes."""

    by_lease: dict[str, int]
    """An environment that was reclaimed stands here once more, with what it held at the end."""
    by_kind: dict[str, int]
    """Of what is there now."""
    gone_images: int = 0
    """Layers that only images of this home needed and that are gone, since the back-end began."""
