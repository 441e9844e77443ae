"""What a back-end is: the one small set of verbs that the manager knows.

A back-end makes, uses and removes; it keeps no list of what it made. That is the ledger's job, so that another
process can take over after a kill.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from thunderctl.environments.lease import Lease
from thunderctl.environments.spec import EnvironmentSpec, ExecResult, Held, Limits, Network
from thunderctl.profile import ToolEnvironmentSpec

T = TypeVar("T")

COMMIT = (
    "if [ ! -e .git ]; then git init -q && git add -A && "
    "git -c user.name=thunderctl -c user.email=thunderctl@localhost -c commit.gpgsign=false "
    "commit -q --allow-empty -m 'as given'; fi"
)
"""Makes the working directory a repository with one commit, unless it brought its own."""
COMMIT_ENV = {
    "GIT_AUTHOR_DATE": "2000-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2000-01-01T00:00:00Z",
    "GIT_CONFIG_NOSYSTEM": "1",
}
"""Fixed dates: the same files give the same commit, whenever and wherever they are prepared."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A spec with every open question answered by the profile."""

    spec: EnvironmentSpec
    limits: Limits
    network: Network
    image: str | None


@dataclass(frozen=True, slots=True)
class Made:
    """A place that a back-end prepared."""

    place: str
    """What ``Lease.place`` keeps: a container id, or a folder."""
    complete: bool = False
    """Set-up and first commit are in it already: it comes from a layer that was kept."""


def wanted_to_json(wanted: Wanted) -> bytes:
    """For the ledger; :func:`wanted_from_json` is its inverse."""
    return msgspec.json.encode(wanted, enc_hook=str)


def wanted_from_json(text: bytes) -> Wanted:
    """``msgspec.MsgspecError`` if it is none."""
    return msgspec.json.decode(text, type=Wanted, dec_hook=lambda kind, value: kind(value))


@dataclass(frozen=True, slots=True)
class Death:
    """A place that ended without being told to."""

    lease: str
    """The one that the place was made for; it may have been lent to another since."""
    place: str
    why: str


OnDeath = Callable[[Death], None]


class Backend(Protocol):
    """Docker or local. Failures are ``EnvironmentFailure``; a missing prerequisite is ``PreflightError``."""

    name: str
    notice: str | None
    """What the person should know about this back-end's isolation, if anything."""

    async def available(self) -> str | None:
        """``None`` if it can be used, else why not."""
        ...

    async def prepare(self, lease: Lease, wanted: Wanted) -> Made:
        """Make the place and fill it with the files; unless it is complete, set-up is the manager's."""
        ...

    async def fill(self, lease: Lease, wanted: Wanted) -> None:
        """Copy the files of ``wanted`` into a place that was made without any."""
        ...

    async def keep(self, lease: Lease, wanted: Wanted) -> None:
        """The place was set up and nothing runs in it: keep that for the next one like it, where that can be done."""
        ...

    async def exec(
        self, lease: Lease, wanted: Wanted, command: str, timeout_s: float, env: Mapping[str, str]
    ) -> ExecResult:
        """Run ``command`` in the working directory. What it started does not outlive it, nor a cancellation."""
        ...

    async def put_files(self, lease: Lease, wanted: Wanted, contents: Mapping[str, bytes]) -> None: ...

    async def read_file(self, lease: Lease, wanted: Wanted, path: str, max_bytes: int) -> bytes: ...

    async def reclaim(self, lease: Lease) -> None:
        """Remove everything of the lease; what is gone already is fine."""
        ...

    async def sizes(self) -> Held:
        """What environments and their images hold on the disk."""
        ...

    async def tidy(self, settings: ToolEnvironmentSpec, run: str) -> None:
        """Let images go as ``settings.image_policy`` says; ``run`` is one that may need fewer of them than before."""
        ...

    async def ports(self, lease: Lease) -> dict[int, int]:
        """Published ports: the number inside → the number on this machine's loopback."""
        ...

    async def watch(self, on_death: OnDeath) -> None:
        """Tell of every place that ends by itself, once, until cancelled."""
        ...

    async def close(self) -> None: ...


async def to_the_end(work: Awaitable[T]) -> T:
    """Await ``work``; a cancellation is passed on only once it has ended.

    A thread cannot be stopped half-way: whoever left it behind would not know what it made afterwards.
    """
    running = asyncio.ensure_future(work)
    cancelled = False
    while not running.done():
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            if running.cancelled():
                raise
            cancelled = True
        except Exception:  # the work's own; told below
            break
    if cancelled:
        if not running.cancelled():
            running.exception()  # looked at, so that nobody complains that it was not
        raise asyncio.CancelledError
    return running.result()


def describe(error: BaseException) -> str:
    return str(error) or type(error).__name__


Progress = Callable[[str], None]
"""Takes one line for the person about something slow."""
