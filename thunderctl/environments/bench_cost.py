"""What the manager costs beside plain Docker: create until ready, one command, and many creates at once.

The ways take turns in an order drawn anew each round, so that whatever else the machine does falls on all alike. The
CLI pays for starting a program each time; the engine's API called directly does not, and stands beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import shutil
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import docker
from docker.types import LogConfig

from thunderctl import __version__, paths
from thunderctl.environments.bench import Tell, a_client, a_node
from thunderctl.environments.docker import KEEPER, remove
from thunderctl.environments.images import BASE, Images
from thunderctl.environments.manager import EnvironmentManager
from thunderctl.environments.spec import EnvironmentSpec, Limits
from thunderctl.errors import EnvironmentFailure, PreflightError, ThunderError

AT_ONCE = 32
RESAMPLES = 2000
_COMMAND = "true"


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and the ends of its 95% interval."""

    value: float
    low: float
    high: float


def median_of(values: Sequence[float], seed: int = 0) -> Interval:
    """The median, with its bootstrap interval."""
    return _bootstrap([(value,) for value in values], lambda rows: statistics.median(row[0] for row in rows), seed)


def ratio_of_medians(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Interval:
    """Our median ÷ theirs. Rounds are drawn as pairs: what slowed one way down in a round slowed the other down too."""
    pairs = list(zip(ours, theirs, strict=True))

    def ratio(rows: Sequence[tuple[float, ...]]) -> float:
        return statistics.median(row[0] for row in rows) / statistics.median(row[1] for row in rows)

    return _bootstrap(pairs, ratio, seed)


def _bootstrap(
    rows: Sequence[tuple[float, ...]], figure: Callable[[Sequence[tuple[float, ...]]], float], seed: int
) -> Interval:
    dice = random.Random(seed)  # noqa: S311 - resampling, no secret
    drawn = sorted(figure(dice.choices(rows, k=len(rows))) for _ in range(RESAMPLES))
    return Interval(figure(rows), drawn[round(0.025 * RESAMPLES)], drawn[round(0.975 * RESAMPLES) - 1])


# ------------------------------------------------------------------ the ways to a container


@dataclass(frozen=True, slots=True)
class Way:
    """One way to get a container and to run a command in it. ``create`` returns what the other two want."""

    name: str
    create: Callable[[], Awaitable[str]]
    execute: Callable[[str], Awaitable[None]]
    remove: Callable[[str], Awaitable[None]]


def _by_manager(name: str, manager: EnvironmentManager, node: str, *, git: bool) -> Way:
    async def create() -> str:
        return (await manager.request(f"p-{secrets.token_hex(4)}", node, EnvironmentSpec(git=git))).id

    async def execute(lease: str) -> None:
        done = await manager.execute(lease, _COMMAND)
        if done.returncode:
            raise EnvironmentFailure(f"{_COMMAND!r} ended with {done.returncode}", details=[done.output])

    async def take_away(lease: str) -> None:
        await manager.release(lease)

    return Way(name, create, execute, take_away)


def _labels(node: str) -> dict[str, str]:
    return {"thunderctl.owner": paths.owner(), "thunderctl.node": node, "thunderctl.lease": secrets.token_hex(8)}


def _by_cli(name: str, client: docker.DockerClient, node: str, flags: Sequence[str]) -> Way:
    async def docker_cli(*arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "docker", *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        said, complaint = await process.communicate()
        if process.returncode:
            raise EnvironmentFailure(f"docker {arguments[0]} failed", details=complaint.decode().splitlines()[-5:])
        return said.decode().strip()

    async def create() -> str:
        labels = [f"--label={key}={value}" for key, value in _labels(node).items()]
        return await docker_cli("run", "-d", *labels, *flags, BASE, "sleep", "infinity")

    async def execute(container: str) -> None:
        await docker_cli("exec", container, _COMMAND)

    return Way(name, create, execute, _remover(client))


def _by_api(name: str, client: docker.DockerClient, node: str, limits: Limits) -> Way:
    api = client.api
    host = api.create_host_config(
        init=True, cap_drop=["ALL"], security_opt=["no-new-privileges"], pids_limit=limits.pids, network_mode="none",
        mem_limit=f"{limits.memory_mib}m", memswap_limit=f"{limits.memory_mib}m",
        nano_cpus=int(limits.cpus * 1e9), log_config=LogConfig(type="none"),
    )  # fmt: skip

    def make() -> str:
        made = api.create_container(BASE, ["sleep", "infinity"], host_config=host, labels=_labels(node), user=KEEPER)
        api.start(made["Id"])
        return str(made["Id"])

    def run(container: str) -> None:
        told = api.exec_create(container, [_COMMAND])
        api.exec_start(told["Id"])
        if api.exec_inspect(told["Id"])["ExitCode"]:
            raise EnvironmentFailure(f"{_COMMAND!r} failed")

    async def create() -> str:
        return await asyncio.to_thread(make)

    async def execute(container: str) -> None:
        await asyncio.to_thread(run, container)

    return Way(name, create, execute, _remover(client))


def _remover(client: docker.DockerClient) -> Callable[[str], Awaitable[None]]:
    async def take_away(container: str) -> None:
        await asyncio.to_thread(remove, client, container)

    return take_away


def hardened(limits: Limits) -> list[str]:
    """The flags of ``docker run`` that give a container what our manager gives it."""
    return [
        "--init", "--cap-drop=ALL", "--security-opt=no-new-privileges", f"--pids-limit={limits.pids}",
        f"--memory={limits.memory_mib}m", f"--memory-swap={limits.memory_mib}m", f"--cpus={limits.cpus:g}",
        "--network=none", "--log-driver=none", "--no-healthcheck", f"--user={KEEPER}",
    ]  # fmt: skip


OURS, WITH_COMMIT = "thunderctl", "thunderctl + commit"
"""Without and with the first commit of the working directory, which plain Docker does not make."""
CLI, CLI_PLAIN, API = "docker run, hardened", "docker run, plain", "engine API, hardened"


# ------------------------------------------------------------------ measuring


def measure_cost(rounds: int, execs: int, at_once: int, tell: Tell) -> dict[str, Any]:
    """Rounds of creating, running ``execs`` commands and removing, each way once; then ``at_once`` creates together."""
    if shutil.which("docker") is None:
        raise PreflightError("there is no docker command to compare with", hint="install the Docker CLI")
    return asyncio.run(_measure(rounds, execs, at_once, tell))


async def _measure(rounds: int, execs: int, at_once: int, tell: Tell) -> dict[str, Any]:
    async with a_node(concurrent_creates=at_once) as (node, manager):
        with a_client() as client:
            await asyncio.to_thread(Images(client).ensure, BASE, tell)
            limits = Limits()
            ways = [
                _by_manager(OURS, manager, node, git=False),
                _by_manager(WITH_COMMIT, manager, node, git=True),
                _by_cli(CLI, client, node, hardened(limits)),
                _by_cli(CLI_PLAIN, client, node, []),
                _by_api(API, client, node, limits),
            ]
            try:
                for way in ways:  # the first of everything pays for what the others find ready
                    await _round(way, 1)
                creates, commands = await _rounds(ways, rounds, execs, tell)
                together = [await _together(way, at_once, tell) for way in (ways[0], ways[2])]
            finally:
                await asyncio.to_thread(_remove_all, client, node)
    return {
        "schema": 1, "part": "cost", "thunderctl": __version__, "cpus": os.cpu_count(), "rounds": rounds,
        "execs": execs, "ways": _table(creates, commands), "ratios": _ratios(creates, commands), "together": together,
    }  # fmt: skip


async def _round(way: Way, execs: int) -> tuple[float, float]:
    """Seconds until the container was ready, and the median of its commands."""
    began = time.perf_counter()
    made = await way.create()
    created = time.perf_counter() - began
    try:
        took = []
        for _ in range(execs):
            began = time.perf_counter()
            await way.execute(made)
            took.append(time.perf_counter() - began)
    finally:
        await way.remove(made)
    return created, statistics.median(took)


async def _rounds(
    ways: Sequence[Way], rounds: int, execs: int, tell: Tell
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    creates: dict[str, list[float]] = {way.name: [] for way in ways}
    commands: dict[str, list[float]] = {way.name: [] for way in ways}
    dice = random.Random(0)  # noqa: S311 - an order, no secret
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}")
        for way in dice.sample(list(ways), len(ways)):
            created, took = await _round(way, execs)
            creates[way.name].append(created)
            commands[way.name].append(took)
    return creates, commands


async def _together(way: Way, count: int, tell: Tell) -> dict[str, Any]:
    """``count`` creates at once."""
    tell(f"{way.name}: {count} at once")
    began = time.perf_counter()
    made = await asyncio.gather(*(way.create() for _ in range(count)), return_exceptions=True)
    took = time.perf_counter() - began
    errors = [error for error in made if isinstance(error, BaseException)]
    gone = await asyncio.gather(*(way.remove(each) for each in made if isinstance(each, str)), return_exceptions=True)
    errors += [error for error in gone if isinstance(error, BaseException)]
    for error in errors:
        if not isinstance(error, ThunderError | docker.errors.DockerException):
            raise error
    return {"way": way.name, "count": count, "seconds": took, "errors": [str(error) for error in errors]}


def _remove_all(client: docker.DockerClient, node: str) -> None:
    """Containers of the ways that no lease stands for."""
    filters = {"label": [f"thunderctl.owner={paths.owner()}", f"thunderctl.node={node}"]}
    for container in client.api.containers(all=True, filters=filters):
        with contextlib.suppress(EnvironmentFailure):
            remove(client, container["Id"])


def _table(creates: Mapping[str, list[float]], commands: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    return [
        {"way": name, "create_s": _told(median_of(creates[name])), "exec_s": _told(median_of(commands[name]))}
        for name in creates
    ]


def _ratios(creates: Mapping[str, list[float]], commands: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    found = []
    for ours in (OURS, WITH_COMMIT):
        for theirs in (CLI, CLI_PLAIN, API):
            create = ratio_of_medians(creates[ours], creates[theirs])
            command = ratio_of_medians(commands[ours], commands[theirs])
            found.append({"of": ours, "to": theirs, "create": _told(create), "exec": _told(command)})
    return found


def _told(interval: Interval) -> dict[str, float]:
    return {"median": interval.value, "low": interval.low, "high": interval.high}
