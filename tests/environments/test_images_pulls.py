"""Pulls: what is tried again and what is not, both limits, and progress; against a real engine and a small registry."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.environments.fake_registry import FakeRegistry, fake_registry, layer
from thunderctl import paths
from thunderctl.environments.docker import connect
from thunderctl.environments.images import Images
from thunderctl.environments.pulls import TROUBLES, PullLimits, Shown, backoff, trouble_of, wait_for_quota
from thunderctl.errors import EnvironmentFailure

QUOTA, FOR_GOOD, LOST = TROUBLES
QUICK = PullLimits(patience=0.001)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as offers:
        yield offers


@pytest.fixture
def engine(registry: FakeRegistry) -> Iterator[docker.DockerClient]:
    """A client; images of the registry are gone afterwards."""
    client = connect()
    yield client
    for image in client.images.list():
        for tag in image.tags:
            if tag.startswith(registry.address):
                client.images.remove(tag)
    client.close()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("toomanyrequests: You have reached your pull rate limit.", QUOTA),
        ("received unexpected HTTP status: 429 Too Many Requests", QUOTA),
        ("manifest for NAME not found: manifest unknown: manifest unknown", FOR_GOOD),
        ("pull access denied for a/toomanyrequests, repository does not exist or may require 'docker login'", FOR_GOOD),
        ("unauthorized: authentication required", FOR_GOOD),
        ('Get "https://r.example/v2/": dial tcp: lookup r.example on 10.0.0.1:53: no such host', FOR_GOOD),
        ('Get "https://r.example/v2/": net/http: TLS handshake timeout', LOST),
        ("read tcp 10.0.0.2:4->10.0.0.1:443: read: connection reset by peer", LOST),
        ("unexpected EOF", LOST),
        ("received unexpected HTTP status: 502 Bad Gateway", LOST),
        ("nobody has ever read these words", FOR_GOOD),
    ],
)
def test_an_engines_words_are_understood(said: str, expected: object) -> None:
    name = "a/toomanyrequests:429"
    assert trouble_of(said.replace("NAME", name), name) is expected


@given(st.sampled_from([QUOTA, LOST]), st.integers(1, 40))
def test_pauses_grow_within_their_bounds(trouble: object, attempt: int) -> None:
    assert trouble in (QUOTA, LOST)
    pause = backoff(trouble, attempt)  # type: ignore[arg-type]
    middle = min(trouble.longest_s, trouble.first_s * 2 ** (attempt - 1))  # type: ignore[attr-defined]
    assert 0.5 * middle <= pause <= 1.5 * middle


def test_progress_tells_bytes_of_all_layers_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    lines: list[str] = []
    shown = Shown("x:1", lines.append)

    def layer_at(name: str, current: int, total: int) -> dict[str, object]:
        detail = {"current": current * 10**6, "total": total * 10**6}
        return {"id": name, "status": "Downloading", "progressDetail": detail}

    shown.feed({"status": "Pulling from x", "id": "1"})
    shown.feed(layer_at("a", 100, 140))
    now[0] += 1
    shown.feed(layer_at("b", 20, 200))
    shown.feed(layer_at("b", 30, 200))
    now[0] += 0.9
    shown.feed({"id": "a", "status": "Download complete", "progressDetail": {}})
    now[0] += 0.1
    shown.feed({"id": "b", "status": "Verifying Checksum"})
    assert lines == ["pulling x:1: 120 of 340 MB", "pulling x:1: 170 of 340 MB"]


def test_the_hourly_limit_slides_and_says_until_when_it_waits(home: Path) -> None:
    file = home / "pulls.json"
    home.mkdir()
    now = time.time()
    file.write_text(json.dumps([now - 7200, now - 3599.9, now - 100]))
    lines: list[str] = []
    wait_for_quota(2, "x:1", lines.append, threading.Event())
    assert "x:1 waits until" in lines[0]
    assert "2 pulls in the last hour" in lines[0]
    kept = json.loads(file.read_text())
    assert kept[0] == pytest.approx(now - 100, rel=0, abs=1)
    assert len(kept) == 2


def test_waiting_for_the_hour_can_be_called_off(home: Path) -> None:
    stop = threading.Event()
    wait_for_quota(1, "x:1", print, stop)
    with pytest.raises(EnvironmentFailure, match="called off"):
        wait_for_quota(1, "x:1", lambda line: stop.set(), stop)


@pytest.mark.parametrize("text", ["", "{", '{"a": 1}', '["x"]'])
def test_a_torn_list_of_pulls_starts_afresh(home: Path, text: str) -> None:
    home.mkdir()
    (home / "pulls.json").write_text(text)
    wait_for_quota(1, "x:1", print, threading.Event())
    assert len(json.loads((home / "pulls.json").read_text())) == 1


def test_a_clock_that_was_set_back_makes_nobody_wait_longer_than_an_hour(home: Path) -> None:
    home.mkdir()
    (home / "pulls.json").write_text(json.dumps([time.time() + 1e6]))
    stop = threading.Event()
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        stop.set()

    with pytest.raises(EnvironmentFailure):
        wait_for_quota(1, "x:1", tell, stop)
    wait_for_quota(2, "x:1", print, threading.Event())
    assert max(json.loads((home / "pulls.json").read_text())) <= time.time()


def test_processes_share_the_hour(home: Path) -> None:
    script = (
        "import threading, sys\nfrom thunderctl.environments.pulls import wait_for_quota\n"
        "stop = threading.Event()\ngot = 0\n"
        "def full(line): stop.set()\n"
        "try:\n    while True:\n"
        "        wait_for_quota(20, 'x', full, stop); got += 1\nexcept Exception: pass\nprint(got)"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(2)
    ]
    assert sum(int(each.communicate()[0]) for each in both) == 20


@pytest.mark.docker
def test_many_who_want_one_image_pull_it_once(engine: docker.DockerClient, registry: FakeRegistry) -> None:
    name = registry.add("once")
    images = [Images(engine) for _ in range(4)]
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda each: each.ensure(name), images * 4)) == {name}
    assert registry.pulls == {"once": 1}
    assert set(registry.served.values()) == {1}


@pytest.mark.docker
def test_processes_that_want_one_image_pull_it_once(engine: docker.DockerClient, registry: FakeRegistry) -> None:
    registry.bytes_per_second = 100_000
    name = registry.add("once", layers=[layer("processes", 50_000)])
    script = (
        "import sys\nfrom thunderctl.environments.docker import connect\n"
        "from thunderctl.environments.images import Images\n"
        "print(Images(connect()).ensure(sys.argv[1]))"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", script, name], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(3)
    ]
    assert [each.communicate()[0] for each in both] == [f"{name}\n"] * 3
    assert registry.pulls == {"once": 1}


@pytest.mark.docker
def test_a_used_up_quota_is_waited_for(engine: docker.DockerClient, registry: FakeRegistry) -> None:
    name = registry.add("busy")
    registry.refuse_with_429 = 5
    lines: list[str] = []
    Images(engine, QUICK).ensure(name, lines.append)
    assert any("the registry's quota is used up; attempt 2" in line for line in lines)
    assert registry.refuse_with_429 == 0


@pytest.mark.docker
def test_a_quota_that_stays_used_up_is_an_error_in_the_end(engine: docker.DockerClient, registry: FakeRegistry) -> None:
    name = registry.add("busy")
    registry.refuse_with_429 = 10**6
    with pytest.raises(EnvironmentFailure, match="in 8 attempts"):
        Images(engine, QUICK).ensure(name)
    assert len(json.loads((paths.home() / "pulls.json").read_text())) == 8


@pytest.mark.docker
def test_a_lost_connection_is_tried_again(engine: docker.DockerClient, registry: FakeRegistry) -> None:
    name = registry.add("shaky")
    registry.break_off = 2
    lines: list[str] = []
    Images(engine, QUICK).ensure(name, lines.append)
    assert sum("the connection was lost" in line for line in lines) == 2


@pytest.mark.docker
def test_what_does_not_exist_or_is_not_ours_to_read_is_asked_for_once(
    engine: docker.DockerClient, registry: FakeRegistry
) -> None:
    with pytest.raises(EnvironmentFailure, match="not found") as missing:
        Images(engine, QUICK).ensure(f"{registry.address}/no/such:1")
    assert "attempts" not in missing.value.message
    registry.unauthorised = True
    with pytest.raises(EnvironmentFailure, match="unauthorized") as secret:
        Images(engine, QUICK).ensure(registry.add("secret"))
    assert "attempts" not in secret.value.message
    assert len(json.loads((paths.home() / "pulls.json").read_text())) == 2


@pytest.mark.docker
@pytest.mark.parametrize("limit", [1, 2])
def test_no_more_pulls_run_at_once_than_allowed(
    engine: docker.DockerClient, registry: FakeRegistry, limit: int
) -> None:
    registry.bytes_per_second = 100_000
    names = [registry.add(f"image{n}", layers=[layer(f"{registry.address} {n}", 30_000)]) for n in range(5)]
    images = [Images(engine, PullLimits(concurrent=limit)) for _ in names]  # as five processes would have
    with ThreadPoolExecutor(5) as threads:
        list(threads.map(lambda pair: pair[0].ensure(pair[1]), zip(images, names, strict=True)))
    assert registry.most_at_once == limit


@pytest.mark.docker
def test_a_slow_pull_tells_its_bytes_and_can_be_called_off(engine: docker.DockerClient, registry: FakeRegistry) -> None:
    registry.bytes_per_second = 600_000
    name = registry.add("slow", layers=[layer(registry.address, 6_000_000)])
    images = Images(engine)
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        if "of 6 MB" in line:
            images.close()

    with pytest.raises(EnvironmentFailure, match="called off"):
        images.ensure(name, tell)
    assert any(line.startswith(f"pulling {name}: ") and line.endswith(" of 6 MB") for line in lines)
    with contextlib.suppress(FileNotFoundError):
        assert name not in json.loads((paths.home() / "images.json").read_text())
