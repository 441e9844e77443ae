"""What the state machine of the promises knows, and what it asks after each step and at the end of each sequence.

It judges by the ledgers' tables and by the engine, never by the code that it watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import docker
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

from tests.environments.promise_parts import Daemon, Engine, Thing, using
from thunderctl import paths
from thunderctl.environments import collector, remains
from thunderctl.environments.collector import GcPlan
from thunderctl.environments.lease import ACTIVE, Lease
from thunderctl.environments.spec import EnvironmentSpec
from thunderctl.errors import EnvironmentFailure, PreflightError

T = TypeVar("T")

NODES = ("n1", "n2")


class World(RuleBasedStateMachine):
    """Subclasses name the engine and the rules."""

    happened: Counter[str]
    """Over all sequences: a machine that never gets anywhere proves nothing."""
    keeps_set_up = False
    """Whether environments may leave images behind: layers of their set-up, for the next ones."""

    def new_engine(self, folder: Path) -> Engine:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.ExitStack()
        folder = Path(tempfile.mkdtemp(prefix="promises-"))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        self.folder = folder
        self._stack.enter_context(mock.patch.dict(os.environ, {"THUNDERCTL_HOME": str(folder / "home")}))
        self.engine = self.new_engine(folder)
        self._stack.callback(self.engine.close)
        self._client = docker.DockerClient(base_url=self.engine.hand, version="1.41", timeout=30)
        self._stack.callback(self._client.close)
        self._collectors = self.engine.line(folder / "gc.sock")
        self.owner = paths.owner()
        self.daemons: dict[str, Daemon] = {}
        self._lives: list[Daemon] = []
        self.foreign: set[Thing] = set()
        self._foreign_clean_up: list[Callable[[], None]] = []
        self.healthy = True
        """Whether every call may be expected to succeed."""
        self.plan: GcPlan | None = None
        self.closes = True

    @initialize(closes=st.booleans(), take_over=st.booleans())
    def begin(self, closes: bool, take_over: bool) -> None:
        """``closes``: whether all ends well or with a crash."""
        self.closes = closes
        self._start("n1", take_over)

    # ------------------------------------------------------------------ what the machine knows

    def things(self) -> list[Thing]:
        return self.engine.things(self._client)

    def ours(self) -> list[Thing]:
        return [each for each in self.things() if each.label("owner") == self.owner and each.label("lease")]

    def leases_with_containers(self) -> set[str]:
        return {thing.label("lease") for thing in self.ours() if thing.kind == "container"}

    def rows(self, node: str) -> dict[str, tuple[str, str | None]]:
        """State and place of every lease of a node, read past the ledger's own code."""
        file = paths.nodes() / node / "state.db"
        if not file.exists():
            return {}
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
            try:
                return {row[0]: (row[1], row[2]) for row in db.execute("SELECT id, state, place FROM leases")}
            except sqlite3.OperationalError:
                return {}

    def protected(self, thing: Thing) -> bool:
        """Whether a live node has an active lease for it."""
        node = thing.label("node")
        return node in self.daemons and self.rows(node).get(thing.label("lease"), ("",))[0] in ACTIVE

    def collectable(self, thing: Thing, grace_s: float) -> bool:
        if thing.label("owner") != self.owner:
            return False
        if thing.kind == "network" and not thing.label("lease"):  # shared by all environments of this home
            users = [each for each in self.things() if each.kind == "container" and thing.name in each.uses]
            return not grace_s and all(self.collectable(each, grace_s) for each in users)
        if not thing.label("lease") or self.protected(thing):
            return False
        dead = thing.label("node") not in self.daemons and (paths.nodes() / thing.label("node") / "node.json").exists()
        return dead or not grace_s

    # ------------------------------------------------------------------ daemons

    def _start(self, node: str, take_over: bool) -> None:
        try:
            daemon = Daemon(self.engine, node, self.folder / f"{len(self._lives)}.sock", take_over)
        except PreflightError:
            assert not self.healthy
            return
        self.daemons[node] = daemon
        self._lives.append(daemon)

    def _close(self, daemon: Daemon) -> None:
        try:
            daemon.close()
        except EnvironmentFailure:
            assert not self.healthy
        else:
            if self.healthy:
                assert not daemon.leases & self.leases_with_containers()
        daemon.crash()  # nothing of it is left, and its record is a dead process's
        del self.daemons[daemon.node]

    def _daemon(self, pick: int) -> Daemon | None:
        """One that lives, or a new one; ``None`` where none can be started."""
        if not self.daemons:
            self._start(NODES[pick % len(NODES)], take_over=pick % 2 == 0)
        return list(self.daemons.values())[pick % len(self.daemons)] if self.daemons else None

    def _lease(self, pick: int, *states: str) -> tuple[Daemon, str] | None:
        """One in one of ``states``, or a new one; ``None`` where none can be had."""
        found = [
            (daemon, lease)
            for daemon in self.daemons.values()
            for lease, (state, _) in self.rows(daemon.node).items()
            if state in (states or ("ready", "in_use"))
        ]
        if found:
            return found[pick % len(found)]
        made = self._request(pick)
        return None if made is None else (made[0], made[1].id)

    def _request(self, pick: int, program: str = "p", **spec: bool) -> tuple[Daemon, Lease] | None:
        daemon = self._daemon(pick)
        if daemon is None:
            return None
        lease = self._try(daemon, daemon.manager.request(program, "r", self._spec(**spec)))
        if lease is None:
            return None
        self.happened["ready"] += 1
        self.happened["set up"] += self.keeps_set_up and bool(spec.get("setup"))
        assert lease.state == "ready"
        assert lease.place in {thing.id for thing in self.ours()}
        return daemon, lease

    def _try(self, daemon: Daemon, work: Coroutine[Any, Any, T]) -> T | None:
        """Its answer, or ``None`` if it failed as it may: with an ``EnvironmentFailure``, and on a bad day."""
        try:
            return daemon.do(work)
        except EnvironmentFailure as error:
            assert not self.healthy, f"{error} {error.details}"
            return None

    def _ended(self, daemon: Daemon, lease: str) -> bool:
        """Whether its container is there and has ended: the engine was stopped under it."""
        place = self.rows(daemon.node)[lease][1]
        return any(thing.id == place and not thing.running for thing in self.things())

    def _must_fail(self, daemon: Daemon, lease: str, work: Coroutine[Any, Any, Any]) -> None:
        try:
            daemon.do(work)
        except EnvironmentFailure:
            if self.healthy:
                self.happened["command in an ended container"] += 1
                daemon.do(self._over(daemon, lease))
        else:
            raise AssertionError("a command ran in a container that has ended")

    async def _over(self, daemon: Daemon, lease: str) -> None:
        while self.rows(daemon.node)[lease][0] not in ("failed", "reclaimed"):
            await asyncio.sleep(0.01)

    def _spec(
        self, volume: bool = False, git: bool = False, bridge: bool = False, setup: bool = False
    ) -> EnvironmentSpec:
        image = self.engine.volume_image if volume else self.engine.image
        commands = ("echo made > made",) if setup and self.keeps_set_up else ()
        return EnvironmentSpec(image=image, git=git, network="bridge" if bridge else None, setup=commands)

    # ------------------------------------------------------------------ collection

    @contextlib.contextmanager
    def _grace(self, seconds: float) -> Iterator[None]:
        """0: as if all of it had happened long ago."""
        with mock.patch.object(remains, "GRACE_S", seconds), using(self._collectors):
            yield

    # ------------------------------------------------------------------ what always holds

    @invariant()
    def what_is_ours_stands_in_a_ledger(self) -> None:
        for thing in self.ours():
            assert thing.label("lease") in self.rows(thing.label("node")), thing

    @invariant()
    def what_is_not_ours_is_untouched(self) -> None:
        assert self.foreign <= set(self.things())

    @invariant()
    def what_a_live_node_leases_is_there(self) -> None:
        there = {thing.id for thing in self.things()}
        for node in self.daemons:
            for lease, (state, place) in self.rows(node).items():
                if state in ("ready", "in_use"):
                    assert place in there, f"{lease} is {state} and has no container"

    @invariant()
    def what_was_given_back_is_gone(self) -> None:
        for daemon in self.daemons.values():
            rows = self.rows(daemon.node)
            for thing in self.ours():
                if thing.kind == "container" and thing.label("lease") in daemon.leases:
                    assert rows[thing.label("lease")][0] != "reclaimed", thing

    def get_well(self) -> None:
        """The engine is as it should be from now on."""

    def teardown(self) -> None:
        with self._stack:
            try:
                self.get_well()
                for daemon in list(self.daemons.values()):
                    if self.closes:
                        self._close(daemon)
                    else:
                        self.crash(daemon.node)
                self.engine.settle()
                with self._grace(0.0):
                    todo = collector.plan()
                    result = collector.carry_out(todo)
                assert (result.failed, result.came_into_use) == ([], [])
                assert self.ours() == []
                self.what_is_not_ours_is_untouched()
                self.nothing_else_is_left()
                with self._grace(0.0):
                    assert collector.plan().items == []
            finally:
                failing = sys.exc_info()[0] is not None
                for daemon in self._lives:
                    daemon.bury()
                for remove in self._foreign_clean_up:
                    # What went wrong before is what is to be told.
                    with contextlib.suppress(Exception) if failing else contextlib.nullcontext():
                        remove()

    def nothing_else_is_left(self) -> None:
        """On an engine that nobody else uses: all there is is foreign."""
