"""A program of code without asyncio ends when its code does, whatever way that is."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading

import pytest

from tests.runs.stub_node import a_stub_node
from thunderctl.errors import DaemonError
from thunderctl.integrations.program import Program


def use(program: Program) -> str:
    """A model call and a command; what the command printed."""
    answer = program.chat([{"role": "user", "content": "go"}], max_tokens=8, replay="ls")
    program.environment()
    return f"{answer.content}: {program.execute('ls').output}"


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name == "thunderctl program"}


async def test_calls_and_commands_go_under_its_name_and_it_is_released_once() -> None:
    async with a_stub_node() as node:

        def work() -> str:
            with Program("mine", client=node.client()) as program:
                said = use(program)
                program.release()
                return said

        assert await asyncio.to_thread(work) == "ls: done"
        assert node.engine.calls[0]["program_id"] == "mine"
        assert node.released == ["mine"] and not threads()


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
async def test_it_is_released_although_its_code_fails(failure: type[BaseException]) -> None:
    async with a_stub_node() as node:

        def work() -> None:
            with pytest.raises(failure), Program("mine", client=node.client()) as program:
                use(program)
                raise failure

        await asyncio.to_thread(work)
        assert node.released == ["mine"] and not threads()


async def test_it_is_released_when_nobody_refers_to_it_any_more() -> None:
    async with a_stub_node() as node:

        def work() -> None:
            use(Program("mine", client=node.client()))
            gc.collect()

        await asyncio.to_thread(work)
        assert node.released == ["mine"] and not threads()


async def test_it_is_released_when_python_ends() -> None:
    script = (
        "import sys\nfrom thunderctl.agents.client import DaemonClient\n"
        "from thunderctl.integrations.program import Program\n"
        "kept = Program('mine', client=DaemonClient(sys.argv[1], model='small'))\n"
        "kept.environment()\nraise SystemExit(3)"
    )
    async with a_stub_node() as node:
        command = [sys.executable, "-c", script, node.url]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (3, "")
        assert node.released == ["mine"]


def test_without_a_node_there_is_no_program(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path_factory.mktemp("home")))
    with pytest.raises(DaemonError, match="no node is up"):
        Program()


async def test_a_daemon_that_is_gone_does_not_hide_why_the_code_failed() -> None:
    async with a_stub_node() as node:
        client = node.client()
    client.patience_s = 0.0

    def work() -> None:
        with pytest.raises(RuntimeError) as caught, Program("mine", client=client):
            raise RuntimeError("first")
        assert "mine was not released" in caught.value.__notes__[0]

    await asyncio.to_thread(work)
    assert not threads()
