"""Garbage collection: a plan that a person can read, and its execution, which trusts the plan in nothing.

Right before each removal the thing is looked at again; what came into use since is left alone and said so. Two
collectors take turns (``gc.lock``). Without a Docker engine only what lives on this machine's own disk is collected.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import itertools
import sqlite3
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import docker
import psutil
import requests
from docker.errors import APIError, DockerException

from thunderctl import paths
from thunderctl.environments import remains, remains_engine, remains_machine, removal
from thunderctl.environments.docker import connect
from thunderctl.environments.remains import GcItem, Kept, Node, judge
from thunderctl.errors import EnvironmentFailure, ThunderError

AT_ONCE = 8
"""Things of one kind that are removed side by side: one by one, a hundred containers outlast the reaper's minute."""
PASSES = 3
"""Removing one thing may uncover another; more looks than this mean that somebody makes new ones."""


@dataclass(frozen=True, slots=True)
class GcPlan:
    """What would be removed, what would not and why, and remarks for the person."""

    items: list[GcItem]
    kept: list[Kept]
    notes: list[str]
    older_than_s: float = 0.0
    run: str | None = None

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items)


@dataclass(frozen=True, slots=True)
class GcResult:
    """What became of a plan. Each of its items is in exactly one of the three lists, and besides only what turned up
    late of the dead nodes whose records it closes."""

    removed: list[GcItem] = field(default_factory=list)
    came_into_use: list[Kept] = field(default_factory=list)
    failed: list[Kept] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.removed)


def plan(*, older_than_s: float = 0.0, run: str | None = None, images: bool = False, measure: bool = True) -> GcPlan:
    """Look at everything of this home, at its ``images`` only if told to. ``older_than_s`` and ``run`` narrow it down.

    Without ``measure`` the engine is not asked for bytes: with many images that may take it minutes.
    """
    with _engine() as (client, missing):
        return _Look(client, missing, older_than_s, run).plan(images=images, measure=measure)


def carry_out(todo: GcPlan) -> GcResult:
    """Remove what ``todo`` says and nothing else, each after a second look.

    The record of a dead node goes last, when a further look has found nothing else of it: a process that was being
    started while its daemon died shows up late, and without the record it would have to wait for the grace period.
    """
    result = GcResult()
    closing = {item.id: item for item in todo.items if item.kind == "node"}
    with _turn(), _engine() as (client, missing):
        tried: set[tuple[str, str]] = set()
        current = todo
        for _ in range(PASSES):
            fresh = [item for item in current.items if item.kind != "node" and (item.kind, item.id) not in tried]
            tried.update((item.kind, item.id) for item in fresh)
            for kind, several in itertools.groupby(fresh, key=lambda item: item.kind):
                with ThreadPoolExecutor(1 if kind == "image" else AT_ONCE) as threads:
                    list(threads.map(lambda item: _carry_out(client, item, result), several))
            if not closing:
                break
            again = _Look(client, missing, todo.older_than_s, todo.run).plan(images=False, measure=False)
            current = dataclasses.replace(again, items=[item for item in again.items if item.node in closing])
            if not any(item.kind != "node" for item in current.items):
                break
        there = [*current.items, *(kept.item for kept in current.kept)]
        for item in closing.values():
            left = sum(each.node == item.id and each.kind != "node" for each in there)
            _carry_out(client, item, result, left)
    return result


def _carry_out(client: docker.DockerClient | None, item: GcItem, result: GcResult, left: int = 0) -> None:
    try:
        reason = removal.needed_again(client, item)
        if reason is None and item.kind == "node":
            reason = _node_is_needed(item, result, left)
        if reason is None:
            removal.remove(client, item)
            result.removed.append(item)
        else:
            result.came_into_use.append(Kept(item, reason))
    except removal.CameIntoUse as used:
        result.came_into_use.append(Kept(item, str(used)))
    except (ThunderError, DockerException, OSError, sqlite3.Error, psutil.Error) as error:
        result.failed.append(Kept(item, str(error)))


def _node_is_needed(item: GcItem, result: GcResult, left: int) -> str | None:
    if left:
        return f"{left} of its remains are still there"
    stuck = sum(each.item.node == item.id for each in [*result.failed, *result.came_into_use])
    return f"{stuck} of its remains could not be removed" if stuck else None


