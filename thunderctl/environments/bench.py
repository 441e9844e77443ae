"""What collection saves: the same work once with it and once without, in real containers with real images.

Everything runs through a node of its own in this home, under the usual labels and leases: what a kill leaves behind,
``thunderctl gc`` removes. The other parts of ``bench environments`` are in ``bench_cost.py`` and ``bench_hidden.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import docker
import psutil
from docker.errors import APIError

from thunderctl import __version__, paths
from thunderctl.environments.backend import to_the_end
from thunderctl.environments.docker import connect, remove
from thunderctl.environments.image_store import record, remove_images
from thunderctl.environments.images import BASE, Images
from thunderctl.environments.lease import LeaseLedger
from thunderctl.environments.manager import EnvironmentManager
from thunderctl.environments.spec import EnvironmentSpec
from thunderctl.node import NodeRecord, write_node
from thunderctl.profile import ToolEnvironmentSpec

MIB = 2**20
_BUILT_FOR = "thunderctl.bench"
"""Label of everything that a build for this benchmark makes."""
SAMPLE_S = 1.0
THINK_S = 1.0
"""What stands for a model call between two commands."""
WRITES_MIB = (2, 4)
"""What the two commands of a program write."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DiskWork:
    """Programs one after the other, ``at_once`` of them at a time, each with an image of its own."""

    programs: int = 200
    at_once: int = 16
    layer_mib: tuple[int, int] = (30, 60)
    """The layer that each image has for itself is somewhere between."""
    seed: int = 0

    def layers(self) -> list[int]:
        """MiB of each program's layer: the same for the same seed."""
        dice = random.Random(self.seed)  # noqa: S311 - a workload, no secret
        return [dice.randint(*self.layer_mib) for _ in range(self.programs)]


@dataclass(frozen=True, slots=True)
class Sample:
    """The disk at one moment, in bytes."""

    at: float
    held: int
    """Beyond what there was before: the base image, if this home brought it."""
    collected: int
    by_kind: dict[str, int]
    ended: int
    """Programs that have ended."""
    used: int | None
    """Used on the file system of the engine beyond what was used before, by whomever; ``None`` if it is not ours."""


