"""Environments as Docker containers: hardened, labelled at birth, and empty after every command.

Two users share a container. The keeper (an init and ``sleep infinity``) runs under a number of its own; tools run as
the user the image names. Since no process has CAP_KILL, the kernel lets a tool signal tools only: ``kill -9 -1`` ends
all of them, double forks and new sessions included, in one call that needs no fork, and never the container.
"""

from __future__ import annotations

import asyncio
import functools
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, TypeVar

import docker
from docker.errors import APIError, DockerException, NotFound
from docker.types import LogConfig

from thunderctl.environments.backend import Progress, Wanted, to_the_end
from thunderctl.environments.engine import EngineConnection
from thunderctl.environments.files import contents_archive, inside, tree_archive
from thunderctl.environments.images import BASE, Images, brought
from thunderctl.environments.lease import Lease
from thunderctl.environments.output import HeadTail
from thunderctl.environments.spec import ExecResult
from thunderctl.errors import EnvironmentFailure

T = TypeVar("T")

KEPT_CAPABILITIES: dict[str, str] = {}
"""Capability → why tools need it. Measured with git (init, commit, stash, apply), python (venv, tests, sqlite), tar,
cp -a, sed -i and chmod as root in the base image: none. CAP_KILL and CAP_SETUID must never stand here (see above)."""

KEEPER = "60999:60999"
"""User of the main process; any number that no image gives to its tools."""

KILL_AFTER_S = 1
"""Seconds between SIGTERM and SIGKILL at the deadline."""
LATE_S = 10
"""Seconds past the deadline until the command is ended from outside: the wrapper inside was killed by its command."""
DF_EVERY_S = 60.0
"""The engine measures images by walking all of its layers: not more often than this."""

# $1 deadline, $2 command. The shell's own remarks ("Killed") go nowhere; the command's errors join its output.
# `kill` is built into the shell: it works where the limit of processes leaves no room for a fork.
_WRAPPER = (
    'exec 2>/dev/null; b=$(command -v bash) || b=sh; timeout -k "$3" "$1" "$b" -c "$2" </dev/null 2>&1; '
    "c=$?; kill -9 -1; exit $c"
)
_SWEEP = ("/bin/sh", "-c", "kill -9 -1")


@dataclass(frozen=True, slots=True)
class ToolUser:
    """Who tools are in an image: the name for the engine, the numbers for files."""

    name: str
    uid: int
    gid: int


