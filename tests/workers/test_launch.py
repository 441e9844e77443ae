"""Processes and ports without an engine: what a worker does when its server cannot even begin, and the held port."""

from __future__ import annotations

import errno
import socket
import sys
from pathlib import Path

import pytest

from thunderctl.errors import EngineError
from thunderctl.profile import Profile
from thunderctl.workers.engine import EngineEnvironment
from thunderctl.workers.launch import Worker, hold_port


@pytest.mark.parametrize("option", [socket.SO_REUSEADDR, socket.SO_REUSEPORT])
def test_a_held_port_can_be_taken_by_a_server_that_reuses_it(option: int) -> None:
    holder, port = hold_port()
    with holder, socket.socket() as server, socket.socket() as client:
        server.setsockopt(socket.SOL_SOCKET, option, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        client.connect(("127.0.0.1", port))
        server.accept()[0].close()


def test_a_held_port_is_given_to_nobody_else() -> None:
    holder, port = hold_port()
    with holder:
        with socket.socket() as plain:
            with pytest.raises(OSError) as caught:
                plain.bind(("127.0.0.1", port))
            assert caught.value.errno == errno.EADDRINUSE
        others = [hold_port() for _ in range(200)]
        assert port not in {other for _, other in others}
        assert len({other for _, other in others}) == 200
        for other, _ in others:
            other.close()


def worker(python: Path, log: Path) -> Worker:
    profile = Profile(name="test")
    return Worker(profile, 0, EngineEnvironment("cpu", "0", python, None), "/no/model", log)


async def test_an_interpreter_without_vllm_ends_at_once_with_its_own_words(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "worker-0.log"
    here = worker(Path(sys.executable), log)
    await here.start()
    with pytest.raises(EngineError, match=r"ended while it was starting \(exit code 1\)") as caught:
        await here.wait_ready()
    assert "No module named 'vllm'" in caught.value.details[-1]
    assert str(log) in (caught.value.hint or "")
    assert await here.wait() == 1
    assert not here.alive
    await here.stop()
    await here.stop()


async def test_an_interpreter_that_is_not_there_is_an_engine_error(tmp_path: Path) -> None:
    nowhere = worker(tmp_path / "python", tmp_path / "worker.log")
    with pytest.raises(EngineError, match="could not be started"):
        await nowhere.start()
    assert not nowhere.alive
    await nowhere.stop()


async def test_a_server_that_is_never_ready_is_given_up_and_stopped_though_it_ignores_sigterm(tmp_path: Path) -> None:
    stubborn = tmp_path / "python"
    stubborn.write_text(
        f"#!{sys.executable}\n"
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork() == 0: os.setsid()\n"  # a descendant in a session of its own
        "print('RuntimeError: still thinking', flush=True)\n"
        "time.sleep(600)\n"
    )
    stubborn.chmod(0o755)
    profile = Profile.model_validate({"name": "test", "workers": {"startup_timeout_s": 1, "stop_grace_s": 0.5}})
    here = Worker(profile, 0, EngineEnvironment("cpu", "0", stubborn, None), "/no/model", tmp_path / "worker.log")
    await here.start()
    with pytest.raises(EngineError, match="not ready after 1 s") as caught:
        await here.wait_ready()
    assert caught.value.details == ["RuntimeError: still thinking"]
    members = here._members()
    assert len(members) == 2
    await here.stop()
    assert await here.wait() == -9
    assert not [one for one in members if one.is_running() and one.status() != "zombie"]