class _Look:
    """One look at everything, sorted into what goes and what stays."""

    def __init__(self, client: docker.DockerClient | None, missing: str | None, older_than_s: float, run: str | None):
        self._client = client
        self._missing = missing
        self._older_than_s = older_than_s
        self._run = run
        self._nodes = remains.find_nodes()
        self._items: list[GcItem] = []
        self._kept: list[Kept] = []

    def plan(self, *, images: bool, measure: bool) -> GcPlan:
        here = list(remains_machine.find_here(self._nodes))
        self._sort(item for item in here if item.kind == "process")
        if self._client is not None:
            self._look_at_containers(self._client, measure=measure)
        self._sort(item for item in here if item.kind != "process")
        if self._client is not None:
            self._look_at_what_containers_need(self._client, images=images, measure=measure)
        self._look_at_records()
        kept = [each for each in self._kept if self._run is None or each.item.run == self._run]
        notes = [] if self._client is not None else [f"containers were not looked at: {self._missing}"]
        return GcPlan(self._once(), kept, notes, self._older_than_s, self._run)

    def _once(self) -> list[GcItem]:
        """Two containers may share a volume, and two dead nodes a registered container."""
        return list({(item.kind, item.id): item for item in reversed(self._items)}.values())[::-1]

    def _sort(self, found: Iterable[GcItem]) -> None:
        for item in found:
            gone, why = judge(self._nodes, item)
            if gone:
                self._narrow(dataclasses.replace(item, why=why))
            else:
                self._kept.append(Kept(item, why))

    def _narrow(self, item: GcItem) -> None:
        if self._run is not None and item.run != self._run:
            self._kept.append(Kept(item, f"it does not belong to the run {self._run}"))
        elif item.age_s < self._older_than_s:
            self._kept.append(Kept(item, f"younger than {self._older_than_s:.0f} s"))
        else:
            self._items.append(item)

    def _look_at_containers(self, client: docker.DockerClient, *, measure: bool) -> None:
        self._sort(remains_engine.find_containers(client, measure=measure))
        for found in remains_engine.find_registered(self._nodes, client.api.containers(all=True)):
            if isinstance(found, Kept):
                self._kept.append(found)
            else:
                self._sort([found])

    def _look_at_what_containers_need(self, client: docker.DockerClient, *, images: bool, measure: bool) -> None:
        containers = [item for item in self._items if item.kind in ("container", "agent's container")]
        going = {item.id for item in containers}
        listing = client.api.containers(all=True)
        for item in remains_engine.find_anonymous_volumes(client, containers, measure=measure):
            user = remains_engine.user_of(item, listing, going)
            if user is None:
                self._items.append(item)
        volumes = remains_engine.find_volumes(client, measure=measure)
        for item in [*volumes, *remains_engine.find_networks(client)]:
            user = remains_engine.user_of(item, listing, going)
            if user is None:
                self._sort([item])
            else:
                self._kept.append(Kept(item, f"used by {user}"))
        if images:
            self._items += remains_engine.find_images(client, self._older_than_s, self._run, going)

    def _look_at_records(self) -> None:
        for item in remains_machine.find_node_records(self._nodes):
            reason = self._record_stays(self._nodes[item.id])
            if reason is None:
                self._sort([item])
            else:
                self._kept.append(Kept(item, reason))

    def _record_stays(self, node: Node) -> str | None:
        """Why the record of a dead node cannot go yet: it is what proves that its other remains are nobody's."""
        left = sum(1 for each in self._kept if each.item.node == node.name and each.item.kind != "node")
        if left:
            return f"{left} of its remains stay"
        leased = any(row.backend == "docker" and row.active for row in (node.leases or {}).values())
        if self._client is None and (leased or node.registered):
            return "it may have containers, and no Docker engine answers"
        return None


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """Wait until no other collector of this home is at work."""
    lock = paths.home() / "gc.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _engine() -> Iterator[tuple[docker.DockerClient | None, str | None]]:
    try:
        client = connect()
    except EnvironmentFailure as error:
        yield None, error.message
        return
    try:
        yield client, None
    except APIError as error:
        raise EnvironmentFailure(f"the Docker engine refused: {error.explanation}") from error
    except (DockerException, requests.RequestException) as error:
        raise EnvironmentFailure(f"the Docker engine does not answer: {error}") from error
    finally:
        client.close()
