"""A home of its own for every test, and managers that give everything back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import docker
import psutil
import pytest

from thunderctl import paths
from thunderctl.environments import local
from thunderctl.environments.docker import connect
from thunderctl.environments.images import BASE, Images
from thunderctl.environments.lease import LeaseLedger
from thunderctl.environments.manager import EnvironmentManager
from thunderctl.node import NodeRecord, write_node
from thunderctl.profile import ToolEnvironmentSpec

MakeManager = Callable[..., Awaitable[EnvironmentManager]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("THUNDERCTL_HOME", str(folder))
    return folder


@pytest.fixture
def no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    """A client of the Docker engine that answers."""
    with contextlib.closing(connect()) as client:
        yield client


@pytest.fixture
def docker_image(home: Path) -> str:
    """The bundled base image, made if it is missing."""
    with contextlib.closing(connect()) as client:
        Images(client).ensure(BASE)
    return BASE


def record_of(pid: int) -> NodeRecord:
    created = psutil.Process(pid).create_time()
    return NodeRecord(pid, created, "http://127.0.0.1:1", "test", "0", created)


def live_node(name: str) -> Path:
    """A node folder that this very process owns."""
    folder = paths.nodes() / name
    write_node(folder, record_of(os.getpid()))
    return folder


def dead_node(name: str) -> Path:
    """A node folder whose process cannot be alive: this pid, but of another start."""
    folder = paths.nodes() / name
    write_node(folder, NodeRecord(os.getpid(), 1_000_000.0, "http://127.0.0.1:1", "test", "0", 1_000_000.0))
    return folder


@pytest.fixture
async def make_manager(home: Path) -> AsyncIterator[MakeManager]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(node: str = "n1", *, take_over: bool = False, **settings: object) -> EnvironmentManager:
            folder = live_node(node)
            said = {"backend": "local", **settings}
            on_event = said.pop("on_event", lambda kind, lease: None)
            ledger = LeaseLedger(folder / "state.db")
            manager = EnvironmentManager(
                ToolEnvironmentSpec.model_validate(said),
                ledger,
                folder,
                node,
                on_event=on_event,  # type: ignore[arg-type]
            )
            await manager.start(take_over=take_over)
            stack.callback(ledger.close)
            stack.push_async_callback(manager.close)
            return manager

        yield make


@pytest.fixture(params=["bubblewrap", "plain"])
async def local_manager(
    request: pytest.FixtureRequest, make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch
) -> EnvironmentManager:
    """One with bubblewrap, where it works, and one without."""
    if request.param == "plain":
        which = local.shutil.which
        monkeypatch.setattr(local.shutil, "which", lambda n, path=None: None if n == "bwrap" else which(n, path=path))
        return await make_manager()
    made = await make_manager()
    assert isinstance(made.backend, local.LocalBackend)
    if made.backend._bwrap is None:
        pytest.skip(made.backend.notice or "no bubblewrap")
    return made
