"""Kills at random moments of real runs with real containers: afterwards nothing of ours is left, and all of others' is.

Each moment has a home, a command line and a daemon of its own, and a seed that decides who is killed when.
``THUNDERCTL_TEST_KILLS`` is the number of moments of the long test. Each prints one line.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import docker
import psutil
import pytest

from tests.commandline import CommandLine, until
from tests.daemon.killable import STUB
from thunderctl.environments.docker import connect
from thunderctl.environments.images import BASE, Images

pytestmark = pytest.mark.docker

MOMENTS = int(os.environ.get("THUNDERCTL_TEST_KILLS", "100"))
FIRST_SEED = 1000
LANES = 3
"""Moments at once."""
LATEST_S = {"its start": 9.0, "its daemon's start": 2.0, "its first container": 1.5}
"""What a moment is counted from, and how long after that it is at most. Agents have worked for some seconds at the end
of the first; the others are about what is half made."""
GONE_AFTER_S = 60.0
"""The promise."""

PROFILE = """
engine: {{kind: external}}
workers: {{urls: ['{url}'], replay: true}}
gateway: {{port: 0}}
environments: {{backend: docker, image: '{image}', reap_after_s: {reap_after_s}}}
"""


@dataclass(frozen=True)
class Moment:
    """Who gets SIGKILL, and how long after what was seen of the run."""

    seed: int
    who: str
    after_s: float
    since: str
    keep: bool
    """The node outlives the run, so that a daemon could come back to it: the reaper waits for the profile's time."""
    reap_after_s: float

    def __str__(self) -> str:
        kept = f"node kept, reaped after {self.reap_after_s:g} s" if self.keep else "the run's own node"
        return f"seed {self.seed}: {self.who} killed {self.after_s:.2f} s after {self.since} ({kept})"


def moment(number: int) -> Moment:
    """The first is as late as they get, kills both, and waits as long as the default says."""
    if number == 0:
        return Moment(FIRST_SEED, "both", LATEST_S["its start"], "its start", keep=True, reap_after_s=30)
    seed = FIRST_SEED + number
    dice = random.Random(seed)
    who = dice.choice(("command", "daemon", "both"))
    keep = who != "command" and dice.random() < 0.3
    since = dice.choice(sorted(LATEST_S))
    return Moment(seed, who, dice.uniform(0.0, LATEST_S[since]), since, keep, reap_after_s=2)


@dataclass
class Grounds:
    """What all moments share: an engine, a worker, an image with a volume, and what belongs to others."""

    engine: docker.DockerClient
    url: str
    image: str
    foreign: list[tuple[str, str]] = field(default_factory=list)
    """Kind and id."""

    def foreign_things_are_untouched(self) -> bool:
        for kind, name in self.foreign:
            found = getattr(self.engine, kind).get(name)  # raises if it is gone
            if kind == "containers" and found.status != "running":
                return False
        return True


