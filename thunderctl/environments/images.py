"""Images: from what a spec says to the name of an image on the engine, brought at most once however many ask for it.

Threads and processes take turns by image; what was brought is written down (:mod:`image_store`), since only that may
ever be removed again. Everything here blocks and runs in a thread, save :meth:`Images.bring`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound

from thunderctl import paths
from thunderctl.environments import packages, recipes
from thunderctl.environments.backend import Progress
from thunderctl.environments.image_store import brought, image_lock, note_use, record, write_down
from thunderctl.environments.pulls import PullLimits, Pulls
from thunderctl.environments.recipes import OWN
from thunderctl.environments.turns import turn
from thunderctl.errors import EnvironmentFailure

__all__ = ["BASE", "Images", "brought"]

BASE = recipes.BASES["default"].tag
"""The image of a workload that names none: Debian, Python 3.11 (also as ``python``) and git."""

_HOW = {"base": "built", "build": "built", "import": "imported", "prepared": "prepared", "task": "built"}
"""How an image of that name below ``OWN`` comes about."""
BRINGING_AT_ONCE = 64
"""Threads for images that are being brought; most of them wait for a slot."""


class Images:
    """The images that environments start from."""

    def __init__(self, client: docker.DockerClient, limits: PullLimits | None = None) -> None:
        self._client = client
        self._stop = threading.Event()
        self._pulls = Pulls(client, limits or PullLimits(), self._stop)
        self._threads = ThreadPoolExecutor(BRINGING_AT_ONCE, thread_name_prefix="images")
        self._under_way: dict[str, asyncio.Future[str]] = {}

    def ensure(self, source: str, progress: Progress = lambda line: None, *, run: str = "") -> str:
        """The name of the image that ``source`` means, once it is on this engine.

        ``source``: a name, ``base:NAME``, ``build:FOLDER`` or ``import:FILE``. ``run``: who needs it, for the record.
        ``EnvironmentFailure`` says why it cannot be had.
        """
        with _engine_answers():
            name = recipes.name_of(source)
            if not self._at_hand(name):
                wait = functools.partial(progress, f"{name} is being brought by somebody else")
                with turn(image_lock(name), stop=self._stop, waiting=wait):
                    if not self._at_hand(name):
                        how = self._bring(source, name, progress, run)
                        write_down(name, self.id_of(name), how, run)
            note_use(name)
            return name

    async def bring(self, source: str, progress: Progress = lambda line: None, *, run: str = "") -> str:
        """As :meth:`ensure`, in threads of its own: pulls may wait for an hour, and commands must not wait for them.

        Whoever is cancelled leaves at once; the image comes all the same, for the others and for later.
        """
        coming = self._under_way.get(source)
        if coming is None:
            work = functools.partial(self.ensure, source, progress, run=run)
            coming = asyncio.get_running_loop().run_in_executor(self._threads, work)
            self._under_way[source] = coming
            coming.add_done_callback(functools.partial(self._arrived, source))
        return await asyncio.shield(coming)

    def close(self) -> None:
        """Call off what is under way, without waiting for it."""
        self._stop.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def present(self, name: str) -> bool:
        try:
            self._client.images.get(name)
        except ImageNotFound:
            return False
        return True

    def id_of(self, name: str) -> str:
        """The engine's id of an image that is there; ``EnvironmentFailure`` if it is not."""
        try:
            return str(self._client.images.get(name).id)
        except ImageNotFound:
            raise EnvironmentFailure(f"the image {name} is not on this engine any more") from None

    def _arrived(self, source: str, coming: asyncio.Future[str]) -> None:
        self._under_way.pop(source, None)
        if not coming.cancelled():
            coming.exception()  # looked at, in case nobody is left to do so

    def _at_hand(self, name: str) -> bool:
        """Whether the image is there. One of our own that is not in the record (its maker was killed) gets into it."""
        try:
            found = self._client.images.get(name)
        except ImageNotFound:
            return False
        if (
            name.startswith(OWN)
            and found.labels.get(recipes.OWNER) == paths.owner()
            and name not in record()
            and _kind(name) in _HOW
        ):
            write_down(name, str(found.id), _HOW[_kind(name)])
        return True

    def _bring(self, source: str, name: str, progress: Progress, run: str) -> str:
        """How it was brought."""
        kind, _, rest = source.partition(":")
        base = recipes.base_of(name)
        if kind == "build":
            return self._build(recipes.build_folder(rest), name, progress, run)
        if kind == "import":
            recipes.import_tar(self._client, recipes.import_file(rest), name, progress)
            return "imported"
        if base is not None:
            return self._base(base, progress, run)
        kit = packages.set_of(name)
        if kit is not None:
            self.ensure("base:default", progress, run=run)
            recipes.build_with_packages(self._client, kit, progress, self._stop)
            return "built"
        if name.startswith(OWN):
            raise EnvironmentFailure(
                f"the image {name} is not on this engine, and images of that name are made here, not pulled",
                hint="`thunderctl env image build` makes those of a workload",
            )
        self._pulls.pull(name, progress)
        return "pulled"

    def _base(self, base: recipes.Base, progress: Progress, run: str) -> str:
        try:
            if not self._at_hand(base.start):
                self._pulls.pull(base.start, progress, patient=False)
                write_down(base.start, self.id_of(base.start), "pulled", run)
            recipes.build_base(self._client, base, progress, self._stop)
            return "built"
        except (EnvironmentFailure, DockerException) as error:
            no_registry = str(error)
        progress(f"no registry answers; making {base.tag} with debootstrap (about a minute)")
        recipes.debootstrap_base(self._client, base, no_registry, self._stop)
        return "imported"

    def _build(self, folder: Path, name: str, progress: Progress, run: str) -> str:
        for below in recipes.images_below(folder):  # else the engine would pull it, outside all limits
            self.ensure(below, progress, run=run)
        recipes.build(self._client, folder, name, progress, self._stop)
        return "built"


def _kind(name: str) -> str:
    return name.removeprefix(OWN).partition(":")[0]


@contextlib.contextmanager
def _engine_answers() -> Iterator[None]:
    try:
        yield
    except APIError as error:
        raise EnvironmentFailure(f"the Docker engine refused: {error.explanation or error}") from error
    except (DockerException, requests.RequestException) as error:
        raise EnvironmentFailure(f"the Docker engine does not answer: {error}") from error
