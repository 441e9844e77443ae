"""The promises of the environment manager as a state machine: daemons that work, crash and come back, strangers on the
same engine, an engine that fails, and collections in between.

After each step the machine compares the engine with the ledgers, by its own judgement and not by the collector's. It
knows no back-end: the engine is a fake or a real one.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.environments.promise_parts import HANGS_S, Daemon, Engine, Thing, end_of, until
from tests.environments.promise_world import NODES, World
from thunderctl.environments import collector
from thunderctl.environments.collector import GcPlan, GcResult
from thunderctl.environments.lease import Lease
from thunderctl.environments.spec import ExecResult
from thunderctl.errors import EnvironmentFailure, ThunderError

__all__ = ["Daemon", "Engine", "Promises", "Thing", "until"]

COMMANDS = {"echo one": ("one\n", 0), "exit 3": ("", 3), "true": ("", 0), "sleep 0.01; echo two": ("two\n", 0)}

FOREIGN_CONTAINERS: dict[str, Callable[[str, str], tuple[str | None, dict[str, str]]]] = {
    "plain": lambda owner, lease: (None, {}),
    "named like ours": lambda owner, lease: (f"thunderctl-{uuid.uuid4().hex[:16]}", {}),
    "of another owner": lambda owner, lease: (None, {"owner": "0123456789abcdef", "node": "n1", "lease": lease}),
    "of nobody's lease": lambda owner, lease: (None, {"owner": owner, "lease": ""}),
    "with a lease and no owner": lambda owner, lease: (None, {"node": "n1", "lease": lease}),
}
"""Owner, some lease of ours → the name, and the labels without their prefix."""
FOREIGN_LABELS: dict[str, Callable[[str], dict[str, str]]] = {
    "plain": lambda lease: {},
    "of another owner": lambda lease: {"owner": "0123456789abcdef", "node": "n1", "lease": lease},
    "with a lease and no owner": lambda lease: {"node": "n1", "lease": lease},
}

KINDS_OF_SPEC = ("volume", "git", "bridge", "setup")

node_names = st.sampled_from(NODES)
picks = st.integers(0, 7)
programs = st.sampled_from(["p", "q"])
other_kinds = st.sampled_from(["volume", "network"])


class Promises(World):
    """Subclasses name the engine."""

    # ------------------------------------------------------------------ daemons

    @rule(node=node_names, take_over=st.booleans())
    def start(self, node: str, take_over: bool) -> None:
        if node in self.daemons:
            return
        before = {name for name, (state, _) in self.rows(node).items() if state in ("ready", "in_use")}
        there = {thing.id for thing in self.ours()}
        self._start(node, take_over)
        if take_over and self.healthy:
            for lease in before:
                state, place = self.rows(node)[lease]
                assert state in ("ready", "in_use"), "a ready environment is taken over"
                self.happened["taken over"] += 1
                assert place in there

    @rule(node=node_names)
    def crash(self, node: str) -> None:
        daemon = self.daemons.pop(node, None)
        if daemon is not None:
            daemon.crash()

    @rule(node=node_names)
    def close(self, node: str) -> None:
        if node in self.daemons:
            self._close(self.daemons[node])

    # ------------------------------------------------------------------ leases

    @rule(pick=picks, program=programs, kind=st.fixed_dictionaries(dict.fromkeys(KINDS_OF_SPEC, st.booleans())))
    def request(self, pick: int, program: str, kind: dict[str, bool]) -> None:
        self._request(pick, program, **kind)

    @rule(pick=picks, volume=st.booleans(), steps=st.integers(0, 12))
    def cancel_a_request_half_way(self, pick: int, volume: bool, steps: int) -> None:
        daemon = self._daemon(pick)
        if daemon is None:
            return
        before = set(daemon.leases)
        task = daemon.begin(daemon.manager.request("p", "r", self._spec(volume)))
        self._wait_for_steps(daemon, task, steps)
        task.cancel()
        try:
            daemon.do(end_of(task))
        except EnvironmentFailure:
            assert not self.healthy
        (lease,) = daemon.leases - before
        self.happened["cancelled half-way" if task.cancelled() else "not cancelled"] += 1
        if self.healthy and task.cancelled():
            assert self.rows(daemon.node)[lease][0] == "reclaimed"
            assert lease not in self.leases_with_containers()

    @rule(pick=picks, volume=st.booleans(), steps=st.integers(0, 12))
    def crash_during_a_request(self, pick: int, volume: bool, steps: int) -> None:
        daemon = self._daemon(pick)
        if daemon is None:
            return
        task = daemon.begin(daemon.manager.request("p", "r", self._spec(volume)))
        self._wait_for_steps(daemon, task, steps)
        self.happened["crashed after" if task.done() else "crashed half-way"] += 1
        self.crash(daemon.node)

    def _wait_for_steps(self, daemon: Daemon, task: asyncio.Task[Any], steps: int) -> None:
        """``steps`` turns of a millisecond, while the threads of the back-end go on."""
        turns = iter(range(steps))
        daemon.go_on_until(task, lambda: next(turns, None) is None)

    @rule(pick=picks, command=st.sampled_from(sorted(COMMANDS)))
    def execute(self, pick: int, command: str) -> None:
        found = self._lease(pick)
        if found is not None:
            daemon, lease = found
            if self._ended(daemon, lease):
                self._must_fail(daemon, lease, daemon.manager.execute(lease, command, timeout_s=20))
                return
            done: ExecResult | None = self._try(daemon, daemon.manager.execute(lease, command, timeout_s=20))
            if done is not None:
                self.happened["command"] += 1
                assert (done.output, done.returncode) == COMMANDS[command] or done.returncode in (124, 137)

    @rule(pick=picks, steps=st.integers(0, 12))
    def cancel_a_command_half_way(self, pick: int, steps: int) -> None:
        found = self._lease(pick)
        if found is None:
            return
        daemon, lease = found
        ended = self._ended(daemon, lease)
        task = daemon.begin(daemon.manager.execute(lease, "sleep 30", timeout_s=20))
        self._wait_for_steps(daemon, task, steps)
        task.cancel()
        try:
            daemon.do(end_of(task))
        except EnvironmentFailure:
            assert ended or not self.healthy

    @rule(pick=picks, content=st.binary(max_size=20))
    def put_and_read_a_file(self, pick: int, content: bytes) -> None:
        found = self._lease(pick)
        if found is None:
            return
        daemon, lease = found

        async def both() -> bytes:
            await daemon.manager.put_files(lease, {"deep/file": content})
            return await daemon.manager.read_file(lease, "deep/file")

        read = self._try(daemon, both())
        self.happened["file"] += read is not None
        assert read in (content, None)

    @rule(pick=picks, times=st.integers(1, 3))
    def release(self, pick: int, times: int) -> None:
        found = self._lease(pick, "ready", "in_use", "failed", "reclaimed")
        if found is None:
            return
        daemon, lease = found

        async def all_at_once() -> list[Lease]:
            return await asyncio.gather(*(daemon.manager.release(lease) for _ in range(times)))

        done = self._try(daemon, all_at_once())
        if done is not None:
            self.happened["released"] += 1
            assert {each.state for each in done} == {"reclaimed"}
            if lease in daemon.leases:
                assert lease not in self.leases_with_containers()

    @rule(pick=picks, program=programs)
    def release_a_program(self, pick: int, program: str) -> None:
        daemon = self._daemon(pick)
        if daemon is None:
            return
        self._try(daemon, daemon.manager.release_program(program))
        if self.healthy:
            mine = [thing for thing in self.ours() if thing.label("lease") in daemon.leases]
            assert program not in {thing.label("program") for thing in mine if self.protected(thing)}

    @rule(pick=picks)
    def release_during_a_command(self, pick: int) -> None:
        found = self._lease(pick)
        if found is None:
            return
        daemon, lease = found

        async def both() -> list[Any]:
            command = asyncio.create_task(daemon.manager.execute(lease, "sleep 30", timeout_s=20))
            await asyncio.sleep(0.005)
            return await asyncio.gather(command, daemon.manager.release(lease), return_exceptions=True)

        for result in daemon.do(both()):
            if isinstance(result, BaseException) and not isinstance(result, EnvironmentFailure):
                raise result

    # ------------------------------------------------------------------ strangers

    def _some_lease(self, pick: int) -> str:
        every = [lease for node in NODES for lease in self.rows(node)]
        return every[pick % len(every)] if every else "0123456789abcdef"

    def _prefixed(self, labels: dict[str, str]) -> dict[str, str]:
        return {f"thunderctl.{key}": value for key, value in labels.items()}

    def _foreign(self, made: Callable[[], Any], kind: str) -> None:
        before = {(thing.kind, thing.id) for thing in self.things()}
        thing = made()
        self._foreign_clean_up.append(
            (lambda: thing.remove(force=True, v=True)) if kind == "container" else lambda: thing.remove()
        )
        mine = {thing.id, *(mount["Name"] for mount in (thing.attrs.get("Mounts") or []) if "Name" in mount)}
        self.foreign |= {each for each in self.things() if (each.kind, each.id) not in before and each.id in mine}
        assert any(each.id == thing.id for each in self.foreign)

    @rule(kind=st.sampled_from(sorted(FOREIGN_CONTAINERS)), pick=picks, volume=st.booleans(), runs=st.booleans())
    def a_stranger_makes_a_container(self, kind: str, pick: int, volume: bool, runs: bool) -> None:
        if not self._has_room("container"):
            return
        name, labels = FOREIGN_CONTAINERS[kind](self.owner, self._some_lease(pick))
        image = self.engine.volume_image if volume else self.engine.image

        def make() -> Any:
            made = self._client.containers.create(
                image, ["infinity"], entrypoint=["sleep"], name=name, network_mode="none",
                labels={**self._prefixed({"owner": "", **labels}), "test": "promises"},
            )  # fmt: skip
            if runs:
                made.start()
            made.reload()
            return made

        self._foreign(make, "container")

    @rule(kind=other_kinds, who=st.sampled_from(sorted(FOREIGN_LABELS)), pick=picks, anonymous=st.booleans())
    def a_stranger_makes_something_else(self, kind: str, who: str, pick: int, anonymous: bool) -> None:
        if self._has_room(kind):
            name = uuid.uuid4().hex * 2 if anonymous else f"thunderctl-{uuid.uuid4().hex[:16]}"
            self._foreign(lambda: self._make(kind, name, FOREIGN_LABELS[who](self._some_lease(pick))), kind)

    @rule(kind=other_kinds, pick=picks)
    def a_lease_gets_more_than_its_container(self, kind: str, pick: int) -> None:
        found = self._lease(pick)
        if found is not None and self._has_room(kind):
            labels = {"owner": self.owner, "node": found[0].node, "lease": found[1], "program": "p", "run": "r"}
            self._make(kind, f"thunderctl-{uuid.uuid4().hex[:16]}", labels)

    def _make(self, kind: str, name: str, labels: dict[str, str]) -> Any:
        every = {**self._prefixed(labels), "test": "promises"}
        if kind == "volume":
            return self._client.volumes.create(name, labels=every)
        return self._client.networks.create(name, labels=every)

    def _has_room(self, kind: str) -> bool:
        """An engine has few address pools for networks."""
        return self._reachable() and sum(thing.kind == kind for thing in self.things()) < (
            4 if kind == "network" else 12
        )

    def _reachable(self) -> bool:
        return True

    # ------------------------------------------------------------------ collection

    @rule(long_ago=st.booleans())
    def plan_a_collection(self, long_ago: bool) -> None:
        """It is carried out whenever the machine says so: much may have happened by then."""
        grace_s = 0.0 if long_ago else 60.0
        before = {(thing.kind, thing.id): self.collectable(thing, grace_s) for thing in self.things()}
        with self._grace(grace_s):
            try:
                self.plan = collector.plan()
            except ThunderError:
                assert not self.healthy
                return
        assert set(before) <= {(thing.kind, thing.id) for thing in self.things()}, "a plan removes nothing"
        planned = {(item.kind, item.id) for item in self.plan.items}
        for each in before:
            if each[0] in ("container", "network") and (self.healthy or each in planned):
                assert (each in planned) == before[each], each

    @rule(long_ago=st.booleans(), collectors=st.integers(1, 2))
    def carry_the_plan_out(self, long_ago: bool, collectors: int) -> None:
        if self.plan is None:
            self.plan_a_collection(long_ago)
        if self.plan is None:
            return
        grace_s, todo = 0.0 if long_ago else 60.0, self.plan
        self.plan = None
        before = {(thing.kind, thing.id): self.collectable(thing, grace_s) for thing in self.things()}
        with self._grace(grace_s):
            results = self._collect(todo, collectors)
        for result in results:
            self._check_result(todo, result, before)

    @rule(pick=picks, take_over=st.booleans(), long_ago=st.booleans(), collectors=st.integers(1, 2))
    def a_daemon_comes_back_between_plan_and_collection(
        self, pick: int, take_over: bool, long_ago: bool, collectors: int
    ) -> None:
        found = self._lease(pick)
        if found is not None:
            node = found[0].node
            self.crash(node)
            self.plan_a_collection(long_ago)
            self.start(node, take_over)
            self.carry_the_plan_out(long_ago, collectors)

    def _collect(self, todo: GcPlan, collectors: int) -> list[GcResult]:
        def one() -> GcResult | None:
            try:
                return collector.carry_out(todo)
            except ThunderError:
                assert not self.healthy
                return None

        if collectors == 1:
            results = [one()]
        else:
            with ThreadPoolExecutor(collectors) as pool:
                results = [each.result() for each in [pool.submit(one) for _ in range(collectors)]]
        return [result for result in results if result is not None]

    def _check_result(self, todo: GcPlan, result: GcResult, collectable: dict[tuple[str, str], bool]) -> None:
        """``collectable``: what was there before, and whether it might go."""
        lists = [result.removed, [k.item for k in result.came_into_use], [k.item for k in result.failed]]
        every = [(item.kind, item.id) for each in lists for item in each]
        assert len(every) == len(set(every)), "each in one list only"
        assert {(item.kind, item.id) for item in todo.items} <= set(every), "and each in one"
        there = {(thing.kind, thing.id) for thing in self.things()}
        removed = {(item.kind, item.id) for item in result.removed}
        for what, items in zip(("collected", "came into use", "not collected"), lists, strict=True):
            for item in items:
                self.happened[f"{what}: {item.kind}"] += 1
        assert not removed & there, "what was removed is gone"
        judged = [each for each in collectable if each[0] in ("container", "network")]
        assert [each for each in judged if each in removed and not collectable[each]] == []
        if self.healthy:
            assert result.failed == []
            used = {(kept.item.kind, kept.item.id): kept.reason for kept in result.came_into_use}
            assert [(each, used[each]) for each in judged if each in used and each in there and collectable[each]] == []

    @rule(pick=picks, volume=st.booleans(), long_ago=st.booleans())
    def collect_while_a_daemon_works(self, pick: int, volume: bool, long_ago: bool) -> None:
        """A request, a release and a command on one side, a whole collection on the other, all at once."""
        daemon, found = self._daemon(pick), self._lease(pick)
        if daemon is None:
            return
        going: list[Coroutine[Any, Any, Any]] = [daemon.manager.request("p", "r", self._spec(volume))]
        if found is not None and found[0] is daemon:
            going += [daemon.manager.release(found[1])]

        async def work() -> list[Any]:
            return await asyncio.gather(*going, return_exceptions=True)

        results: list[Any] = []
        with self._grace(0.0 if long_ago else 60.0):
            other = threading.Thread(target=lambda: results.append(self._plan_and_collect()))
            other.start()
            done = daemon.do(work())
            other.join(HANGS_S)
        assert results, "the collection ended"
        self.happened["collected meanwhile"] += 1
        for each in [*done, *results]:
            if isinstance(each, BaseException) and not (isinstance(each, ThunderError) and not self.healthy):
                raise each

    def _plan_and_collect(self) -> BaseException | None:
        try:
            collector.carry_out(collector.plan())
        except Exception as error:
            return error
        return None
