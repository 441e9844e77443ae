"""Bringing a node up and down from outside: preflight, engine, the daemon's process, and waiting until it serves.

Idempotent: ``bring_up`` converges on the profile by its digest. Whatever interrupts it takes the node down again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from thunderctl import paths
from thunderctl.agents.client import DaemonClient
from thunderctl.core.policies import make_policy
from thunderctl.environments import collector, reaper, reaper_link
from thunderctl.errors import DaemonError, ExitCode, PreflightError, ProfileError, ThunderError
from thunderctl.node import NodeRecord, alive, node_dir, read_node
from thunderctl.profile import Profile
from thunderctl.profile_files import ResolvedProfile
from thunderctl.workers.engine import ensure_engine
from thunderctl.workers.model import ensure_small_model

DEFAULT_NODE = "default"
HEALTH_S = 20.0
"""A daemon that answers at all does so in milliseconds, unless its machine is far beyond its means."""
SPACE_WANTED = 200 * 2**20
"""Bytes that must be free where state and runs go, before anything is started."""
STOP_S = 60.0
"""Seconds a daemon gets to take its node down before it is killed and collected."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class NodeHandle:
    """A node that is up."""

    name: str
    record: NodeRecord
    token: str
    served_name: str
    was_up: bool
    """It was up already, with this very profile."""

    def client(self) -> DaemonClient:
        """A client for it; the API key, if the profile wants one, comes from the environment."""
        launch = json.loads((node_dir(self.name) / "launch.json").read_text())
        key = launch["profile"]["gateway"]["api_key_env"]
        return DaemonClient(
            self.record.url, token=self.token, api_key=os.environ.get(key, "") if key else "", model=self.served_name
        )


def preflight(profile: Profile) -> None:
    """What can be known to fail before anything is started."""
    try:
        make_policy(profile.scheduler.policy, profile.scheduler.options)
    except ValueError as error:
        raise ProfileError(f"scheduler: {error}") from None
    for folder in (paths.home(), paths.cache()):
        room_for(folder, SPACE_WANTED)
    key = profile.gateway.api_key_env
    if key and not os.environ.get(key):
        raise PreflightError(f"gateway.api_key_env names {key}, which is not set", hint=f"export {key}=…")


def room_for(folder: Path, wanted: int) -> None:
    """``PreflightError`` unless ``wanted`` bytes are free where ``folder`` is or will be."""
    place = folder
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        raise PreflightError(
            f"{place} is not writable", hint="THUNDERCTL_HOME and THUNDERCTL_CACHE choose other places"
        )
    free = shutil.disk_usage(place).free
    if free < wanted:
        raise PreflightError(
            f"not enough disk space at {folder}: {free // 2**20} MiB free, {wanted // 2**20} MiB wanted",
            hint="make room, or choose other places with THUNDERCTL_HOME and THUNDERCTL_CACHE",
        )


@contextlib.contextmanager
def _only_one(name: str, progress: Progress) -> Iterator[None]:
    """One ``up`` or ``down`` of a node at a time; a second waits and says so."""
    folder = node_dir(name)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another thunderctl that brings this node up or down")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def current(name: str = DEFAULT_NODE) -> NodeHandle | None:
    """The node if it is up and serves, else ``None``; ``DaemonError`` if its answer does not come in time."""
    record = read_node(name)
    if record is None or not alive(record):
        return None
    try:
        health = _health_in_time(record)
    except TimeoutError:
        raise DaemonError(
            f"node {name} is up, but did not answer in {HEALTH_S:.0f} s",
            hint="`thunderctl logs` may tell why; try again, or `thunderctl down`",
        ) from None
    if health is None or health["status"] != "ok":
        return None
    return _handle(name, record, was_up=True)


def need(name: str = DEFAULT_NODE) -> NodeHandle:
    """The node, or an error that says how to get one."""
    handle = current(name)
    if handle is None:
        raise DaemonError(f"no node is up ({name})", hint="thunderctl up laptop")
    return handle


def _handle(name: str, record: NodeRecord, *, was_up: bool) -> NodeHandle:
    launch = json.loads((node_dir(name) / "launch.json").read_text())
    token = (node_dir(name) / "token").read_text()
    return NodeHandle(name, record, token, Profile.model_validate(launch["profile"]).served_name, was_up)


def health_of(record: NodeRecord) -> dict[str, Any] | None:
    """The daemon's ``/health``, or ``None`` if it does not answer."""
    try:
        return _health_in_time(record)
    except TimeoutError:
        return None


def _health_in_time(record: NodeRecord) -> dict[str, Any] | None:
    """``None`` if nobody listens; ``TimeoutError`` if somebody does, and is too busy to answer."""
    try:
        with urllib.request.urlopen(record.url + "/health", timeout=HEALTH_S) as answer:  # noqa: S310 - our own URL
            found: dict[str, Any] = json.load(answer)
            return found
    except TimeoutError:
        raise
    except (urllib.error.URLError, OSError, ValueError) as failure:
        if isinstance(getattr(failure, "reason", None), TimeoutError):
            raise TimeoutError from failure
        return None