class DockerBackend:
    """Environments on the Docker engine that ``DOCKER_HOST`` (or the default socket) names."""

    name = "docker"
    notice: str | None = None

    def __init__(self, owner: str, node: str, *, threads: int = 16, progress: Progress = lambda line: None) -> None:
        self._owner = owner
        self._node = node
        self._progress = progress
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="docker")
        self._client: docker.DockerClient | None = None
        self._commands: EngineConnection | None = None
        self._images: Images | None = None
        self._users: dict[str, ToolUser] = {}
        self._image_bytes: tuple[float, int] = (0.0, 0)

    async def available(self) -> str | None:
        try:
            self._client = await self._call(connect)
        except EnvironmentFailure as error:
            return error.message
        self._images = Images(self._client)
        self._commands = EngineConnection()
        return None

    async def ensure_image(self, name: str) -> None:
        await self._call(functools.partial(self._own_images.ensure, name, self._progress))

    async def prepare(self, lease: Lease, wanted: Wanted) -> str:
        image = wanted.image or BASE
        await self.ensure_image(image)
        container: str = await self._call(lambda: self._create(lease, wanted, image))
        user = self._users.get(image) or await self._tool_user(container, image)
        self._users[image] = user
        workdir, folder = wanted.spec.workdir, wanted.spec.files
        # A working directory that the engine made would belong to root; one that the image brings stays as it is.
        if folder is not None or not await self._engine.exists(container, workdir):
            pack = functools.partial(tree_archive, folder, workdir, user.uid, user.gid)
            await self._call(lambda: self._unpack(container, "/", pack()))
        return container

    async def exec(
        self, lease: Lease, wanted: Wanted, command: str, timeout_s: float, env: Mapping[str, str]
    ) -> ExecResult:
        container, user = await self._whose(lease, wanted)
        argv = ("/bin/sh", "-c", _WRAPPER, "tool", f"{timeout_s:g}", command, str(KILL_AFTER_S))
        kept = HeadTail(wanted.limits.output_bytes)
        every = {**wanted.spec.env, **env}
        code: int | None = None
        clean = False
        started = time.monotonic()
        try:
            exec_id = await self._engine.create(container, argv, every, wanted.spec.workdir, user.name)
            started = time.monotonic()
            try:
                async with asyncio.timeout(timeout_s + KILL_AFTER_S + LATE_S):
                    await self._engine.stream(exec_id, kept)
                    code = await self._engine.exit_code(exec_id)
                # 128 and more: perhaps the wrapper itself was killed, and what it watched over goes on.
                clean = code is not None and code < 128
            except TimeoutError:
                code = 137
        finally:
            if not clean:
                await to_the_end(self._sweep(container, user))
        took = time.monotonic() - started
        if code is None or code >= 128:
            await self._refuse_dead(container)
        text, cut = kept.text()
        ended = 137 if code is None else code
        timed_out = ended in (124, 137) and took >= timeout_s
        return ExecResult(text, ended, took, timed_out, cut)

    async def put_files(self, lease: Lease, wanted: Wanted, contents: Mapping[str, bytes]) -> None:
        container, user = await self._whose(lease, wanted)
        archive = contents_archive(contents, user.uid, user.gid)
        await self._call(lambda: self._unpack(container, wanted.spec.workdir, archive))

    async def read_file(self, lease: Lease, wanted: Wanted, path: str, max_bytes: int) -> bytes:
        container = self._place(lease)
        name = f"{wanted.spec.workdir.rstrip('/')}/{inside(path)}"
        return await self._call(lambda: self._read(container, name, max_bytes))

    async def reclaim(self, lease: Lease) -> None:
        # By name, not by id: a cancelled preparation may have made the container without telling anyone.
        await to_the_end(self._call(lambda: remove(self._docker, f"thunderctl-{lease.id}")))

    async def sizes(self) -> tuple[dict[str, int], dict[str, int]]:
        layers: dict[str, int] = await self._call(self._writable_layers)
        measured, size = self._image_bytes
        if time.monotonic() - measured > DF_EVERY_S or not measured:
            size = await self._call(self._measure_images)
            self._image_bytes = (time.monotonic(), size)
        return layers, {"containers": sum(layers.values()), "images": size}

    async def close(self) -> None:
        if self._commands is not None:
            await self._commands.close()
        if self._client is not None:
            await self._call(self._client.close)
        self._pool.shutdown(wait=False)

    # The rest blocks and runs in the pool, or is one step of the above.

    @property
    def _docker(self) -> docker.DockerClient:
        assert self._client is not None, "available() was not asked"  # noqa: S101
        return self._client

    @property
    def _engine(self) -> EngineConnection:
        assert self._commands is not None, "available() was not asked"  # noqa: S101
        return self._commands

    @property
    def _own_images(self) -> Images:
        assert self._images is not None, "available() was not asked"  # noqa: S101
        return self._images

    async def _call(self, work: Callable[[], T]) -> T:
        try:
            return await to_the_end(asyncio.get_running_loop().run_in_executor(self._pool, work))
        except DockerException as error:
            said = error.explanation if isinstance(error, APIError) and error.explanation else error
            raise EnvironmentFailure(f"the Docker engine refused: {said}") from error

    def _create(self, lease: Lease, wanted: Wanted, image: str) -> str:
        limits = wanted.limits
        memory = limits.memory_mib * 1024 * 1024
        container = self._docker.containers.create(
            image,
            command=["infinity"],
            entrypoint=["sleep"],
            name=f"thunderctl-{lease.id}",
            hostname="tools",
            user=KEEPER,
            working_dir="/",
            labels={
                "thunderctl.owner": self._owner,
                "thunderctl.node": self._node,
                "thunderctl.run": lease.run,
                "thunderctl.program": lease.program,
                "thunderctl.lease": lease.id,
                "thunderctl.created": f"{lease.created:.3f}",
            },
            init=True,
            cap_drop=["ALL"],
            cap_add=list(KEPT_CAPABILITIES),
            security_opt=["no-new-privileges"],
            pids_limit=limits.pids,
            mem_limit=memory,
            memswap_limit=memory,
            nano_cpus=int(limits.cpus * 1_000_000_000),
            network_mode=wanted.network,
            healthcheck={"test": ["NONE"]},
            log_config=LogConfig(type="none"),
        )
        try:
            container.start()
        except DockerException:
            container.remove(force=True, v=True)
            raise
        return str(container.id)

    async def _tool_user(self, container: str, image: str) -> ToolUser:
        name: str = await self._call(lambda: str(self._docker.images.get(image).attrs["Config"].get("User") or ""))
        name = name or "0:0"
        user, _, group = name.partition(":")
        if user.isdigit() and group.isdigit():
            return ToolUser(name, int(user), int(group))
        kept = HeadTail(1000)
        exec_id = await self._engine.create(container, ("/bin/sh", "-c", "id -u; id -g"), {}, "/", name)
        await self._engine.stream(exec_id, kept)
        try:
            uid, gid = kept.text()[0].split()
            return ToolUser(name, int(uid), int(gid))
        except ValueError:
            raise EnvironmentFailure(f"the image {image} does not tell who its user {name!r} is") from None

    async def _whose(self, lease: Lease, wanted: Wanted) -> tuple[str, ToolUser]:
        container, image = self._place(lease), wanted.image or BASE
        if image not in self._users:
            self._users[image] = await self._tool_user(container, image)
        return container, self._users[image]

    def _place(self, lease: Lease) -> str:
        if lease.place is None:
            raise EnvironmentFailure(f"lease {lease.id} has no container yet (it is {lease.state})")
        return lease.place

    async def _sweep(self, container: str, user: ToolUser) -> None:
        """End every tool in the container from outside; a container in which that fails is stopped as a whole."""
        try:
            async with asyncio.timeout(LATE_S):
                exec_id = await self._engine.create(container, _SWEEP, {}, "/", user.name)
                await self._engine.stream(exec_id, HeadTail(100))
                if await self._engine.exit_code(exec_id) is not None:
                    return
        except (TimeoutError, EnvironmentFailure):
            pass
        await self._call(lambda: _kill(self._docker, container))

    async def _refuse_dead(self, container: str) -> None:
        state = await self._engine.state(container)
        if not state["Running"]:
            memory = ", out of memory" if state.get("OOMKilled") else ""
            raise EnvironmentFailure(
                f"the container of this environment ended while a command ran (code {state['ExitCode']}{memory})"
            )

    def _unpack(self, container: str, where: str, archive: IO[bytes]) -> None:
        with archive:
            self._docker.api.put_archive(container, where, archive)

    def _read(self, container: str, name: str, max_bytes: int) -> bytes:
        try:
            chunks, told = self._docker.api.get_archive(container, name)
        except NotFound:
            raise EnvironmentFailure(f"there is no file {name} in the environment") from None
        if told["size"] > max_bytes:
            chunks.close()
            raise EnvironmentFailure(f"the file {name} has {told['size']} bytes, more than {max_bytes}")
        with tempfile.SpooledTemporaryFile(max_size=max_bytes) as spool:
            for chunk in chunks:
                spool.write(chunk)
                if spool.tell() > max_bytes + 1_000_000:  # a folder, whose own size says nothing
                    chunks.close()
                    raise EnvironmentFailure(f"{name} is larger than {max_bytes} bytes")
            spool.seek(0)
            with tarfile.open(fileobj=spool) as archive:
                entry = archive.next()
                content = archive.extractfile(entry) if entry is not None and entry.isreg() else None
                if content is None:
                    raise EnvironmentFailure(f"{name} is not a file (links are not followed)")
                return content.read()

    def _writable_layers(self) -> dict[str, int]:
        found = self._docker.api.containers(
            all=True,
            size=True,
            filters={"label": [f"thunderctl.owner={self._owner}", f"thunderctl.node={self._node}"]},
        )
        return {each["Labels"]["thunderctl.lease"]: int(each.get("SizeRw") or 0) for each in found}

    def _measure_images(self) -> int:
        ours = {str(each["id"]) for each in brought().values()}
        told: list[dict[str, Any]] = self._docker.df().get("Images") or []
        return sum(each["Size"] - max(0, each.get("SharedSize") or 0) for each in told if each["Id"] in ours)


def connect() -> docker.DockerClient:
    """A client of an engine that answers; ``EnvironmentFailure`` tells why there is none."""
    try:
        client = docker.from_env(timeout=120, max_pool_size=64)
        client.ping()
    except (DockerException, OSError) as error:
        raise EnvironmentFailure(f"no Docker engine answers: {error}") from error
    return client


def remove(client: docker.DockerClient, container: str) -> None:
    """Remove a container with its anonymous volumes and return once it is gone; gone already is fine."""
    for _ in range(100):
        try:
            client.api.remove_container(container, v=True, force=True)
            return
        except NotFound:
            return
        except APIError as error:
            if error.status_code != 409:  # somebody else is removing it: wait until they have
                raise
            time.sleep(0.1)
    raise EnvironmentFailure(f"the container {container} does not go away")


def _kill(client: docker.DockerClient, container: str) -> None:
    try:
        client.api.kill(container)
    except (NotFound, APIError):
        return  # gone, or stopped already
