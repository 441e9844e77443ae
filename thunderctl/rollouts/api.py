"""Roll-outs as a trainer in this process takes them: groups, one after the other, while the next ones are being done.

    async with Rollouts("swebench", samples_per_task=8, tasks=64, agents=144, live=True, keep="first:6") as rollouts:
        async for group in rollouts:
            await asyncio.to_thread(train_on, group)  # agents work on meanwhile
            await rollouts.update_weights("weights/step-1", mode="keep")

The node is the one that is up, or one that comes and goes with the ``async with``. The run behind it is stored like any
other (``rollouts.folder``), and with ``out`` its groups are as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from thunderctl import launcher
from thunderctl.agents.client import DaemonClient
from thunderctl.agents.weights_client import Mode, WeightsChange, update_weights, weights
from thunderctl.cli.asked import Asked
from thunderctl.errors import UsageError
from thunderctl.launcher import DEFAULT_NODE, NodeHandle
from thunderctl.report.stats import summarise
from thunderctl.rollouts.asked import RolloutAsked, refuse_if_taken
from thunderctl.rollouts.figures import figures
from thunderctl.rollouts.plan import GroupPlan
from thunderctl.rollouts.schema import Group
from thunderctl.rollouts.shelf import Shelf
from thunderctl.runs.begin import begin_run
from thunderctl.runs.driver import Driver
from thunderctl.runs.on_a_node import bring_up_for, node_that_lasts, profile_to_use
from thunderctl.runs.resume import only_driver
from thunderctl.runs.store import RunFolder, new_run_id

T = TypeVar("T")
AHEAD = 1
"""Complete groups that may wait while new ones still begin, where nothing is said: more would be older when used."""


class Rollouts:
    """A roll-out that is being carried out, from ``async with`` to its end. Iterate over it for its groups."""

    def __init__(
        self,
        workload: str,
        *,
        samples_per_task: int = 8,
        tasks: int | None = None,
        agents: int | None = None,
        profile: str | None = None,
        overrides: Sequence[str] = (),
        live: bool = False,
        sampling: Mapping[str, float] | None = None,
        keep: str | None = None,
        group_timeout_s: float | None = None,
        retries: int = 0,
        ahead: int | None = AHEAD,
        out: str | Path | None = None,
        judge: bool = True,
        only: Sequence[str] = (),
        dataset: str | None = None,
        trace: str | None = None,
        max_steps: int | None = None,
        max_error_rate: float | None = None,
        seed: int | None = None,
        shuffle: bool = False,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        """What the command's options of these names say. ``overrides``: ``KEY=VALUE`` of the profile.

        ``ahead``: while more complete groups than this wait to be taken, no new group begins; ``None``: no bound.
        ``sampling``: ``temperature``, ``top_p`` … of live answers. ``tell``: lines about the node's coming and going.

        Nothing is looked at before ``async with``, which raises ``UsageError``, ``PreflightError`` … if it cannot be.
        """
        self._asked = RolloutAsked(
            Asked(
                workload, agents, live, dataset, list(only) or None, judge, max_steps, trace, None, None, None, seed,
                shuffle=shuffle, max_error_rate=max_error_rate,
            ),
            tasks,
            samples_per_task,
            keep,
            group_timeout_s,
            retries,
            dict(sampling or {}),
            None if out is None else str(out),
            ahead,
        )  # fmt: skip
        self._profile, self._overrides = profile, tuple(overrides)
        self._tell = tell
        self._shelf = Shelf()
        self._leaving = contextlib.AsyncExitStack()
        self._driver: Driver | None = None
        self._driving: asyncio.Task[None] | None = None
        self._client: DaemonClient | None = None
        self._store: RunFolder | None = None

    # ------------------------------------------------------------------ from begin to end

    async def __aenter__(self) -> Self:
        asked = self._asked
        if asked.out is not None:
            refuse_if_taken(asked.out)
        up_already = await asyncio.to_thread(node_that_lasts, self._tell)
        resolved = profile_to_use(self._profile, self._overrides, up_already)
        plan = asked.plan(resolved, shelf=self._shelf)
        async with contextlib.AsyncExitStack() as leaving:
            if up_already is None:
                leaving.push_async_callback(self._take_down)
            handle = await self._bring_up(plan, resolved, ours=up_already is None)
            self._client = await leaving.enter_async_context(handle.client())
            self._store = store = RunFolder.create(new_run_id(plan.name))
            leaving.enter_context(only_driver(store))
            leaving.callback(self._store_what_came)
            self._driver = await begin_run(plan, resolved, self._client, store, more=asked.more())
            self._driving = asyncio.create_task(self._drive(self._driver))
            leaving.push_async_callback(self._stop)
            self._leaving = leaving.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._leaving.aclose()

    async def _bring_up(self, plan: GroupPlan, resolved: Any, *, ours: bool) -> NodeHandle:
        return await asyncio.to_thread(bring_up_for, plan, resolved, self._tell, name=DEFAULT_NODE, ends_with_me=ours)

    async def _take_down(self) -> None:
        await asyncio.to_thread(launcher.take_down, DEFAULT_NODE, progress=self._tell)

    async def _drive(self, driver: Driver) -> None:
        try:
            await driver.drive()
        finally:
            self._shelf.close()

    async def _stop(self) -> None:
        """What still runs is cut off; complete groups stay."""
        assert self._driving is not None  # noqa: S101 - entered
        if self._driver is None or self._driver.progress.phase != "ended":  # else it is leaving by itself
            self._driving.cancel()
        await asyncio.gather(self._driving, return_exceptions=True)

    def _store_what_came(self) -> None:
        assert self._store is not None  # noqa: S101 - entered
        self._store.close()
        with contextlib.suppress(FileNotFoundError):  # it ended before it could say what it was
            self._store.write("summary.json", summarise(self._store))

    # ------------------------------------------------------------------ what a trainer does

    def __aiter__(self) -> AsyncIterator[Group]:
        return self

    async def __anext__(self) -> Group:
        """The next complete group; an error that ended the roll-out is raised when all complete ones were taken."""
        if self._driving is None:
            raise UsageError("roll-outs begin with `async with`")
        group = await self._shelf.take()
        if group is not None:
            return group
        await asyncio.shield(self._driving)
        raise StopAsyncIteration

    @property
    def waiting(self) -> int:
        """Complete groups that were not taken yet."""
        return self._shelf.waiting

    @property
    def folder(self) -> Path:
        """Of the run that is behind it."""
        return self._entered(self._store).folder

    @property
    def client(self) -> DaemonClient:
        """The node that it is carried out on."""
        return self._entered(self._client)

    async def update_weights(
        self, path: str | Path, *, mode: Mode = "finish", version: int | None = None
    ) -> WeightsChange:
        """Have every worker load the safetensors in the folder ``path``, which the node's machine must see.

        ``mode`` says what becomes of calls in flight (``weights_client.Mode``); ``version`` is the number of the new
        weights, without it the next one. For a transfer of one's own there is ``weights_client.weights_transfer``, on
        :attr:`client`. ``DaemonError``: nothing was changed. Wants the profile's ``workers.weight_updates``.
        """
        return await update_weights(self.client, path, mode=mode, version=version)

    async def version(self) -> int:
        """Of the weights in force."""
        return int((await weights(self.client))["version"])

    def figures(self) -> dict[str, Any]:
        """What came of it so far, as ``thunderctl rollout --json`` has it. Reads the whole run: not for every step."""
        store = self._entered(self._store)
        return figures(summarise(store), store.read("manifest.json")["rollout"], store.lines("groups"))

    @staticmethod
    def _entered(what: T | None) -> T:
        if what is None:
            raise UsageError("roll-outs begin with `async with`")
        return what


async def rollouts(workload: str, **options: Any) -> AsyncIterator[Group]:
    """The groups of a roll-out, as ``async for group in rollouts("swebench", tasks=6)``; options as of
    :class:`Rollouts`. A loop that may end early says ``async with contextlib.aclosing(rollouts(…))``."""
    async with Rollouts(workload, **options) as carried_out:
        async for group in carried_out:
            yield group
