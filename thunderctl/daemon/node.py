"""One node's life: open the door, start workers and environments, serve, stop everything again.

Rule: whatever is started here is noted in ``state.db`` first or at once, so that a collector can find it after a
SIGKILL; whatever fails on the way up takes everything down again and leaves its reason in ``failure.json``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from aiohttp import web

from thunderctl.core import events as ev
from thunderctl.core.policies import make_policy
from thunderctl.core.scheduler import Scheduler
from thunderctl.daemon.control import Control
from thunderctl.daemon.gateway import Gateway, error
from thunderctl.daemon.journal import Journal
from thunderctl.daemon.probe import Probe
from thunderctl.daemon.shell import Shell
from thunderctl.daemon.upstream import Upstreams
from thunderctl.environments.lease import Lease, LeaseLedger
from thunderctl.environments.manager import EnvironmentManager
from thunderctl.errors import EngineError, PreflightError, ThunderError
from thunderctl.node import NodeRecord, node_dir, write_node
from thunderctl.profile import Profile
from thunderctl.workers.emulation import Lag
from thunderctl.workers.engine import EngineEnvironment
from thunderctl.workers.external import ExternalWorker
from thunderctl.workers.launch import Worker, WorkerFacts

log = logging.getLogger("thunderctl.daemon")

RESTARTS = 3
"""How often a worker that died is started again before it is given up."""
PARENT_CHECK_S = 1.0


class Node:
    """Everything that one ``thunderctl up`` runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = node_dir(name)
        launch = json.loads((self.folder / "launch.json").read_text())
        self.profile = Profile.model_validate(launch["profile"])
        engine = launch["engine"]
        self._engine = (
            EngineEnvironment(engine["kind"], engine["version"], Path(engine["python"]), None) if engine else None
        )
        self._model = launch["model"]
        self._parent: dict[str, float] | None = launch.get("parent")
        self.pid = os.getpid()
        self.create_time = psutil.Process().create_time()
        self.started = time.monotonic()
        self.state = "starting"
        self.progress = "starting"
        self.token = secrets.token_hex(16)
        self._stopped = asyncio.Event()
        self._environments_ready = False
        scheduler_spec = {**self.profile.scheduler.model_dump(), "program_ttl_s": self.profile.gateway.program_ttl_s}
        self.journal = Journal(
            self.folder / "state.db", f"{self.pid}-{self.create_time:.2f}", time.time(), scheduler_spec
        )
        policy = make_policy(self.profile.scheduler.policy, self.profile.scheduler.options)
        scheduler = Scheduler(policy, program_ttl_s=self.profile.gateway.program_ttl_s)
        self.shell = Shell(scheduler, self.journal, self.reclaim, time_scale=self.profile.time_scale)
        self.upstreams = Upstreams(self.profile.gateway)
        self.probe = Probe(self.shell, self.upstreams, self._read_lag)
        self.environments = EnvironmentManager(
            self.profile.environments,
            LeaseLedger(self.folder / "state.db"),
            self.folder,
            name,
            on_event=self._environment_changed,
            progress=self._say,
        )
        self._tools_since: dict[str, float] = {}
        self._workers: dict[str, Worker | ExternalWorker] = {}
        self._facts: dict[str, WorkerFacts] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        key = self.profile.gateway.api_key_env
        self._api_key = os.environ.get(key, "") if key else ""
        self.gateway = Gateway(self.profile.gateway, self.shell, self.upstreams, own_key=bool(self._api_key))
        self._runner: web.AppRunner | None = None

    # ------------------------------------------------------------------ up

    async def serve(self) -> None:
        """Come up, serve until told to stop, go down. Raises what made coming up fail, after going down."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            coming_up = asyncio.create_task(self._come_up())
            stopping = asyncio.create_task(self._stopped.wait())
            await asyncio.wait({coming_up, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not coming_up.done():
                coming_up.cancel()
                await asyncio.gather(coming_up, return_exceptions=True)
            elif (failure := coming_up.exception()) is not None:
                stopping.cancel()
                raise failure
            await stopping
        finally:
            await self._go_down()

    async def _come_up(self) -> None:
        self.journal.start()
        await self._open_door()
        if self._parent is not None:
            self._spawn(self._watch_parent())
        self.progress = "preparing tool environments"
        await self.environments.start()
        self._environments_ready = True
        count = len(self.profile.workers.urls) or self.profile.workers.count
        async with asyncio.TaskGroup() as group:
            for index in range(count):
                group.create_task(self._start_worker(index))
        self.probe.start()
        for index in range(count):
            self._spawn(self._watch_worker(index))
        self.state, self.progress = "ready", "ready"
        log.info("ready: %s worker(s), policy %s", len(self._workers), self.profile.scheduler.policy)

    async def _open_door(self) -> None:
        app = web.Application(client_max_size=int(self.profile.gateway.max_body_mib * 2**20), middlewares=[self._guard])
        app.add_routes([*self.gateway.routes(), *Control(self).routes()])
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=5)
        await self._runner.setup()
        spec = self.profile.gateway
        try:
            site = web.TCPSite(self._runner, spec.host, spec.port, backlog=4096)
            await site.start()
        except OSError as refused:
            raise PreflightError(
                f"gateway.port: cannot listen on {spec.host}:{spec.port}: {refused.strerror or refused}",
                hint="choose another with -c gateway.port=N, or 0 to let the kernel choose one that is free",
            ) from None
        host, port = self._runner.addresses[0][:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        token = self.folder / "token"
        token.unlink(missing_ok=True)
        token.touch(mode=0o600)
        token.write_text(self.token)
        write_node(
            self.folder,
            NodeRecord(self.pid, self.create_time, url, self.profile.name, self.profile.digest(), time.time()),
        )

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Nobody without the key; on loopback, nobody whose browser was led here under another host's name."""
        if self._api_key and request.path != "/health":
            sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not secrets.compare_digest(sent.encode(), self._api_key.encode()):
                return error(401, "this gateway wants its API key as a bearer token", "authentication_error")
        elif not self._api_key:
            host = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
            if host not in ("127.0.0.1", "localhost", "[::1]"):
                return error(403, f"host {host!r} is not this machine's loopback", "forbidden")
        response: web.StreamResponse = await handler(request)
        return response

    def _make_worker(self, index: int) -> Worker | ExternalWorker:
        if self.profile.engine.kind == "external":
            return ExternalWorker(self.profile, index)
        if self._engine is None:
            raise EngineError("no engine was prepared for this node", hint="start it with `thunderctl up`")
        return Worker(self.profile, index, self._engine, self._model, self.folder / "logs" / f"worker-{index}.log")

    async def _start_worker(self, index: int) -> None:
        name = f"w{index}"
        worker = self._workers[name] = self._make_worker(index)
        await worker.start()
        if worker.pid is not None and worker.create_time is not None and worker.pgid is not None:
            self.journal.note_process(worker.pid, worker.create_time, worker.pgid, "worker", name)
        facts = await worker.wait_ready(lambda text: self._say(f"{name}: {text}"))
        self._facts[name] = facts
        self.upstreams.add(name, worker.url)
        self.shell.submit(ev.WorkerUp(name, facts.capacity_tokens, facts.prefill_tokens_per_s))
        log.info("%s up at %s: %s", name, worker.url, facts)

    def _say(self, text: str) -> None:
        """What is going on, for whoever waits for this node to come up; and for the log."""
        self.progress = text if self.state == "starting" else self.progress
        log.info("%s", text)

    # ------------------------------------------------------------------ while it runs

    def _environment_changed(self, kind: str, lease: Lease) -> None:
        """Tools run through the manager, so the scheduler hears of their start and end before the next call comes."""
        if kind == "tool_started":
            self._tools_since[lease.id] = self.shell.now()
            self.shell.submit(ev.ToolStarted(lease.program))
        elif kind == "tool_finished":
            began = self._tools_since.pop(lease.id, self.shell.now())
            self.shell.submit(ev.ToolFinished(lease.program, self.shell.now() - began))

    def tool_told(self, program: str, state: str) -> None:
        """An agent that runs its tools by itself says when one starts and ends."""
        if state == "started":
            self._tools_since[f"program {program}"] = self.shell.now()
            self.shell.submit(ev.ToolStarted(program))
        else:
            began = self._tools_since.pop(f"program {program}", self.shell.now())
            self.shell.submit(ev.ToolFinished(program, self.shell.now() - began))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch_worker(self, index: int) -> None:
        """Notice a worker's death at once; start it again a few times, then give it up."""
        name = f"w{index}"
        for attempt in range(RESTARTS + 1):
            worker = self._workers[name]
            await worker.wait()
            log.error("%s is gone", name)
            self.shell.submit(ev.WorkerLost(name))
            await self.upstreams.remove(name)
            await worker.stop()
            if worker.pid is not None:
                self.journal.forget_process(worker.pid)
            if attempt == RESTARTS:
                break
            await asyncio.sleep(2.0**attempt)
            try:
                await self._start_worker(index)
            except ThunderError as failure:
                log.error("%s did not start again: %s", name, failure.message)
        log.error("%s is given up after %s restarts", name, RESTARTS)

    async def _watch_parent(self) -> None:
        """A node that a run started ends with it, even if the run was killed."""
        assert self._parent is not None  # noqa: S101 - only spawned with a parent
        while True:
            try:
                alive = abs(psutil.Process(int(self._parent["pid"])).create_time() - self._parent["create_time"]) < 1
            except psutil.NoSuchProcess:
                alive = False
            if not alive:
                log.warning("the command that started this node is gone: stopping")
                self.stop()
                return
            await asyncio.sleep(PARENT_CHECK_S)

    def _read_lag(self, worker: str) -> Lag | None:
        found = self._workers.get(worker)
        return found.read_lag() if isinstance(found, Worker) else None

    def reclaim(self, program: str) -> None:
        """Give back whatever environments ``program`` leased; does not wait for it."""
        self._tools_since.pop(f"program {program}", None)
        if self._environments_ready:
            self._spawn(self.environments.release_program(program))

    def worker_rows(self) -> list[dict[str, Any]]:
        """One mapping a worker: state, place, capacity and use in tokens."""
        rows = []
        for name, worker in self._workers.items():
            ledger = self.shell.scheduler.workers.get(name)
            facts = self._facts.get(name)
            rows.append(
                {
                    "name": name,
                    "url": worker.url,
                    "pid": worker.pid,
                    "state": "up" if ledger else ("starting" if self.state == "starting" else "lost"),
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

    def environment_summary(self) -> dict[str, Any]:
        if not self._environments_ready:
            return {"backend": None, "notice": None, "leases": {}}
        states = Counter(lease.state for lease in self.environments.leases(active=True))
        return {"backend": self.environments.backend.name, "notice": self.environments.notice, "leases": states}

    # ------------------------------------------------------------------ down

    def stop(self) -> None:
        """Begin to stop; ``serve`` returns when it is done."""
        self.state, self.progress = "stopping", "stopping"
        self.gateway.draining = True
        self._stopped.set()

    async def _go_down(self) -> None:
        self.state = "stopping"
        self.gateway.draining = True
        self.shell.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        await self.probe.close()
        await self.upstreams.close()
        ends = await asyncio.gather(
            self.environments.close(), *(w.stop() for w in self._workers.values()), return_exceptions=True
        )
        for failure in ends:
            if isinstance(failure, BaseException):
                log.error("while stopping: %s", failure)
        for worker in self._workers.values():
            if worker.pid is not None:
                self.journal.forget_process(worker.pid)
        await self.journal.close()
        (self.folder / "token").unlink(missing_ok=True)
        (self.folder / "node.json").unlink(missing_ok=True)
        log.info("stopped")