@dataclass(slots=True)
class Arm:
    """One way to do the work."""

    name: str
    work_s: float = 0.0
    samples: list[Sample] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Peak, mean over time and end, in bytes, and whether it still grew: see :func:`growth`."""
        held = [sample.held for sample in self.samples]
        used = [sample.used for sample in self.samples if sample.used is not None]
        return {
            "work_s": self.work_s,
            "peak_bytes": max(held, default=0),
            "peak_by_kind": max(self.samples, key=lambda s: s.held).by_kind if held else {},
            "mean_bytes": mean_over_time([(s.at, s.held) for s in self.samples]),
            "final_bytes": held[-1] if held else 0,
            "growth": growth([(s.at, s.held) for s in self.samples], self.work_s),
            "peak_used_bytes": max(used, default=None),
            "without_collection_peak_bytes": max((s.held + s.collected for s in self.samples), default=0),
        }


def mean_over_time(line: Sequence[tuple[float, int]]) -> float:
    """The mean of a line through points of (seconds, bytes)."""
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in zip(line, line[1:], strict=False))
    return area / (line[-1][0] - line[0][0]) if len(line) > 1 else float(line[0][1]) if line else 0.0


def growth(line: Sequence[tuple[float, int]], work_s: float) -> float | None:
    """Mean of the third quarter of the work ÷ mean of the second: 1 is flat, 5/3 a straight line upwards from 0.

    In the first quarter programs still begin, in the last they end. ``None`` with too few samples to tell.
    """
    second = [held for at, held in line if work_s / 4 <= at < work_s / 2]
    third = [held for at, held in line if work_s / 2 <= at < 3 * work_s / 4]
    if not second or not third or not sum(second):
        return None
    return (sum(third) / len(third)) / (sum(second) / len(second))


def summary(work: DiskWork, arms: Sequence[Arm]) -> dict[str, Any]:
    """Both arms, with collection first, and what it saved."""
    told = {arm.name: {**arm.figures(), "samples": [asdict(sample) for sample in arm.samples]} for arm in arms}
    collected, kept = (arm.figures() for arm in arms)
    of_file_system = None
    if collected["peak_used_bytes"] and kept["peak_used_bytes"]:
        of_file_system = kept["peak_used_bytes"] / collected["peak_used_bytes"]
    return {
        "schema": 1,
        "part": "disk",
        "thunderctl": __version__,
        "work": asdict(work),
        "arms": told,
        "saved_at_peak": kept["peak_bytes"] / collected["peak_bytes"] if collected["peak_bytes"] else None,
        "saved_at_peak_of_file_system": of_file_system,
        "computed_without_collection": collected["without_collection_peak_bytes"] / kept["peak_bytes"]
        if kept["peak_bytes"]
        else None,
    }


# ------------------------------------------------------------------ the work itself


def measure_disk(work: DiskWork, tell: Tell) -> dict[str, Any]:
    """Do the work both ways. ``EnvironmentFailure`` without an engine; nothing is left behind, however it ends."""
    arms = []
    for collect in (True, False):
        arms.append(asyncio.run(_arm(work, collect, tell)))
    return summary(work, arms)


async def _arm(work: DiskWork, collect: bool, tell: Tell) -> Arm:
    arm = Arm("with collection" if collect else "without")
    with tempfile.TemporaryDirectory(prefix="thunderctl-bench-") as folder, a_client() as client:
        await asyncio.to_thread(Images(client).ensure, BASE, tell)
        settings = _budget(work, client) if collect else {"image_policy": "keep"}
        async with a_node(**settings) as (name, manager):
            used = _used_bytes(client)
            before = (await manager.disk_usage()).bytes_now
            began, ended = time.monotonic(), 0

            async def sample() -> None:
                usage = await manager.disk_usage(max_age_s=0.0)
                beyond = None if used is None else (_used_bytes(client) or 0) - used
                at = round(time.monotonic() - began, 3)
                arm.samples.append(
                    Sample(at, usage.bytes_now - before, usage.collected_bytes, dict(usage.by_kind), ended, beyond)
                )
                tell(
                    f"{arm.name}: {ended} of {work.programs} programs ended, {arm.samples[-1].held / MIB:,.0f} MiB held"
                )

            async def watch() -> None:
                while True:
                    await sample()
                    await asyncio.sleep(SAMPLE_S)

            places = asyncio.Semaphore(work.at_once)

            async def program(number: int, layer_mib: int) -> None:
                nonlocal ended
                async with places:
                    task = _task(Path(folder) / str(number), layer_mib, name)
                    await _program(manager, f"{name}-{number}", name, task)
                    if collect:
                        await manager.release_program(f"{name}-{number}")
                    ended += 1

            watching = asyncio.create_task(watch())
            try:
                async with asyncio.TaskGroup() as group:
                    for number, layer_mib in enumerate(work.layers()):
                        group.create_task(program(number, layer_mib))
                arm.work_s = time.monotonic() - began
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            await sample()
            tell(f"{arm.name}: removing what is left")
    return arm


def _budget(work: DiskWork, client: docker.DockerClient) -> dict[str, object]:
    """So small that an image goes with its program: room for what is in use, and for the base, if that is ours."""
    room = work.at_once * sum(work.layer_mib) / 2 * MIB
    if BASE in record():
        room += 1.2 * client.images.get(BASE).attrs["Size"]  # in blocks a base takes more than its files have
    return {"image_policy": "budget", "image_budget_gib": room / 1024**3, "image_budget_low_gib": room / 1024**3}


def _task(folder: Path, layer_mib: int, node: str) -> EnvironmentSpec:
    """An image with a layer of random bytes, which nothing can share or compress; made inside the engine, so that not
    a byte of it passes through here."""
    folder.mkdir()
    layer = f"RUN head -c {layer_mib * MIB} /dev/urandom > /opt/task-{secrets.token_hex(4)}"
    (folder / "Dockerfile").write_text(f"FROM {BASE}\nLABEL {_BUILT_FOR}={node}\n{layer}\n")
    return EnvironmentSpec(image=f"build:{folder}")


async def _program(manager: EnvironmentManager, program: str, run: str, task: EnvironmentSpec) -> None:
    lease = await manager.request(program, run, task)
    for number, mib in enumerate(WRITES_MIB):
        await asyncio.sleep(THINK_S)
        done = await manager.execute(lease.id, f"head -c {mib * MIB} /dev/urandom > out{number}")
        if done.returncode:
            raise RuntimeError(f"{program}: {done.output}")


def _used_bytes(client: docker.DockerClient) -> int | None:
    """Bytes used on the file system that the engine writes to, if it is one of this machine."""
    root = str(client.info().get("DockerRootDir") or "")
    with contextlib.suppress(OSError):
        told = os.statvfs(root)
        return (told.f_blocks - told.f_bfree) * told.f_frsize
    return None


# ------------------------------------------------------------------ a node of its own


@contextlib.asynccontextmanager
async def a_node(**settings: object) -> AsyncIterator[tuple[str, EnvironmentManager]]:
    """A node that this process is, on Docker; its name and its manager. At the end everything of it is removed, and
    every image that it brought."""
    name = f"bench-{secrets.token_hex(4)}"
    folder = paths.nodes() / name
    created = psutil.Process().create_time()
    write_node(folder, NodeRecord(os.getpid(), created, "", "bench", "", created))
    ledger = LeaseLedger(folder / "state.db")
    wanted = ToolEnvironmentSpec.model_validate({"backend": "docker", **settings})
    manager = EnvironmentManager(wanted, ledger, folder, name)
    try:
        await manager.start()
        yield name, manager
    finally:
        await manager.close()
        await to_the_end(asyncio.to_thread(remove_brought, name))
        ledger.close()
        shutil.rmtree(folder, ignore_errors=True)


def remove_brought(run: str) -> None:
    """Remove the images that ``run`` brought, but for the base that everybody starts from, and what is left of builds
    that were cut off: the engine goes on with those for a moment."""
    with a_client() as client:
        quiet = 0
        for _ in range(20):
            remove_images(client, [x for x, image in record().items() if image.run == run and x != BASE])
            quiet = 0 if _remove_half_built(client, run) else quiet + 1
            if quiet > 1:
                return
            time.sleep(0.5)


def _remove_half_built(client: docker.DockerClient, run: str) -> bool:
    """Whether there was anything of a build for ``run``."""
    label = {"label": [f"{_BUILT_FOR}={run}"]}
    steps = client.api.containers(all=True, filters=label)
    images = client.api.images(all=True, filters=label)
    for step in steps:
        remove(client, step["Id"])
    for image in images:
        with contextlib.suppress(APIError):  # another one stands on it: it goes at the next look
            client.api.remove_image(image["Id"])
    return bool(steps or images)


@contextlib.contextmanager
def a_client() -> Iterator[docker.DockerClient]:
    client = connect()
    try:
        yield client
    finally:
        client.close()
