"""Environments as Docker containers: hardened, labelled at birth, and empty after every command.

Two users share a container. The keeper (an init and ``sleep infinity``) runs under a number of its own; tools run as
the user the image names. Since no process has CAP_KILL, the kernel lets a tool signal tools only, and never the
container. How a container is described stands in :mod:`container`, how a command ends in :mod:`wrapper`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container

from thunderctl.environments import recipes
from thunderctl.environments.backend import Made, OnDeath, Progress, Wanted, to_the_end
from thunderctl.environments.container import (
    KEEPER,
    KEPT_CAPABILITIES,
    ToolUser,
    description,
    kill,
    labels_of,
    published,
    refuse_impossible,
    refuse_keeper,
    remove,
)
from thunderctl.environments.container_command import ContainerCommands
from thunderctl.environments.deaths import Deaths
from thunderctl.environments.disk import DockerDisk
from thunderctl.environments.engine import EngineConnection
from thunderctl.environments.files import contents_archive, inside, tree_archive
from thunderctl.environments.image_policy import let_go
from thunderctl.environments.image_store import image_lock, record
from thunderctl.environments.images import BASE, Images, brought
from thunderctl.environments.lease import Lease
from thunderctl.environments.network import drop_network, ensure_network
from thunderctl.environments.output import HeadTail
from thunderctl.environments.prepared import find_prepared, keep_prepared, prepared_key, workspace_key
from thunderctl.environments.pulls import PullLimits
from thunderctl.environments.sizes import FolderSizes
from thunderctl.environments.spec import ExecResult, Held
from thunderctl.environments.turns import held
from thunderctl.errors import EnvironmentFailure
from thunderctl.profile import ToolEnvironmentSpec

T = TypeVar("T")

_TAR_ROOM = 1_000_000
"""Bytes that a tar may have beyond its content."""

__all__ = ["KEEPER", "KEPT_CAPABILITIES", "DockerBackend", "connect", "remove"]


class DockerBackend:
    """Environments on the Docker engine that ``DOCKER_HOST`` (or the default socket) names."""

    name = "docker"
    notice: str | None = None

    def __init__(
        self,
        owner: str,
        node: str,
        *,
        threads: int = 16,
        progress: Progress = lambda line: None,
        pulls: PullLimits | None = None,
    ) -> None:
        self._owner = owner
        self._node = node
        self._progress = progress
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="docker")
        self._pulls = pulls
        self._client: docker.DockerClient | None = None
        self._line: EngineConnection | None = None
        self._tools: ContainerCommands | None = None
        self._deaths: Deaths | None = None
        self._images: Images | None = None
        self._users: dict[tuple[str, str | None], ToolUser] = {}
        self._sizes: DockerDisk | None = None
        self._quota: bool | None = None
        """Whether the engine can limit a writable layer; unknown until it was tried once."""
        self._bridged = False

    async def available(self) -> str | None:
        try:
            self._client = await self._call(connect)
            init = await self._call(lambda: self._docker.info().get("InitBinary"))
        except EnvironmentFailure as error:
            return error.message
        self._images = Images(self._client, self._pulls)
        self._sizes = DockerDisk(self._client, self._owner, self._node)
        self._line = EngineConnection()
        layers = FolderSizes(Path(), self._bytes_of)
        self._tools = ContainerCommands(self._line, layers, self._stop, subreaper=init == "docker-init")
        self._deaths = Deaths(self._line, self._owner, self._node)
        return None

    async def ensure_image(self, source: str, run: str = "") -> str:
        """The name on the engine of what ``source`` means, once it is there."""
        return await self._own_images.bring(source, self._progress, run=run)

    async def prepare(self, lease: Lease, wanted: Wanted) -> Made:
        refuse_impossible(wanted)
        image = await self.ensure_image(wanted.image or BASE, lease.run)
        container, complete = await self._call(lambda: self._create_from(lease, wanted, image))
        self._death.born(lease.id, container)
        if not complete:
            await self._fill(container, wanted)
        return Made(container, complete)

    async def fill(self, lease: Lease, wanted: Wanted) -> None:
        await self._fill(self._place(lease), wanted)

    async def keep(self, lease: Lease, wanted: Wanted) -> None:
        await self._call(lambda: self._keep(lease, wanted))

    async def tidy(self, settings: ToolEnvironmentSpec, run: str) -> None:
        await self._call(lambda: let_go(self._docker, self._disk, settings, run))

    async def _fill(self, container: str, wanted: Wanted) -> None:
        user = await self._user_of(container, wanted)
        workdir, folder = wanted.spec.workdir, wanted.spec.files
        # A working directory that the engine made would belong to root; one that the image brings stays as it is.
        if folder is not None or not await self._engine.exists(container, workdir):
            pack = functools.partial(tree_archive, folder, workdir, user.uid, user.gid)
            await self._call(lambda: self._unpack(container, "/", pack()))

    async def exec(
        self, lease: Lease, wanted: Wanted, command: str, timeout_s: float, env: Mapping[str, str]
    ) -> ExecResult:
        container, user = await self._whose(lease, wanted)
        every = {**wanted.spec.env, **env}
        with self._disk.writing(lease.id):
            return await self._commands.run(
                container, user, command, timeout_s, every, wanted.spec.workdir, wanted.limits
            )

    async def put_files(self, lease: Lease, wanted: Wanted, contents: Mapping[str, bytes]) -> None:
        container, user = await self._whose(lease, wanted)
        archive = contents_archive(contents, user.uid, user.gid)
        with self._disk.writing(lease.id):
            await self._call(lambda: self._unpack(container, wanted.spec.workdir, archive))

    async def read_file(self, lease: Lease, wanted: Wanted, path: str, max_bytes: int) -> bytes:
        container = self._place(lease)
        name = f"{wanted.spec.workdir.rstrip('/')}/{inside(path)}"
        return await self._call(lambda: self._read(container, name, max_bytes))

    async def read_tree(self, lease: Lease, wanted: Wanted, path: str, max_bytes: int) -> bytes:
        """A tar of a file or folder below the working directory, of at most ``max_bytes``; links stay links."""
        container = self._place(lease)
        name = f"{wanted.spec.workdir.rstrip('/')}/{inside(path)}"
        return await self._call(lambda: self._archive(container, name, max_bytes))

    async def ports(self, lease: Lease) -> dict[int, int]:
        container = self._place(lease)
        return await self._call(lambda: published(self._docker.api.inspect_container(container)))

    async def watch(self, on_death: OnDeath) -> None:
        await self._death.watch(on_death)

    async def reclaim(self, lease: Lease) -> None:
        self._death.over(lease.id)
        if lease.place is not None:
            self._commands.forget(lease.place)
        # By name, not by id: a cancelled preparation may have made the container without telling anyone.
        await to_the_end(self._call(lambda: self._remove(lease.id)))

    async def sizes(self) -> Held:
        return await self._call(lambda: self._disk.sizes(brought()))

    async def close(self) -> None:
        if self._images is not None:
            self._images.close()
        if self._line is not None:
            await self._line.close()
        if self._bridged:
            with contextlib.suppress(EnvironmentFailure):  # the collector does it later
                await self._call(lambda: drop_network(self._docker, self._owner))
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
        assert self._line is not None, "available() was not asked"  # noqa: S101
        return self._line

    @property
    def _commands(self) -> ContainerCommands:
        assert self._tools is not None, "available() was not asked"  # noqa: S101
        return self._tools

    @property
    def _death(self) -> Deaths:
        assert self._deaths is not None, "available() was not asked"  # noqa: S101
        return self._deaths

    @property
    def _disk(self) -> DockerDisk:
        assert self._sizes is not None, "available() was not asked"  # noqa: S101
        return self._sizes

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
        except requests.RequestException as error:  # the SDK lets it through: the engine went away, or hung up
            raise EnvironmentFailure(f"the Docker engine does not answer: {error}") from error

    def _create_from(self, lease: Lease, wanted: Wanted, image: str) -> tuple[str, bool]:
        """A container on ``image``, or on a layer that was set up like it before: then the second value is true."""
        if any(known.key for known in record().values()):
            kept = find_prepared(self._docker, workspace_key(self._own_images.id_of(image), wanted.spec))
            if kept is not None:
                with held(image_lock(kept)), contextlib.suppress(ImageNotFound):
                    return self._create(lease, wanted, kept), True
        with held(image_lock(image)):
            return self._create(lease, wanted, image), False

    def _keep(self, lease: Lease, wanted: Wanted) -> None:
        key = prepared_key(self._own_images.id_of(recipes.name_of(wanted.image or BASE)), wanted.spec)
        if key is not None:
            keep_prepared(self._docker, self._place(lease), key, lease.run)

    def _create(self, lease: Lease, wanted: Wanted, image: str) -> str:
        bridge = wanted.network == "bridge"
        network: str = wanted.network
        if bridge:
            self._bridged = True
            network = ensure_network(self._docker, self._owner)
        container = self._described(lease, wanted, image, network)
        try:
            try:
                container.start()
            except NotFound:
                if not bridge:
                    raise
                ensure_network(self._docker, self._owner)  # somebody took it away while nobody was on it
                container.start()
        except DockerException:
            container.remove(force=True, v=True)
            raise
        return str(container.id)

    def _described(self, lease: Lease, wanted: Wanted, image: str, network: str) -> Container:
        name, labels = f"thunderctl-{lease.id}", labels_of(lease, self._owner, self._node)
        if self._quota is not False:
            try:
                asked = description(name, wanted, labels, network, quota=True)
                made = self._docker.containers.create(image, **asked)
                self._quota = True
                return made
            except APIError as error:
                if self._quota or "storage-opt" not in str(error.explanation):
                    raise
                self._quota = False
        return self._docker.containers.create(image, **description(name, wanted, labels, network, quota=False))

    def _bytes_of(self, container: Path) -> int:
        with contextlib.suppress(DockerException, requests.RequestException):  # it is going, or the engine is
            return self._disk.held_by(container.name)
        return 0

    async def _stop(self, container: str) -> None:
        await self._call(lambda: kill(self._docker, container))

    async def _tool_user(self, container: str, image: str, asked: str | None) -> ToolUser:
        name = asked or await self._call(lambda: self._image_user(container)) or "0:0"
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
            raise EnvironmentFailure(
                f"the image {image} does not tell who its user {name!r} is", details=kept.text()[0].splitlines()[-3:]
            ) from None

    async def _whose(self, lease: Lease, wanted: Wanted) -> tuple[str, ToolUser]:
        container = self._place(lease)
        return container, await self._user_of(container, wanted)

    async def _user_of(self, container: str, wanted: Wanted) -> ToolUser:
        image, asked = wanted.image or BASE, wanted.spec.user
        if (image, asked) not in self._users:
            user = await self._tool_user(container, image, asked)
            if user.uid == int(KEEPER.partition(":")[0]):
                raise refuse_keeper(user.name)
            self._users[image, asked] = user
        return self._users[image, asked]

    def _place(self, lease: Lease) -> str:
        if lease.place is None:
            raise EnvironmentFailure(f"lease {lease.id} has no container yet (it is {lease.state})")
        return lease.place

    def _image_user(self, container: str) -> str:
        image = self._docker.api.inspect_container(container)["Image"]
        return str(self._docker.images.get(image).attrs["Config"].get("User") or "")

    def _unpack(self, container: str, where: str, archive: IO[bytes]) -> None:
        with archive:
            self._docker.api.put_archive(container, where, archive)

    def _read(self, container: str, name: str, max_bytes: int) -> bytes:
        with self._fetched(container, name, max_bytes) as spool, tarfile.open(fileobj=spool) as archive:
            entry = archive.next()
            content = archive.extractfile(entry) if entry is not None and entry.isreg() else None
            if content is None:
                raise EnvironmentFailure(f"{name} is not a file (links are not followed)")
            return content.read()

    def _archive(self, container: str, name: str, max_bytes: int) -> bytes:
        with self._fetched(container, name, max_bytes) as spool:
            return spool.read()

    def _fetched(self, container: str, name: str, max_bytes: int) -> IO[bytes]:
        try:
            chunks, told = self._docker.api.get_archive(container, name)
        except NotFound:
            raise EnvironmentFailure(f"there is no file {name} in the environment") from None
        with contextlib.ExitStack() as stack:
            stack.callback(chunks.close)
            if told["size"] > max_bytes:
                raise EnvironmentFailure(f"the file {name} has {told['size']} bytes, more than {max_bytes}")
            spool = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=max_bytes))
            for chunk in chunks:
                spool.write(chunk)
                if spool.tell() > max_bytes + _TAR_ROOM:  # a folder, whose own size says nothing
                    raise EnvironmentFailure(f"{name} is larger than {max_bytes} bytes")
            spool.seek(0)
            stack.pop_all()
            chunks.close()
        return spool

    def _remove(self, lease_id: str) -> None:
        self._disk.look_at_last(lease_id)
        remove(self._docker, f"thunderctl-{lease_id}")


def connect() -> docker.DockerClient:
    """A client of an engine that answers; ``EnvironmentFailure`` tells why there is none."""
    try:
        client = docker.from_env(timeout=120, max_pool_size=64)
        client.ping()
    except (DockerException, OSError) as error:
        raise EnvironmentFailure(f"no Docker engine answers: {error}") from error
    return client
