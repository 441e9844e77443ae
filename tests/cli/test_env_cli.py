"""``thunderctl env`` against a real daemon with local environments, and on a real terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.commandline import CommandLine, until
from tests.daemon.killable import KillableNode
from thunderctl.cli.env import _chosen
from thunderctl.environments.docker import connect
from thunderctl.environments.images import BASE, Images
from thunderctl.errors import EnvironmentFailure, UsageError

SECRET = "hush-hush"


def a_node(home: Path, backend: str) -> Iterator[KillableNode]:
    node = KillableNode(home)
    node.prepare(workers={"count": 1}, environments={"backend": backend})
    try:
        node.start()
        yield node
    finally:
        node.end()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KillableNode]:
    yield from a_node(tmp_path_factory.mktemp("env") / "home", "local")


@pytest.fixture
def cli(node: KillableNode) -> CommandLine:
    return CommandLine(node.home)


def lease_of(node: KillableNode, program: str, run: str = "", *, wait: bool = True) -> str:
    async def ask() -> str:
        async with node.client() as client:
            return (await client.environment(program, run, env={"PASSWORD": SECRET}, wait=wait)).id

    return asyncio.run(ask())


def env(cli: CommandLine, command: str, *args: str) -> subprocess.CompletedProcess[str]:
    return cli.run("env", command, "--node", "n", *args)


def state_of(node: KillableNode, lease: str) -> str:
    return next(str(row["state"]) for row in node.get("/environments") if row["id"] == lease)


def test_leases_are_listed_with_what_they_hold_and_those_that_are_over_only_on_demand(
    node: KillableNode, cli: CommandLine
) -> None:
    lease, over = lease_of(node, "lister", "run-l"), lease_of(node, "gone", "run-l")
    assert env(cli, "exec", lease, "head -c 300000 /dev/zero > big").returncode == 0
    assert env(cli, "rm", over, "--yes").returncode == 0
    (row,) = (row for row in cli.json("env", "ls", "--node", "n")["environments"] if row["run"] == "run-l")
    assert (row["id"], row["program"], row["state"], row["backend"]) == (lease, "lister", "in_use", "local")
    assert row["bytes"] >= 300_000
    assert over in {row["id"] for row in cli.json("env", "ls", "--node", "n", "--all")["environments"]}
    text = env(cli, "ls").stdout
    assert lease in text and "lister" in text and over not in text


def test_one_lease_is_shown_whole_and_no_value_of_its_variables_with_it(node: KillableNode, cli: CommandLine) -> None:
    lease = lease_of(node, "shown", "run-s")
    text = env(cli, "show", lease[:8])
    assert text.returncode == 0, text.stderr
    for part in (lease, "shown", "run-s", "PASSWORD", "/testbed", "requested", "preparing", "ready", "1024 MiB"):
        assert part in text.stdout
    told = cli.json("env", "show", "--node", "n", lease)
    assert told["spec"]["env"] == ["PASSWORD"] and told["spec"]["limits"]["pids"] == 256
    assert [move["state"] for move in told["states"]] == ["requested", "preparing", "ready"]
    assert told["place"].endswith(lease)
    assert SECRET not in text.stdout and SECRET not in str(told)


def test_a_command_runs_in_the_environment_and_gives_its_output_and_its_code(
    node: KillableNode, cli: CommandLine
) -> None:
    lease = lease_of(node, "worker")
    done = env(cli, "exec", lease, "pwd; echo wrong >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "/testbed\nwrong\n", "")
    assert env(cli, "exec", lease, "--", "printf", "%s|", "two words", "-n").stdout == "two words|-n|"
    assert cli.json("env", "exec", "--node", "n", lease[:10], "echo $PASSWORD")["output"] == f"{SECRET}\n"


def test_a_command_ends_at_the_timeout_that_was_given(node: KillableNode, cli: CommandLine) -> None:
    done = env(cli, "exec", "--timeout", "0.5", lease_of(node, "slow"), "echo begun; sleep 1000")
    assert done.returncode in (124, 137)
    assert done.stdout == "begun\n" and "was ended after" in done.stderr


def test_a_command_in_an_announced_environment_waits_until_it_is_prepared(node: KillableNode, cli: CommandLine) -> None:
    lease = lease_of(node, "announced", wait=False)
    assert env(cli, "exec", lease, "echo here").stdout == "here\n"


def test_the_agent_of_a_reclaimed_environment_is_told_at_its_next_command(node: KillableNode, cli: CommandLine) -> None:
    lease = lease_of(node, "told")
    done = env(cli, "rm", lease[:9], "--yes")
    assert done.returncode == 0 and "reclaimed 1" in done.stdout
    assert not (node.folder / "environments" / lease).exists()

    async def next_command() -> None:
        async with node.client() as client:
            from thunderctl.agents.client import Lease

            await client.execute(Lease(lease, 0.0), "ls")

    with pytest.raises(EnvironmentFailure, match="reclaimed with `thunderctl env rm`"):
        asyncio.run(next_command())
    again = env(cli, "rm", lease, "--yes")
    assert again.returncode == 0 and "nothing to do" in again.stdout
    assert "is over" in env(cli, "exec", lease, "ls").stderr


def test_a_programs_and_a_runs_environments_go_together_and_no_others(node: KillableNode, cli: CommandLine) -> None:
    mine = [lease_of(node, "p-1", "run-x"), lease_of(node, "p-1", "run-x"), lease_of(node, "p-2", "run-x")]
    other = lease_of(node, "p-3", "run-y")
    assert cli.json("env", "rm", "--node", "n", "--program", "p-1")["reclaimed"] == mine[:2]
    assert [state_of(node, lease) for lease in [*mine, other]] == ["reclaimed", "reclaimed", "ready", "ready"]
    assert cli.json("env", "rm", "--node", "n", "--run", "run-x") == {"reclaimed": mine[2:], "failed": {}}
    assert state_of(node, other) == "ready"


@pytest.mark.parametrize(
    ("args", "mention"),
    [
        (["show", "zz"], "no lease 'zz'"),
        (["exec", "nobody", "ls"], "no lease 'nobody'"),
        (["shell", "nobody"], "no lease 'nobody'"),
        (["rm"], "say which environments"),
        (["rm", "abc", "--program", "p"], "say which environments"),
        (["rm", "--program", "listr", "--yes"], "lister"),
        (["rm", "--run", "no-such", "--yes"], "no environment belongs to the run"),
    ],
)
def test_a_mistake_is_one_clear_error(node: KillableNode, cli: CommandLine, args: list[str], mention: str) -> None:
    lease_of(node, "lister")
    done = env(cli, *args)
    assert done.returncode == 2
    assert mention in done.stderr and "Traceback" not in done.stderr


def test_without_a_node_every_command_says_how_to_get_one(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path / "home")
    for args in (["ls"], ["show", "x"], ["exec", "x", "ls"], ["shell", "x"], ["rm", "x"]):
        done = cli.run("env", *args)
        assert done.returncode == 1 and "thunderctl up" in done.stderr


LEASES = [{"id": "3f9a11", "program": "a", "state": "ready"}, {"id": "3f9b22", "program": "b", "state": "reclaimed"}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("3f9", "2 leases begin with '3f9'"),
        ("3f8a", "no lease '3f8a'"),
        ("", "2 leases|no lease"),
        ("b", "is a program, not a lease"),
    ],
)
def test_an_abbreviation_that_is_none_or_several_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        _chosen(LEASES, text)


def test_a_misspelt_lease_gets_a_suggestion() -> None:
    with pytest.raises(UsageError) as refused:
        _chosen(LEASES, "3f9a12")
    assert refused.value.hint is not None and "3f9a11" in refused.value.hint
    assert _chosen(LEASES, "3f9a")["id"] == "3f9a11"


class Terminal:
    """A command on a pseudo-terminal, and somebody who types."""

    def __init__(self, cli: CommandLine, *args: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "thunderctl.cli.main", *args],
            env={**cli.env, "TERM": "dumb"}, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.seen = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def types(self, line: str) -> None:
        os.write(self._master, line.encode() + b"\n")

    def interrupts(self) -> None:
        """Ctrl-C."""
        os.write(self._master, b"\x03")
        self.reads(until_it_says="^C")  # what was typed before it is thrown away with it

    def reads(self, *, until_it_says: str) -> str:
        assert self._hears(until_it_says, 60), f"it did not say {until_it_says!r}: {self.seen!r}"
        return self.seen.decode()

    def ends(self) -> int:
        """The code with which it ends; until then somebody reads what it still says, as a terminal does."""
        end = time.monotonic() + 60
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it did not end: {self.seen!r}"
            self._hears("\0never", 0.1)
        return self.process.wait()

    def _hears(self, words: str, within_s: float) -> bool:
        end = time.monotonic() + within_s
        while words.encode() not in self.seen:
            ready, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
            try:
                data = os.read(self._master, 4096) if ready else b""
            except OSError:  # the other end is closed
                data = b""
            if not data:
                return False
            self.seen += data
        return True


def has_a_terminal_of_its_own(there: Terminal) -> None:
    there.types("pwd; tty; echo pass=$PASSWORD; echo $((6*7))done")
    said = there.reads(until_it_says="42done")
    assert "/testbed" in said and f"pass={SECRET}" in said and "not a tty" not in said
    # The command itself says that it runs: a shell that is interrupted while it starts one loses track of it.
    there.types("sh -c 'echo $((3*3))begun; exec sleep 1000'")
    there.reads(until_it_says="9begun")
    there.interrupts()  # the command, and neither the shell nor thunderctl
    there.types("echo $((5*5))after; exit 5")
    there.reads(until_it_says="25after")
    assert there.ends() == 5


def test_a_shell_has_the_place_the_variables_and_a_terminal_of_its_own(node: KillableNode, cli: CommandLine) -> None:
    lease = lease_of(node, "shelled")
    with Terminal(cli, "env", "shell", "--node", "n", lease) as there:
        has_a_terminal_of_its_own(there)


def test_reclaiming_an_environment_ends_the_shells_in_it(node: KillableNode, cli: CommandLine) -> None:
    lease = lease_of(node, "shelled")
    with Terminal(cli, "env", "shell", "--node", "n", lease) as there:
        there.types("echo $((6*7))done")
        there.reads(until_it_says="42done")
        assert env(cli, "rm", lease, "--yes").returncode == 0
        there.ends()
    assert not (node.folder / "environments" / lease).exists()


def test_a_shell_that_loses_its_terminal_leaves_nothing(node: KillableNode, cli: CommandLine) -> None:
    lease = lease_of(node, "hung-up")
    with Terminal(cli, "env", "shell", "--node", "n", lease) as there:
        there.types("echo $((6*7))done; sleep 1234")
        there.reads(until_it_says="42done")
        there.process.kill()
    assert "none" in env(cli, "exec", lease, "ps ax 2>/dev/null | grep -q '[s]leep 1234' || echo none").stdout
    until(lambda: not [p for p in cli.processes() if "1234" in p.cmdline()], 30)


def test_a_shell_without_a_terminal_is_refused_and_says_what_to_do(node: KillableNode, cli: CommandLine) -> None:
    done = env(cli, "shell", lease_of(node, "blind"))
    assert done.returncode == 2
    assert "needs a terminal" in done.stderr and "thunderctl env exec" in done.stderr


@pytest.fixture
def docker_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KillableNode]:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path / "home"))
    with closing(connect()) as engine:
        Images(engine).ensure(BASE)
    yield from a_node(tmp_path / "home", "docker")


@pytest.mark.docker
def test_a_shell_in_a_container_is_the_tools_user_at_the_tools_place(docker_node: KillableNode) -> None:
    cli, lease = CommandLine(docker_node.home), lease_of(docker_node, "shelled")
    expected = env(cli, "exec", lease, "id -u").stdout
    with Terminal(cli, "env", "shell", "--node", "n", lease) as there:
        there.types("echo user=$(id -u)=; cat /proc/self/status | grep CapEff")
        said = there.reads(until_it_says="CapEff:")
        assert f"user={expected.strip()}=" in said
        has_a_terminal_of_its_own(there)
    assert env(cli, "rm", lease, "--yes").returncode == 0
