"""The node's workers: started or taken over, watched, started again, stopped. Each change reaches the scheduler.

Rule: a worker's process is noted in ``state.db`` at once, and its URL as soon as it is ready, so that whoever comes
after a SIGKILL can take it over or end it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp

from thunderctl.core import events as ev
from thunderctl.daemon.adopted import AdoptedWorker
from thunderctl.daemon.journal import Journal, WorkerNote
from thunderctl.daemon.shell import Shell
from thunderctl.daemon.upstream import Upstreams
from thunderctl.daemon.weights import Weights
from thunderctl.errors import EngineError, ThunderError
from thunderctl.profile import Profile
from thunderctl.workers.emulation import Lag
from thunderctl.workers.engine import EngineEnvironment
from thunderctl.workers.external import ExternalWorker
from thunderctl.workers.launch import Worker, WorkerFacts
from thunderctl.workers.scratch import end_unrecorded

log = logging.getLogger("thunderctl.workers")

RESTARTS = 3
"""How often in a row a worker that died is started again before it is given up. One that others run never is."""
STEADY_S = 60.0
"""A worker that was up for so long begins with a clean record."""
RESTART_PAUSE_S = 30.0
"""Longest pause between two attempts to get a worker back."""
HEALTH_S = 2.0
REFUSALS = 3
"""Health checks in a row that a worker refuses, or fails, before it counts as gone. One that is slow does not."""


class Fleet:
    """Workers of one profile. ``say`` tells whoever waits for the node what is going on."""

    def __init__(
        self,
        profile: Profile,
        engine: EngineEnvironment | None,
        model: str | None,
        logs: Path,
        *,
        shell: Shell,
        upstreams: Upstreams,
        journal: Journal,
        say: Callable[[str], None],
        weights: Weights | None = None,
    ) -> None:
        self._profile = profile
        self._engine = engine
        self._model = model
        self._logs = logs
        self._shell = shell
        self._upstreams = upstreams
        self._journal = journal
        self._say = say
        self._workers: dict[str, Worker | ExternalWorker] = {}
        self._facts: dict[str, WorkerFacts] = {}
        """Of workers that are ready, whether or not their weights let them be given calls."""
        self._weights = weights
        if weights is not None:
            weights.serve(self)

    @property
    def count(self) -> int:
        """Workers that the profile asks for."""
        return len(self._profile.workers.urls) or self._profile.workers.count

    # ------------------------------------------------------------------ up

    async def take_over(self) -> list[str]:
        """Workers of a killed daemon that are well go on; the others end. Returns the names of the former.

        The scheduler knows all of them as they were; it hears of those that are lost.
        """
        if self._profile.engine.kind == "external":
            await self.start_missing()
        else:
            known = {note.scratch for note in self._journal.workers()}
            await asyncio.gather(*(self._adopt(note) for note in self._journal.workers()))
            await self._admit_adopted()
            for folder in set(self._journal.scratch_folders()) - known:
                await asyncio.to_thread(end_unrecorded, Path(folder))
        for name in list(self._shell.scheduler.workers):
            if self._upstreams.get(name) is None:
                self._shell.submit(ev.WorkerLost(name))
        return sorted(self._facts)

    async def _adopt(self, note: WorkerNote) -> None:
        if self._engine is None:
            return
        index = int(note.name.removeprefix("w"))
        worker = AdoptedWorker(self._profile, index, self._engine, self._model, self._log_of(index), note)
        facts = await worker.adopt()
        if facts is None:
            log.warning("%s (pid %s) of the killed daemon is not well: it is ended", note.name, note.pid)
            await worker.stop()
            self._journal.forget_process(note.pid)
        else:
            self._workers[note.name] = worker
            self._facts[note.name] = facts

    async def _admit_adopted(self) -> None:
        """Give calls to the adopted workers, as far as their weights are those in force."""
        urls = {name: self._workers[name].url for name in self._facts}
        admitted, lost = await self._weights.take_over(urls) if self._weights is not None else (set(urls), set())
        for name in lost:
            worker = self._workers.pop(name)
            del self._facts[name]
            await worker.stop()
            if worker.pid is not None:
                self._journal.forget_process(worker.pid)
        for name in sorted(admitted):
            self.admit(name)

    async def start_missing(self) -> None:
        """Start every worker that is not there yet; all of them must come up."""
        async with asyncio.TaskGroup() as group:
            for index in range(self.count):
                if f"w{index}" not in self._workers:
                    group.create_task(self._start(index))

    def _log_of(self, index: int) -> Path:
        return self._logs / f"worker-{index}.log"

    def _make(self, index: int) -> Worker | ExternalWorker:
        if self._profile.engine.kind == "external":
            return ExternalWorker(self._profile, index)
        if self._engine is None:
            raise EngineError("no engine was prepared for this node", hint="start it with `thunderctl up`")
        return Worker(self._profile, index, self._engine, self._model, self._log_of(index))

    async def _start(self, index: int) -> None:
        name = f"w{index}"
        worker = self._workers[name] = self._make(index)
        await worker.start(self._journal.note_scratch)
        if worker.pid is not None and worker.create_time is not None and worker.pgid is not None:
            self._journal.note_worker(name, worker.pid, worker.create_time, worker.pgid, str(worker.scratch or ""))
        facts = await worker.wait_ready(lambda text: self._say(f"{name}: {text}"))
        fit = await self._weights.started(name, worker.url) if self._weights is not None else True
        if worker.pid is not None:
            # Only now: one that a later daemon takes over has the weights in force, or is known not to.
            self._journal.note_ready(worker.pid, worker.url, asdict(facts))
        self._facts[name] = facts
        if fit:
            self.admit(name)

    # ------------------------------------------------------------------ what the weights ask for

    def admit(self, name: str) -> None:
        """Give the worker calls; nothing happens if it has them already, or is gone."""
        facts, worker = self._facts.get(name), self._workers.get(name)
        if facts is None or worker is None or self._upstreams.get(name) is not None:
            return
        self._upstreams.add(name, worker.url)
        self._shell.submit(ev.WorkerUp(name, facts.capacity_tokens, facts.prefill_tokens_per_s))
        log.info("%s up at %s: %s", name, worker.url, facts)

    async def withdraw(self, name: str) -> None:
        """Give the worker no calls. It goes on running."""
        if self._upstreams.get(name) is not None:
            self._shell.submit(ev.WorkerLost(name))
            await self._upstreams.remove(name)

    async def end(self, name: str) -> None:
        """Give the worker no calls and end its process; whoever watches it starts another."""
        await self.withdraw(name)
        if name in self._workers:
            await self._workers[name].stop()

    # ------------------------------------------------------------------ while it runs

    async def watch(self, index: int) -> None:
        """Notice the worker's death at once; start it again a few times, then give it up."""
        name = f"w{index}"
        failures = 0
        while True:
            worker = self._workers[name]
            if name in self._facts:
                began = time.monotonic()
                await _until_gone(worker)
                log.error("%s is gone", name)
                if time.monotonic() - began > STEADY_S:
                    failures = 0
            self._facts.pop(name, None)
            if self._weights is not None:
                self._weights.forget(name)
            self._shell.submit(ev.WorkerLost(name))
            await self._upstreams.remove(name)
            await worker.stop()
            if worker.pid is not None:
                self._journal.forget_process(worker.pid)
            if failures == RESTARTS and not isinstance(worker, ExternalWorker):
                break
            await asyncio.sleep(min(RESTART_PAUSE_S, 2.0 ** min(failures, 10)))
            failures += 1
            try:
                await self._start(index)
            except ThunderError as failure:
                log.error("%s did not start again: %s", name, failure.message)
        log.error("%s is given up after %s restarts in a row", name, RESTARTS)

    def read_lag(self, name: str) -> Lag | None:
        """What an emulated worker says of its pace."""
        found = self._workers.get(name)
        return found.read_lag() if isinstance(found, Worker) else None

    def rows(self, *, starting: bool) -> list[dict[str, Any]]:
        """One mapping a worker: state, place, capacity and use in tokens."""
        rows = []
        for name, worker in sorted(self._workers.items(), key=lambda item: item[1].index):
            ledger = self._shell.scheduler.workers.get(name)
            facts = self._facts.get(name)
            rows.append(
                {
                    "name": name,
                    "url": worker.url,
                    "pid": worker.pid,
                    "state": "up" if ledger else "starting" if starting else "outdated" if facts else "lost",
                    "taken_over": isinstance(worker, AdoptedWorker),
                    "model": facts.model if facts else None,
                    "capacity_tokens": facts.capacity_tokens if facts else None,
                    "block_size": facts.block_size if facts else None,
                    "max_model_len": facts.max_model_len if facts else None,
                    "prefill_tokens_per_s": round(facts.prefill_tokens_per_s) if facts else None,
                    "programs": len(ledger.entries) if ledger else 0,
                    "reasoning_tokens": ledger.reasoning if ledger else 0,
                    "acting_tokens": ledger.acting if ledger else 0,
                }
            )
        return rows

    # ------------------------------------------------------------------ down

    async def stop(self) -> list[BaseException]:
        """Stop every worker; returns what went wrong."""
        ends = await asyncio.gather(*(w.stop() for w in self._workers.values()), return_exceptions=True)
        for worker in self._workers.values():
            if worker.pid is not None:
                self._journal.forget_process(worker.pid)
        return [end for end in ends if isinstance(end, BaseException)]


async def _until_gone(worker: Worker | ExternalWorker) -> None:
    """Until the worker's process ended, or it refuses its health check several times in a row."""
    ends = {asyncio.create_task(worker.wait()), asyncio.create_task(_until_refused(worker.url))}
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)


async def _until_refused(url: str) -> None:
    """Until the server at ``url`` refuses connections, or says that it is not well, ``REFUSALS`` times in a row."""
    refused = 0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10 * HEALTH_S)) as session:
        while refused < REFUSALS:
            await asyncio.sleep(HEALTH_S)
            try:
                async with session.get(f"{url}/health") as answer:
                    refused = refused + 1 if answer.status >= 500 else 0
            except aiohttp.ClientConnectionError:
                refused += 1
            except TimeoutError:
                continue  # busy, as an engine on a small machine is in a long step