def bring_up(
    resolved: ResolvedProfile, *, name: str = DEFAULT_NODE, progress: Progress, ends_with_me: bool = False
) -> NodeHandle:
    """Converge on the profile: nothing to do, start, or replace what runs. Waits until every worker is healthy.

    ``ends_with_me``: the node stops by itself when this process is gone.
    """
    profile = resolved.profile
    preflight(profile)
    with _only_one(name, progress):
        record = read_node(name)
        if record is not None and alive(record):
            health = health_of(record)
            if record.digest == profile.digest() and health is not None and health["status"] == "ok":
                return _handle(name, record, was_up=True)
            progress("the node runs another profile: taking it down first")
            _take_down(name, progress)
            record = None
        if record is not None and record.digest == profile.digest():
            # What runs on is taken over by the new daemon, and what it cannot use it clears away itself.
            progress("an earlier daemon of this node was killed: its workers and programs are taken over")
        else:
            _collect_remains(name, progress)
        engine = model = None
        if profile.engine.environment != "external":
            found = ensure_engine(
                profile.engine.environment, profile.engine.version, python=profile.engine.python, progress=progress
            )
            engine = {"kind": found.kind, "version": found.version, "python": str(found.python)}
            source = profile.model.source
            model = str(ensure_small_model(found.python, progress)) if source == "small" else source
        with reaper_link.held(name, "launcher"):  # before anything that a kill could leave behind
            return _start_daemon(resolved, name, engine, model, progress, ends_with_me=ends_with_me)


def _start_daemon(
    resolved: ResolvedProfile,
    name: str,
    engine: dict[str, str] | None,
    model: str | None,
    progress: Progress,
    *,
    ends_with_me: bool,
) -> NodeHandle:
    folder = node_dir(name)
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    (folder / "failure.json").unlink(missing_ok=True)
    launch = {
        "profile": resolved.profile.model_dump(mode="json"),
        "sources": resolved.sources,
        "engine": engine,
        "model": model,
        "parent": {"pid": os.getpid(), "create_time": psutil.Process().create_time()} if ends_with_me else None,
    }
    (folder / "launch.json").write_text(json.dumps(launch, indent=1))
    progress("starting the daemon")
    with (folder / "logs" / "daemon.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "thunderctl.daemon", name],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the command in front, which then takes the node down in order
            cwd=folder,
        )
    try:
        return _wait_until_served(name, process, progress)
    except BaseException:
        progress("taking the node down again")
        _end(process)
        _collect_remains(name, progress)
        raise


def _wait_until_served(name: str, process: subprocess.Popen[bytes], progress: Progress) -> NodeHandle:
    said = ""
    while True:
        if process.poll() is not None:
            raise _failure_of(name)
        record = read_node(name)
        if record is not None and record.pid == process.pid:
            health = health_of(record)
            if health is not None:
                if health["status"] == "ok":
                    return _handle(name, record, was_up=False)
                if health["phase"] != said:
                    said = health["phase"]
                    progress(said)
        time.sleep(0.2)


def _failure_of(name: str) -> ThunderError:
    """Why the daemon went away, as it wrote it down."""
    try:
        record = json.loads((node_dir(name) / "failure.json").read_text())
    except (OSError, ValueError):
        lines = (node_dir(name) / "logs" / "daemon.log").read_text(errors="replace").splitlines()[-5:]
        return DaemonError("the daemon ended without saying why", details=lines)
    failure = ThunderError(record["message"], hint=record["hint"], details=record["details"])
    failure.exit_code = ExitCode(record["exit_code"])
    return failure


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def take_down(name: str = DEFAULT_NODE, *, progress: Progress) -> bool:
    """Stop the node and everything it started. False if it was not up."""
    if not node_dir(name).is_dir():
        return False
    with _only_one(name, progress):
        was_up = _take_down(name, progress)
        _collect_remains(name, progress)
        reaper_link.dismiss(name)
        return was_up


def _take_down(name: str, progress: Progress) -> bool:
    record = read_node(name)
    if record is None or not alive(record):
        return False
    progress("stopping the daemon, its workers and tool environments")
    process = psutil.Process(record.pid)
    process.terminate()
    try:
        process.wait(STOP_S)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(10)
    return True


def _collect_remains(name: str, progress: Progress) -> None:
    """What a killed life of this node left behind goes before a new one starts."""
    if not (node_dir(name) / "state.db").exists():
        return
    plan = collector.plan()
    ours = [item for item in plan.items if item.node == name]
    if ours:
        progress(f"collecting {len(ours)} thing(s) that an earlier life of this node left behind")
        collector.carry_out(replace(plan, items=ours))


def forget(name: str) -> None:
    """Remove the folder of a node that is down for good; one that is up, or not yet collected, stays."""
    if reaper.look(node_dir(name)) == "nothing":
        shutil.rmtree(node_dir(name), ignore_errors=True)
