"""Pulls: a few at once, so many an hour, and again when a registry is busy or a connection breaks.

Registries count what is asked of them by address, not by program, so both limits hold for the whole home: slots and
the list of the last hour's pulls are files. What a registry refuses for good is asked once.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException

from thunderctl import paths
from thunderctl.environments.backend import Progress
from thunderctl.environments.turns import pause, turn
from thunderctl.errors import EnvironmentFailure
from thunderctl.profile import ToolEnvironmentSpec

HOUR_S = 3600.0
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class PullLimits:
    """How hard registries may be asked."""

    concurrent: int = 3
    per_hour: int | None = None
    """Pulls of this home in any hour, retries included: a registry counts them too."""
    patience: float = 1.0
    """Factor on every pause between attempts."""

    @classmethod
    def from_settings(cls, settings: ToolEnvironmentSpec) -> PullLimits:
        return cls(settings.concurrent_pulls, settings.pulls_per_hour)


@dataclass(frozen=True, slots=True)
class Trouble:
    """One sort of failure: how to know it, and how often and after how long to try again."""

    name: str
    says: re.Pattern[str]
    attempts: int
    first_s: float = 0.0
    longest_s: float = 0.0


TROUBLES = (
    Trouble(
        "the registry's quota is used up", re.compile("toomanyrequests|too many requests|429|rate limit"), 8, 10, 600,
    ),
    Trouble(
        "refused",
        re.compile("not found|manifest unknown|name unknown|unauthori[sz]ed|denied|authentication required|forbidden"
                   "|invalid reference|no matching manifest|no such host|network is unreachable"), 1,
    ),
    Trouble(
        "the connection was lost",
        re.compile(r"eof|reset by peer|timeout|timed out|connection refused|broken pipe|broken|server misbehaving"
                   r"|temporary failure|deadline exceeded|bad gateway|unavailable|internal server error|\b50[0234]\b"),
        5, 1, 30,
    ),
)  # fmt: skip
"""First match wins. Quotas of public registries last hours: eight attempts wait about 20 minutes in all. Where nobody
can be reached at all (no name, no route) the person has to act, not the clock."""
FOR_GOOD = TROUBLES[1]


class Pulls:
    """Pulls of one engine, within the limits of this home."""

    def __init__(self, client: docker.DockerClient, limits: PullLimits, stop: threading.Event) -> None:
        self._client = client
        self._limits = limits
        self._stop = stop

    def pull(self, name: str, progress: Progress, *, patient: bool = True) -> None:
        """Return once ``name`` is on the engine. ``EnvironmentFailure`` after the last attempt, impatient the first."""
        slots = [f"pull {number}" for number in range(self._limits.concurrent)]
        with turn(*slots, stop=self._stop, waiting=lambda: progress(f"{name} waits for other pulls")):
            attempt = 0
            while True:
                attempt += 1
                wait_for_quota(self._limits.per_hour, name, progress, self._stop)
                reason = self._attempt(name, progress)
                if reason is None:
                    return
                trouble = trouble_of(reason, name)
                if attempt >= trouble.attempts or not patient:
                    raise _failure(name, reason, attempt)
                wait_s = backoff(trouble, attempt) * self._limits.patience
                progress(f"pulling {name}: {trouble.name}; attempt {attempt + 1} in {wait_s:.0f} s")
                pause(wait_s, self._stop)

    def _attempt(self, name: str, progress: Progress) -> str | None:
        """Why it failed; ``None`` if it did not."""
        progress(f"pulling {name}")
        try:
            shown = Shown(name, progress)
            for line in self._client.api.pull(name, stream=True, decode=True):
                pause(0, self._stop)
                if "error" in line:
                    return str(line["error"])
                shown.feed(line)
        except APIError as error:
            return f"not found: {error.explanation}" if error.status_code == 404 else str(error.explanation or error)
        except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError) as error:
            return f"the connection to the engine broke: {error}"
        return None


class Shown:
    """Turns the engine's lines of one pull into lines for the person, at most one a second."""

    def __init__(self, name: str, progress: Progress) -> None:
        self._name = name
        self._progress = progress
        self._layers: dict[str, tuple[int, int]] = {}
        self._told = time.monotonic()

    def feed(self, line: dict[str, Any]) -> None:
        layer, status, detail = str(line.get("id", "")), line.get("status"), line.get("progressDetail") or {}
        if status == "Downloading" and detail.get("total"):
            self._layers[layer] = (int(detail["current"]), int(detail["total"]))
        elif status in ("Download complete", "Pull complete") and layer in self._layers:
            total = self._layers[layer][1]
            self._layers[layer] = (total, total)
        if self._layers and time.monotonic() - self._told >= 1:
            self._told = time.monotonic()
            self._progress(f"pulling {self._name}: {_megabytes(self._layers.values())}")


def _megabytes(layers: Iterable[tuple[int, int]]) -> str:
    done, total = (sum(each) for each in zip(*layers, strict=True))
    return f"{done / MB:.0f} of {total / MB:.0f} MB"


def trouble_of(reason: str, name: str) -> Trouble:
    """What sort of failure an engine's words mean. The image's own name says nothing."""
    repository, _, tag = name.rpartition(":")
    words = reason.lower()
    for own in (name, repository, f":{tag}", tag):
        if own:
            words = words.replace(own.lower(), " ")
    return next((trouble for trouble in TROUBLES if trouble.says.search(words)), FOR_GOOD)


def backoff(trouble: Trouble, attempt: int) -> float:
    """Seconds to wait after the attempt of that number: doubled each time, ± 50% so that many do not come at once."""
    longest = min(trouble.longest_s, trouble.first_s * 2.0 ** (attempt - 1))
    return longest * random.uniform(0.5, 1.5)  # noqa: S311


def wait_for_quota(per_hour: int | None, name: str, progress: Progress, stop: threading.Event) -> None:
    """Return once this home may pull again, with the pull noted. Without a limit it is noted all the same."""
    file = paths.home() / "pulls.json"
    while True:
        with turn("pulls.json", stop=stop):
            now = time.time()
            try:
                known = [float(when) for when in json.loads(file.read_text())]
            except (FileNotFoundError, ValueError, TypeError):
                known = []
            # A clock that was set back must not make anybody wait for longer than an hour.
            last_hour = sorted(min(when, now) for when in known if when > now - HOUR_S)
            if per_hour is None or len(last_hour) < per_hour:
                fresh = file.with_name(f"pulls.json.{os.getpid()}")
                fresh.write_text(json.dumps([*last_hour, now]))
                fresh.replace(file)
                return
            free_at = last_hour[-per_hour] + HOUR_S
        until = time.strftime("%H:%M:%S", time.localtime(free_at))
        progress(f"{name} waits until {until}: {len(last_hour)} pulls in the last hour (environments.pulls_per_hour)")
        pause(max(0.05, free_at - now), stop)


def _failure(name: str, reason: str, attempts: int) -> EnvironmentFailure:
    often = "" if attempts == 1 else f" in {attempts} attempts"
    return EnvironmentFailure(
        f"the image {name} is not on this engine and could not be pulled{often}: {reason}",
        hint=f"check the name and the network, or bring it yourself: docker load / docker pull {name}",
    )
