"""One vLLM server as a process: started, watched until it is ready, stopped with all that it spawned.

What the command says is in ``command.py``, what the server can do in ``facts.py``. A worker outlives its daemon's
death on purpose; who keeps the books finds it again by ``pid`` and ``create_time``.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import aiohttp
import psutil

from thunderctl.errors import EngineError
from thunderctl.profile import Profile
from thunderctl.workers.command import FORBIDDEN_ENVIRONMENT, HOST, ServeCommand, serve_command
from thunderctl.workers.emulation import Lag, read_lag
from thunderctl.workers.engine import EngineEnvironment
from thunderctl.workers.facts import WorkerFacts, learn_facts
from thunderctl.workers.log import last_error_lines
from thunderctl.workers.scratch import make_scratch

__all__ = ["ServeCommand", "Worker", "WorkerFacts", "hold_port", "last_error_lines", "serve_command"]

_POLL_S = 0.25
_TELL_S = 2.0
_KILL_WAIT_S = 10.0

# Not for the server: doors that must stay shut, a key that would lock out our own probes, module paths and habits
# of our interpreter. Without .pyc files each start takes twice as long (53 s instead of 27 s).
_NOT_INHERITED = (
    *FORBIDDEN_ENVIRONMENT,
    "VLLM_API_KEY",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONDONTWRITEBYTECODE",
    "VIRTUAL_ENV",
)


def hold_port() -> tuple[socket.socket, int]:
    """A free loopback port, kept from everybody else by a socket that is bound but does not listen.

    The kernel gives a bound port to nobody who asks for any port, and lets a server bind it that sets SO_REUSEADDR
    (vLLM with one API server) or SO_REUSEPORT (with several). Close the socket once the server listens.
    """
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind((HOST, 0))
    return holder, int(holder.getsockname()[1])


class Worker:
    """The server of worker ``index``. ``start``, ``wait_ready``, then ``wait`` and ``stop``; used once."""

    def __init__(
        self,
        profile: Profile,
        index: int,
        engine: EngineEnvironment,
        model_path: Path | str | None,
        log_path: Path,
    ) -> None:
        self.index = index
        self.log_path = log_path
        self.facts: WorkerFacts | None = None
        self.command: ServeCommand | None = None
        self.url = ""
        """Base URL without ``/v1``; empty before ``start``."""
        self.pid: int | None = None
        self.pgid: int | None = None
        """Process group and session, both of the server's own."""
        self.create_time: float | None = None
        """Seconds since the epoch; with ``pid`` it tells the process from a later one of the same number."""
        self._profile = profile
        self._engine = engine
        self._model_path = model_path
        self._process: asyncio.subprocess.Process | None = None
        self._holder: socket.socket | None = None
        self.scratch: Path | None = None
        """Its folder for temporary files, once it was started."""
        self._log_start = 0

    @property
    def alive(self) -> bool:
        """Whether the server's process runs."""
        return self._process is not None and self._process.returncode is None

    async def start(self, note: Callable[[Path], None] = lambda scratch: None) -> None:
        """Start the server; returns as soon as its process exists.

        ``note`` is told of its folder for temporary files before the process exists: by it the process can be found,
        should whoever starts it be killed before they can write its number down.

        Raises:
            EngineError: the process could not be started.
        """
        self._holder, port = hold_port()
        # vLLM leaves its sockets and rendezvous files behind; here they go with the worker.
        self.scratch = make_scratch()
        try:
            note(self.scratch)
            command = serve_command(self._profile, self.index, port, self._engine.python, self._model_path)
            inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            with self.log_path.open("ab") as log:
                self._log_start = log.tell()
                self._process = await asyncio.create_subprocess_exec(
                    *command.argv,
                    env=inherited | {"TMPDIR": str(self.scratch)} | self._lag_file() | command.env,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=asyncio.subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            self._let_go()
            raise EngineError(f"worker {self.index} could not be started: {error}") from error
        except BaseException:
            self._let_go()
            raise
        self.command = command
        self.url = f"http://{HOST}:{port}"
        self.pid = self.pgid = self._process.pid
        try:
            self.create_time = psutil.Process(self.pid).create_time()
        except psutil.NoSuchProcess:  # gone already; wait_ready tells why
            self.create_time = time.time()

    def _lag_file(self) -> dict[str, str]:
        if self._profile.engine.kind != "emulated":
            return {}
        return {"THUNDERCTL_EMULATION_FILE": str(self.lag_path)}

    @property
    def lag_path(self) -> Path:
        """Where an emulated worker counts its steps; beside its log."""
        return self.log_path.with_suffix(".steps")

    def read_lag(self) -> Lag | None:
        """What an emulated worker says of its pace so far; None for other workers, and before the first step."""
        return read_lag(self.lag_path) if self._profile.engine.kind == "emulated" else None

    async def wait_ready(self, progress: Callable[[str], None] = lambda line: None) -> WorkerFacts:
        """Wait until the server answers, then learn what it can do and measure its prefill rate.

        Raises:
            EngineError: it died, or was not ready within ``workers.startup_timeout_s``; with its own words.
                The process is not stopped here.
        """
        began = told = time.monotonic()
        limit = self._profile.workers.startup_timeout_s
        async with aiohttp.ClientSession() as session:
            while not await self._healthy(session):
                if not self.alive:
                    raise self._failure(f"worker {self.index} ended while it was starting")
                now = time.monotonic()
                if now - began > limit:
                    raise self._failure(f"worker {self.index} was not ready after {limit:.0f} s")
                if now - told >= _TELL_S:
                    told = now
                    progress(f"starting vLLM ({now - began:.0f} s)")
                await asyncio.sleep(_POLL_S)
            self._close_holder()
            progress("measuring the prefill rate")
            try:
                self.facts = await learn_facts(session, self.url, self._profile.time_scale)
            except EngineError as error:
                if self.alive:
                    raise
                raise self._failure(f"worker {self.index} ended at its first prompt") from error
        return self.facts

    async def _healthy(self, session: aiohttp.ClientSession) -> bool:
        if not self.alive:
            return False
        try:
            async with session.get(f"{self.url}/health", timeout=aiohttp.ClientTimeout(total=5)) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _failure(self, message: str) -> EngineError:
        code = self._process.returncode if self._process else None
        if code is not None:
            message += f" (exit code {code})" if code >= 0 else f" (signal {-code})"
        return EngineError(
            message,
            hint=f"the whole log: {self.log_path}",
            details=last_error_lines(self.log_path, self._log_start),
        )

    async def wait(self) -> int:
        """Wait for the server to end; its exit code, negative for a signal."""
        if self._process is None:
            raise RuntimeError("wait() before start()")
        return await self._process.wait()

    async def stop(self) -> None:
        """End the server and everything it spawned: SIGTERM, after ``workers.stop_grace_s`` SIGKILL. Idempotent."""
        if self._process is not None:
            members = await asyncio.to_thread(self._members)
            _signal(members, signal.SIGTERM)
            await _gone(members, self._profile.workers.stop_grace_s)
            # Those that ignored it, and those that were spawned meanwhile.
            stubborn = {*members, *await asyncio.to_thread(self._members)}
            _signal(stubborn, signal.SIGKILL)
            await _gone(stubborn, _KILL_WAIT_S)
            await self._process.wait()
        self._let_go()

    def _members(self) -> list[psutil.Process]:
        """The server's processes: its session, and their descendants that made a session of their own.

        Each one remembers its creation time, and psutil signals none whose number was given to another since.
        """
        members: set[psutil.Process] = set()
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError, PermissionError):
                ours = os.getsid(process.pid) == self.pid and process.create_time() >= (self.create_time or 0)
                if ours and _runs(process):
                    members.add(process)
                    members.update(process.children(recursive=True))
        return list(members)

    def _let_go(self) -> None:
        self._close_holder()
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)
            self.scratch = None

    def _close_holder(self) -> None:
        if self._holder is not None:
            self._holder.close()
            self._holder = None


def _runs(process: psutil.Process) -> bool:
    """Whether it is still the same process and not a dead one that its parent did not collect yet."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


async def _gone(processes: Iterable[psutil.Process], timeout_s: float) -> None:
    """Wait until none of them runs, at most so long. Never collects an exit code: the event loop does that.

    It polls: nothing tells of the end of a process that is not our child.
    """
    deadline = time.monotonic() + timeout_s
    while any(_runs(process) for process in processes) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
