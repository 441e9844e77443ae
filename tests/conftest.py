"""A real vLLM on the CPU, started once for all tests that are marked ``engine``."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import settings

from tests.commandline import CommandLine
from thunderctl.profile import Profile
from thunderctl.workers.engine import EngineEnvironment, ensure_engine
from thunderctl.workers.launch import Worker
from thunderctl.workers.model import ensure_small_model

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_configure() -> None:
    """Ctrl-C works in every test: what a shell starts in the background inherits SIGINT as ignored, children too.
    And no test inherits the size of a terminal: readline tells that of pytest's to the processes of ``-n``."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    """``thunderctl`` in a home of its own."""
    line = CommandLine(tmp_path / "home")
    yield line
    for process in line.processes():  # only what a failed test left in its own home
        process.kill()


@pytest.fixture(scope="session")
def engine_environment() -> EngineEnvironment:
    """``THUNDERCTL_TEST_ENGINE_PYTHON`` names an interpreter that has vLLM; without it one is installed."""
    given = os.environ.get("THUNDERCTL_TEST_ENGINE_PYTHON")
    return ensure_engine("cpu", python=Path(given) if given else None, progress=print)


@pytest.fixture(scope="session")
def small_model(engine_environment: EngineEnvironment) -> Path:
    return ensure_small_model(engine_environment.python, print)


@pytest.fixture(scope="session")
def engine_profile() -> Profile:
    """Small enough that a few long contexts fill the KV cache."""
    return Profile.model_validate(
        {
            "name": "test",
            "model": {"served_name": "small", "max_model_len": 8192},
            "workers": {"kv_tokens": 16384, "block_size": 32, "replay": True},
        }
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine_worker(
    engine_environment: EngineEnvironment,
    small_model: Path,
    engine_profile: Profile,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Worker]:
    """A ready worker with replay: ``url``, ``facts``, ``pid``. Tests must not stop it."""
    log = tmp_path_factory.mktemp("engine") / "worker-0.log"
    worker = Worker(engine_profile, 0, engine_environment, small_model, log)
    await worker.start()
    try:
        await worker.wait_ready(print)
        yield worker
    finally:
        await worker.stop()
