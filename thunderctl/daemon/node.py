"""One node's life: open the door, start workers and environments, serve, stop everything again.

Rule: whatever is started here is noted in ``state.db`` first or at once, so that a collector can find it after a
SIGKILL; whatever fails on the way up takes everything down again and leaves its reason in ``failure.json``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from aiohttp import web

from thunderctl import __version__
from thunderctl.core import events as ev
from thunderctl.core.policies import make_policy
from thunderctl.core.scheduler import Scheduler
from thunderctl.daemon import logs, tracing, ui
from thunderctl.daemon.containers import AgentContainers
from thunderctl.daemon.control import Control
from thunderctl.daemon.door import Door, Exchange, Reply, error
from thunderctl.daemon.fleet import Fleet
from thunderctl.daemon.gate import Gate
from thunderctl.daemon.gateway import Gateway
from thunderctl.daemon.journal import Journal, boots, events
from thunderctl.daemon.live import Live
from thunderctl.daemon.metrics import Metrics, NodeFacts
from thunderctl.daemon.probe import Probe
from thunderctl.daemon.shell import Shell
from thunderctl.daemon.upstream import Upstreams
from thunderctl.daemon.weights import Weights
from thunderctl.daemon.weights_api import WeightsApi
from thunderctl.environments import reaper_link
from thunderctl.environments.lease import Lease, LeaseLedger
from thunderctl.environments.manager import EnvironmentManager
from thunderctl.errors import DaemonError, PreflightError
from thunderctl.node import NodeRecord, alive, node_dir, read_record, write_node
from thunderctl.profile import Profile
from thunderctl.workers.engine import EngineEnvironment

log = logging.getLogger("thunderctl.daemon")

OPEN_PATHS = frozenset({"/health", *ui.PATHS})
"""What is answered without the key: that the node lives, and the page that asks for the key."""
PARENT_CHECK_S = 1.0
SHUTDOWN_S = 5.0
"""What answers that are under way have to end when the node stops."""
REAPER_PAUSE_S = 30.0
"""Seconds between two attempts to get a reaper, should one not start."""


class Node:
    """Everything that one ``thunderctl up`` runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = node_dir(name)
        launch = json.loads((self.folder / "launch.json").read_text())
        self.profile = Profile.model_validate(launch["profile"])
        engine = launch["engine"]
        self._parent: dict[str, float] | None = launch.get("parent")
        self.pid = os.getpid()
        self.create_time = psutil.Process().create_time()
        self.started = time.monotonic()
        self.state = "starting"
        self.progress = "starting"
        self._hold = reaper_link.hold(name, "daemon")  # first of all: it may be collecting what a killed life left
        self._killed = self._killed_life()
        self.resumed = False
        """Whether this daemon knows the programs of one that was killed."""
        self.token = self._inherited_token() or secrets.token_hex(16)
        key = self.profile.gateway.api_key_env
        self._api_key = os.environ.get(key, "") if key else ""
        troubles = logs.begin([self.token, self._api_key])
        self._stopped = asyncio.Event()
        self._environments_ready = False
        self.journal = self._open_journal()
        self.shell = Shell(
            self._new_scheduler(), self.journal, self.reclaim, self.prepare, time_scale=self.profile.time_scale
        )
        self.upstreams = Upstreams(self.profile.gateway)
        gate = Gate()
        self.weights = Weights(self.profile, launch["model"], gate, self.shell, self.journal)
        self.fleet = Fleet(
            self.profile,
            EngineEnvironment(engine["kind"], engine["version"], Path(engine["python"]), None) if engine else None,
            launch["model"],
            self.folder / "logs",
            shell=self.shell,
            upstreams=self.upstreams,
            journal=self.journal,
            say=self._say,
            weights=self.weights,
        )
        self.probe = Probe(self.shell, self.upstreams, self.fleet.read_lag)
        self.environments = EnvironmentManager(
            self.profile.environments,
            LeaseLedger(self.folder / "state.db"),
            self.folder,
            name,
            on_event=self._environment_changed,
            progress=self._say,
        )
        self._containers = AgentContainers(name, self.journal)
        self._tools_since: dict[str, float] = {}
        self.tools_to_come: dict[str, str] = {}
        """By lease: a short name of the command that it was given last and that did not start yet."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self.live = Live(self, troubles)
        self.metrics = self._make_metrics()
        self._tracing = self._make_tracing()
        self.shell.spectators = (self.metrics.saw, *([self._tracing.saw] if self._tracing is not None else []))
        self.gateway = Gateway(self.profile.gateway, self.shell, self.upstreams, own_key=bool(self._api_key), gate=gate)
        self._runner: web.AppRunner | None = None
        self._door: Door | None = None

    def _make_metrics(self) -> Metrics:
        about = {
            "version": __version__, "node": self.name, "profile": self.profile.name,
            "policy": self.profile.scheduler.policy, "engine": self.profile.engine.kind,
        }  # fmt: skip
        facts = NodeFacts(
            about, time.time(), lambda: self.state == "ready", self.live.workers,
            lambda: self.environment_summary()["leases"], self.live.disk,
        )  # fmt: skip
        return Metrics(self.shell, facts)

    def _make_tracing(self) -> tracing.Tracing | None:
        provider = tracing.provider_from(os.environ, self.name) if tracing.is_wanted(os.environ) else None
        if provider is None:
            return None
        return tracing.Tracing(
            provider, model=self.profile.served_name, now=self.shell.now, time_scale=self.profile.time_scale
        )

    # ------------------------------------------------------------------ after a kill

    def _killed_life(self) -> NodeRecord | None:
        """The record of a daemon of this node that was killed under this very profile.

        One that went down in order took its record away; so does whoever collects what a killed one left.
        """
        record = read_record(self.folder)
        known = record is not None and record.digest == self.profile.digest() and not alive(record)
        return record if known and (self.folder / "state.db").exists() else None

    def _inherited_token(self) -> str:
        try:
            return (self.folder / "token").read_text() if self._killed is not None else ""
        except OSError:
            return ""

    def _open_journal(self) -> Journal:
        state = self.folder / "state.db"
        lives = boots(state) if self._killed is not None else []
        boot = lives[-1][0] if lives else f"{self.pid}-{self.create_time:.2f}"
        spec = {**self.profile.scheduler.model_dump(), **self._scheduler_options()}
        return Journal(state, boot, time.time(), spec)

    def _new_scheduler(self) -> Scheduler:
        policy = make_policy(self.profile.scheduler.policy, self.profile.scheduler.options)
        return Scheduler(policy, **self._scheduler_options())

    def _scheduler_options(self) -> dict[str, Any]:
        return {
            "program_ttl_s": self.profile.gateway.program_ttl_s,
            "prepare_ahead": self.profile.environments.prepare_ahead,
        }

    async def _resume(self) -> None:
        """Know the programs again that the killed daemon knew, and take its workers over."""
        began = time.monotonic()
        try:
            count = self.shell.resume(events(self.journal.path, self.journal.boot))
            self.resumed = True
        except Exception:
            # A journal that another version wrote, say. Programs then begin anew at their next call.
            log.exception("the journal of the killed daemon cannot be replayed: its programs are forgotten")
            self.shell.begin(self._new_scheduler())
            self.journal.begin_anew(f"{self.pid}-{self.create_time:.2f}")
            count = 0
        for program, container in self.journal.containers():
            self.shell.register_containers(program, [container])
            # One whose end, or whose first call, fell into the kill is nobody's unless its agent comes back.
            if program not in self.shell.scheduler.programs:
                limit = self.profile.gateway.program_ttl_s * self.profile.time_scale
                asyncio.get_running_loop().call_later(limit, self._end_if_silent, program)
        taken_over = await self.fleet.take_over()
        log.info(
            "resumed after a kill: %d events replayed in %.1f s, %d programs, workers taken over: %s",
            count, time.monotonic() - began, len(self.shell.scheduler.programs), ", ".join(taken_over) or "none",
        )  # fmt: skip

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
        self._spawn(self._keep_reaper())
        self._spawn(logs.keep_small(self.folder / "logs"))
        self.journal.start()
        if self._killed is not None:
            await self._resume()
        await self._open_door()
        if self._parent is not None:
            self._spawn(self._watch_parent())
        self.progress = "preparing tool environments"
        await self.environments.start(take_over=self.resumed)
        self._environments_ready = True
        await self.fleet.start_missing()
        self.probe.start()
        for index in range(self.fleet.count):
            self._spawn(self.fleet.watch(index))
        self.state, self.progress = "ready", "ready"
        log.info("ready: %s worker(s), policy %s", self.fleet.count, self.profile.scheduler.policy)

    async def _open_door(self) -> None:
        max_body = int(self.profile.gateway.max_body_mib * 2**20)
        app = web.Application(client_max_size=max_body)
        control = Control(self)
        weights = WeightsApi(self.weights, control.owner_only)
        app.add_routes([*control.routes(), *weights.routes(), *self.live.routes(), *ui.routes()])
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        assert self._runner.server is not None  # noqa: S101 - just set up
        self._door = Door(self.gateway.handlers(), self._runner.server, max_body=max_body, refusal=self._refusal)
        self.live.start()
        spec = self.profile.gateway
        try:
            host, port = await self._listen(self._door, spec.host, spec.port)
        except OSError as refused:
            raise PreflightError(
                f"gateway.port: cannot listen on {spec.host}:{spec.port}: {refused.strerror or refused}",
                hint="choose another with -c gateway.port=N, or 0 to let the kernel choose one that is free",
            ) from None
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        token = self.folder / "token"
        token.unlink(missing_ok=True)
        token.touch(mode=0o600)
        token.write_text(self.token)
        write_node(
            self.folder,
            NodeRecord(self.pid, self.create_time, url, self.profile.name, self.profile.digest(), time.time()),
        )

    async def _listen(self, door: Door, host: str, port: int) -> tuple[str, int]:
        if port == 0 and self._killed is not None:
            # Agents that lost the killed daemon look for this one where that one was.
            with contextlib.suppress(OSError, ValueError):
                return await door.listen(host, urlsplit(self._killed.url).port or 0)
        return await door.listen(host, port)

    def _refusal(self, request: Exchange) -> Reply | None:
        """Nobody without the key; on loopback, nobody whose browser was led here under another host's name."""
        if self._api_key:
            sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if request.path in OPEN_PATHS or secrets.compare_digest(
                sent.encode(errors="surrogateescape"), self._api_key.encode()
            ):
                return None
            return error(401, "this gateway wants its API key as a bearer token", "authentication_error")
        name = request.headers.get("Host", "")
        host = name.rsplit(":", 1)[0] if not name.endswith("]") else name
        if host in ("127.0.0.1", "localhost", "[::1]"):
            return None
        return error(403, f"host {host!r} is not this machine's loopback", "forbidden")

    def _say(self, text: str) -> None:
        """What is going on, for whoever waits for this node to come up; and for the log."""
        self.progress = text if self.state == "starting" else self.progress
        log.info("%s", text)

    # ------------------------------------------------------------------ while it runs

    def _environment_changed(self, kind: str, lease: Lease) -> None:
        """Tools run through the manager, so the scheduler hears of their start and end before the next call comes."""
        if kind == "tool_started":
            self._tools_since[lease.id] = self.shell.now()
            self.shell.submit(ev.ToolStarted(lease.program, self.tools_to_come.pop(lease.id, "")))
        elif kind == "ready":
            seconds = self.environments.seconds_to_prepare(lease.id) / self.profile.time_scale
            self.shell.submit(ev.EnvironmentReady(lease.program, seconds))
        elif kind == "failed":
            self.shell.submit(ev.EnvironmentFailed(lease.program))
        elif kind == "reclaimed":
            self.tools_to_come.pop(lease.id, None)
        elif kind == "tool_finished":
            began = self._tools_since.pop(lease.id, self.shell.now())
            self.shell.submit(ev.ToolFinished(lease.program, self.shell.now() - began))

    def tool_told(self, program: str, state: str, tool: str = "") -> None:
        """An agent that runs its tools by itself says when one starts and ends.

        If it never says that a tool ended, it is taken as ended after ``gateway.program_ttl_s``.
        """
        name = f"program {program}"
        if state == "started":
            began = self._tools_since[name] = self.shell.now()
            self.shell.submit(ev.ToolStarted(program, tool))
            limit = self.profile.gateway.program_ttl_s * self.profile.time_scale
            asyncio.get_running_loop().call_later(limit, self._tool_forgotten, program, began)
        else:
            began = self._tools_since.pop(name, self.shell.now())
            self.shell.submit(ev.ToolFinished(program, self.shell.now() - began))

    def _tool_forgotten(self, program: str, began: float) -> None:
        if self._tools_since.get(f"program {program}") == began and self.state != "stopping":
            self.tool_told(program, "finished")

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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

    async def _keep_reaper(self) -> None:
        """Notice that the reaper died, and start another: nobody else would."""
        loop = asyncio.get_running_loop()
        while True:
            self._hold.connection.setblocking(False)
            with contextlib.suppress(OSError):
                await loop.sock_recv(self._hold.connection, 1)
            log.warning("the reaper of this node is gone: starting another")
            try:
                self._hold = await asyncio.to_thread(reaper_link.hold, self.name, "daemon")
            except DaemonError as failure:
                log.error("%s", failure.message)
                await asyncio.sleep(REAPER_PAUSE_S)

    def reclaim(self, program: str) -> None:
        """Give back whatever environments ``program`` leased, and collect the containers that its agent registered.

        Does not wait for it.
        """
        self._tools_since.pop(f"program {program}", None)
        self.shell.forget_containers(program)
        self._containers.end(program)
        if self._tracing is not None:
            self._tracing.program_ended(program)
        if self._environments_ready:
            self._spawn(self.environments.release_program(program))

    def _end_if_silent(self, program: str) -> None:
        if program not in self.shell.scheduler.programs and self.state != "stopping":
            self.reclaim(program)

    def prepare(self, program: str) -> None:
        """Begin to prepare the environments that ``program`` announced; does not wait for them."""
        if self._environments_ready:
            self.environments.prepare_program(program)

    @property
    def wants_key(self) -> bool:
        return bool(self._api_key)

    def worker_rows(self) -> list[dict[str, Any]]:
        """One mapping a worker: state, place, capacity and use in tokens."""
        return self.fleet.rows(starting=self.state == "starting")

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
        await self.live.close()
        await self.weights.close()
        if self._door is not None:
            await self._door.close(SHUTDOWN_S)
        if self._runner is not None:
            await self._runner.cleanup()
        await self.probe.close()
        await self.upstreams.close()
        closed, collected, failures = await asyncio.gather(
            self.environments.close(), self._containers.close(), self.fleet.stop(), return_exceptions=True
        )
        for failure in [closed, collected, *(failures if isinstance(failures, list) else [failures])]:
            if isinstance(failure, BaseException):
                log.error("while stopping: %s", failure)
        if self._tracing is not None:
            await self._tracing.close()
        await self.journal.close()
        (self.folder / "token").unlink(missing_ok=True)
        (self.folder / "node.json").unlink(missing_ok=True)
        await asyncio.to_thread(self._hold.farewell)
        log.info("stopped")