@pytest.fixture
def grounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Grounds]:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path / "of-the-test"))
    engine = connect()
    Images(engine).ensure(BASE)
    token = uuid.uuid4().hex[:8]
    image = f"thunderctl-test/kills:{token}"
    context = tmp_path / "image"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {BASE}\nVOLUME /volume\n")
    engine.images.build(path=str(context), tag=image, rm=True)
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    stub = subprocess.Popen(
        [sys.executable, str(STUB), "--port", str(port)],
        env={"PATH": os.environ["PATH"], "STUB_DELAY_S": "0.4"}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    container = engine.containers.run(BASE, ["sleep", "100000"], detach=True, network_mode="none", init=True)
    volume = engine.volumes.create(f"foreign-{token}")
    network = engine.networks.create(f"foreign-{token}", internal=True)
    theirs = [("containers", container.id), ("volumes", volume.id), ("networks", network.id)]
    try:
        until(lambda: _listens(port))
        yield Grounds(engine, f"http://127.0.0.1:{port}", image, theirs)
    finally:
        stub.kill()
        stub.wait()
        container.remove(force=True)
        volume.remove()
        network.remove()
        engine.images.remove(image, force=True)
        engine.close()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Scene:
    """One moment, acted out in a home of its own."""

    def __init__(self, what: Moment, grounds: Grounds, home: Path) -> None:
        self._what = what
        self._grounds = grounds
        self._line = CommandLine(home)
        self._home = home
        self._volumes: set[str] = set()
        self._containers = 0

    def play(self) -> tuple[str, str | None]:
        """One line about what happened, and what went wrong."""
        what, grounds = self._what, self._grounds
        self._home.mkdir()
        file = self._home / "kills.yaml"
        file.write_text(PROFILE.format(url=grounds.url, image=grounds.image, reap_after_s=what.reap_after_s))
        command = self._line.start(
            "run", "swebench", "--agents", "4", "-p", str(file), "--no-judge", *(["--keep"] if what.keep else [])
        )
        try:
            until(lambda: command.poll() is not None or self._seen())
            time.sleep(what.after_s)
            assert command.poll() is None, command.communicate()
            self._note()
            killed = self._kill(command)
            at = time.monotonic()
            left = self._left(command)
            while left and time.monotonic() < at + GONE_AFTER_S:
                time.sleep(0.5)
                left = self._left(command)
            took = time.monotonic() - at
            intact = grounds.foreign_things_are_untouched()
        finally:
            command.kill()
            command.communicate()
            self._clean()
        said = f"{what}: {', '.join(killed)}; {self._containers} containers; nothing left after {took:.1f} s"
        if left:
            return said.replace("nothing", "NOT GONE:"), f"{what}\nleft: {left}\n{self._log()}"
        return said, None if intact else f"{what}: what belongs to others was touched"

    def _seen(self) -> bool:
        """Whether what the moment is counted from has happened."""
        if self._what.since == "its daemon's start":
            return bool(self._daemon())
        return self._what.since == "its start" or bool(self._owned("containers"))

    def _daemon(self) -> list[psutil.Process]:
        found = []
        for process in self._line.processes():
            with contextlib.suppress(psutil.Error):
                found += [process] if "thunderctl.daemon" in process.cmdline() else []
        return found

    def _note(self) -> None:
        """The anonymous volumes of our containers: later nothing would tell that they were ours."""
        for container in self._owned("containers"):
            self._containers += 1
            self._volumes.update(m["Name"] for m in container.attrs["Mounts"] if m["Type"] == "volume")

    def _kill(self, command: subprocess.Popen[str]) -> list[str]:
        daemon = self._daemon()
        killed = []
        for process in daemon if self._what.who != "command" else ():
            process.kill()
            killed.append("daemon")
        if self._what.who != "daemon" or not daemon:  # before there is a daemon there is only the command to kill
            command.kill()
            command.wait()
            killed.append("command")
        return killed

    def _left(self, command: subprocess.Popen[str]) -> list[str]:
        kinds = ("containers", "volumes", "networks")
        found = [f"{kind} {thing.name}" for kind in kinds for thing in self._owned(kind)]
        volumes = {volume.name for volume in self._grounds.engine.volumes.list()}
        found += [f"anonymous volume {name}" for name in self._volumes & volumes]
        for process in self._line.processes():
            if process.pid != command.pid:
                try:
                    found.append(f"process {process.pid} {' '.join(process.cmdline())}")
                except psutil.Error:
                    continue
        found += [str(path) for path in self._home.glob("nodes/*/environments/*")]
        return found + [str(path) for path in self._home.glob("nodes/*/node.json")]

    def _owned(self, kind: str) -> list[docker.models.containers.Container]:
        owner = self._home / "owner"
        if not owner.exists():
            return []
        label = {"label": f"thunderctl.owner={owner.read_text().strip()}"}
        several = getattr(self._grounds.engine, kind)
        if kind == "containers":
            return several.list(all=True, filters=label, ignore_removed=True)
        return several.list(filters=label)

    def _clean(self) -> None:
        """What a failure left must not stay with the engine."""
        for process in self._line.processes():
            process.kill()
        for container in self._owned("containers"):
            container.remove(force=True, v=True)

    def _log(self) -> str:
        logs = sorted(self._home.glob("nodes/*/logs/*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in logs)


def play(numbers: range, grounds: Grounds, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    scenes = [Scene(moment(number), grounds, folder / f"home-{number}") for number in numbers]
    wrong = []
    with ThreadPoolExecutor(LANES) as lanes:
        for played in as_completed([lanes.submit(scene.play) for scene in scenes]):
            said, problem = played.result()
            wrong += [problem] if problem else []
            with capsys.disabled():
                print(f"\n[{time.monotonic() - began:6.1f} s] {said}", end="", flush=True)  # noqa: T201
    assert not wrong, "\n\n".join(wrong)


def test_after_kills_at_three_moments_nothing_of_ours_is_left_and_all_of_others_is(
    grounds: Grounds, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play(range(1, 4), grounds, tmp_path, capsys)


@pytest.mark.slow
def test_after_kills_at_many_moments_nothing_of_ours_is_left_and_all_of_others_is(
    grounds: Grounds, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play(range(MOMENTS), grounds, tmp_path, capsys)
