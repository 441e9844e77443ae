"""The environment manager keeps its promises whatever happens in whatever order, on an engine that may fail.

``THUNDERCTL_TEST_SEQUENCES`` gives another number of sequences than the few of a normal run.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import docker
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from tests.environments.conftest import MakeManager
from tests.environments.fake_engine import FakeEngine, How
from tests.environments.fake_engine_things import Container
from tests.environments.promises import Daemon, Engine, Promises, Thing, until
from thunderctl import paths
from thunderctl.environments import remains
from thunderctl.environments.collector import carry_out, plan
from thunderctl.environments.images import BASE
from thunderctl.environments.spec import EnvironmentSpec
from thunderctl.errors import EnvironmentFailure

KINDS = (
    "container_create", "container_start", "container_remove", "container_list", "container_inspect", "image_inspect",
    "archive", "exec_create", "exec_start", "exec_inspect", "volume_remove", "network_remove", "ping", "*",
)  # fmt: skip


bad = st.integers(0, 3)
"""Steps until all is well again."""


MUST_HAPPEN = ("ready", "command", "released", "crashed half-way", "collected: container", "came into use: container")


class FailingEngine(FakeEngine):
    """The fake, as the machine wants it."""

    image = BASE
    volume_image = "with/volume:1"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.add_image(self.image)
        self.add_image(self.volume_image, Volumes={"/data": {}})
        self.spared = self.socket
        self.hand = f"unix://{self.socket}"
        self.start()

    def things(self, client: docker.DockerClient) -> list[Thing]:
        """Looked at from behind, so that it works while the engine is stopped."""
        found = [
            Thing(
                "container", each.id, each.name, _sorted(each.labels),
                frozenset([each.network, *(mount["Name"] for mount in each.mounts)]), each.running,
            )
            for each in list(self.containers.values())
        ]  # fmt: skip
        found += [
            Thing("volume", each.name, each.name, _sorted(each.labels or {})) for each in list(self.volumes.values())
        ]
        found += [
            Thing("network", each.id, each.name, _sorted(each.labels))
            for each in list(self.networks.values())
            if each.name not in ("bridge", "host", "none")
        ]
        return found

    def settle(self) -> None:
        until(lambda: self.under_way == 0)


def _sorted(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


class PromisesOnAFailingEngine(Promises):
    engine: FailingEngine
    happened = Counter()
    keeps_set_up = True

    def new_engine(self, folder: Path) -> Engine:
        engine = FailingEngine(folder)
        self.born_unknown: list[str] = []
        engine.witness = self._witness
        return engine

    def _witness(self, container: Container) -> None:
        lease, node = (container.labels.get(f"thunderctl.{name}") for name in ("lease", "node"))
        if container.labels.get("thunderctl.owner") != self.owner or not lease:
            return
        with contextlib.closing(sqlite3.connect(paths.nodes() / str(node) / "state.db")) as db:
            row = db.execute("SELECT state FROM leases WHERE id = ?", (lease,)).fetchone()
        if row is None:
            self.born_unknown.append(container.name)

    @invariant()
    def no_container_is_born_before_its_lease(self) -> None:
        assert self.born_unknown == []

    def _reachable(self) -> bool:
        return self.engine.answers

    bad_steps = 0

    @invariant()
    def bad_days_pass(self) -> None:
        self.bad_steps -= 1
        if self.bad_steps == 0:
            self.get_well()

    def get_well(self) -> None:
        self.engine.heal()
        if not self.engine.answers:
            self.engine.start()
        for daemon in self.daemons.values():
            daemon.do(self._look_around(daemon))
        self.healthy = True

    async def _look_around(self, daemon: Daemon) -> None:
        """A daemon that goes on has seen by now which connections broke, and whom to tell what came of the bad days."""
        for image in (self.engine.image, self.engine.volume_image):
            with contextlib.suppress(EnvironmentFailure):
                await daemon.manager.backend.ensure_image(image)  # type: ignore[attr-defined]

    def _bad_days(self, steps: int) -> None:
        self.healthy = False
        self.bad_steps = max(self.bad_steps, steps + 1)

    @rule(
        kind=st.sampled_from(KINDS), how=st.sampled_from(["refuse", "drop", "lose"]), times=st.integers(1, 3), steps=bad
    )
    def calls_go_wrong(self, kind: str, how: How, times: int, steps: int) -> None:
        self._bad_days(steps)
        self.happened["calls went wrong"] += 1
        self.engine.trouble(kind, how, times)

    @rule(kind=st.sampled_from(KINDS), seconds=st.sampled_from([0.005, 0.02]))
    def calls_are_slow(self, kind: str, seconds: float) -> None:
        self.engine.trouble(kind, "slow", 2, seconds)

    @rule(seconds=st.sampled_from([0.02, 0.25]))
    def a_removal_takes_its_time(self, seconds: float) -> None:
        self.engine.trouble("removal", "slow", 1, seconds)

    @rule(live_restore=st.booleans(), steps=bad)
    def the_engine_stops(self, live_restore: bool, steps: int) -> None:
        self._bad_days(steps)
        self.happened["engine stopped"] += any(each.running for each in self.things() if each.kind == "container")
        self.engine.stop(live_restore=live_restore)

    def nothing_else_is_left(self) -> None:
        assert set(self.things()) == self.foreign


def hold(sequences: int, **more: Any) -> None:
    """Run the machine. What fails is not made smaller: it takes five minutes, and half of it hangs on threads."""
    run_state_machine_as_test(
        PromisesOnAFailingEngine,
        settings=settings(
            max_examples=int(os.environ.get("THUNDERCTL_TEST_SEQUENCES") or sequences),
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.reuse, Phase.generate],
            report_multiple_bugs=False,
            **more,
        ),
    )
    missing = [each for each in MUST_HAPPEN if not PromisesOnAFailingEngine.happened[each]]
    assert not missing, PromisesOnAFailingEngine.happened


def test_the_promises_hold_in_a_few_sequences() -> None:
    hold(25, derandomize=True, database=None)


@pytest.mark.slow
def test_the_promises_hold_in_a_thousand_sequences() -> None:
    hold(1000)


async def test_an_environment_that_cannot_be_removed_fails_and_is_left_to_the_collector(
    make_manager: MakeManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine(tmp_path)
    engine.add_image(BASE)
    engine.start()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{engine.socket}")
    try:
        manager = await make_manager(backend="docker")
        lease = await manager.request("p", "r", EnvironmentSpec(git=False))
        engine.trouble("container_remove", "refuse")
        with pytest.raises(EnvironmentFailure, match="told to refuse"):
            await manager.release(lease.id)
        assert [each.state for each in manager.leases()] == ["failed"]
        monkeypatch.setattr(remains, "GRACE_S", 0.0)
        assert [item.kind for item in carry_out(plan()).removed] == ["container"]
        assert engine.containers == {}
        assert (await manager.release(lease.id)).state == "reclaimed"
        await manager.close()
    finally:
        engine.close()
