"""What the fake engine has: images, containers, volumes and networks, and how the engine's API tells of them.

No sockets here. A container's files are a table in memory; its commands are answered by a tiny interpreter, so nothing
of what a test says is ever run.
"""

from __future__ import annotations

import asyncio
import io
import posixpath
import secrets
import shlex
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Files = dict[str, bytes | None]
"""Absolute path → content; ``None`` is a folder."""

KILLED = 137
LAYER_BYTES = 1000


def fresh_id() -> str:
    return secrets.token_hex(32)


def moment(seconds: float) -> str:
    """As the engine writes times."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e9):09d}Z"


def tagged(name: str) -> str:
    """``name`` with the tag that the engine means if there is none."""
    return name if ":" in name.rpartition("/")[2] or name.startswith("sha256:") else f"{name}:latest"


def matches(labels: Mapping[str, str], wanted: list[str]) -> bool:
    """Whether ``labels`` have all of ``wanted``, each a name or ``name=value``."""
    pairs = [each.partition("=") for each in wanted]
    return all(name in labels and (not equal or labels[name] == value) for name, equal, value in pairs)


@dataclass(eq=False)
class Image:
    config: dict[str, Any] = field(default_factory=dict)
    files: Files = field(default_factory=lambda: {"/": None, "/etc": None, "/etc/hostname": b"tools\n"})
    layers: list[str] = field(default_factory=lambda: [f"sha256:{fresh_id()}"])
    tags: list[str] = field(default_factory=list)
    id: str = field(default_factory=lambda: f"sha256:{fresh_id()}")
    created: float = field(default_factory=time.time)

    def child(self, **changes: Any) -> Image:
        """An image with one more layer."""
        config = {**self.config, **changes}
        return Image(config, dict(self.files), [*self.layers, f"sha256:{fresh_id()}"])

    @property
    def labels(self) -> dict[str, str]:
        return self.config.get("Labels") or {}

    def told(self) -> dict[str, Any]:
        blank = dict.fromkeys(("Cmd", "Entrypoint", "Labels", "Volumes", "Env"))
        return {
            "Id": self.id,
            "RepoTags": list(self.tags),
            "RepoDigests": [],
            "Created": moment(self.created),
            "Config": {**blank, "User": "", "WorkingDir": "", **self.config},
            "Size": self.size,
            "VirtualSize": self.size,
            "GraphDriver": {"Data": {"UpperDir": f"/nowhere/{self.id[7:]}/diff"}, "Name": "overlay2"},
            "RootFS": {"Type": "layers", "Layers": list(self.layers)},
        }

    def listed(self) -> dict[str, Any]:
        return {
            "Id": self.id,
            "RepoTags": list(self.tags) or ["<none>:<none>"],
            "Labels": self.labels or None,
            "Created": int(self.created),
            "Size": self.size,
            "SharedSize": -1,
            "Containers": -1,
        }

    @property
    def size(self) -> int:
        return len(self.layers) * LAYER_BYTES


@dataclass(eq=False)
class Volume:
    name: str
    labels: dict[str, str] | None = None
    created: float = field(default_factory=time.time)

    def told(self) -> dict[str, Any]:
        return {
            "Name": self.name,
            "Driver": "local",
            "Labels": self.labels,
            "Mountpoint": f"/nowhere/volumes/{self.name}/_data",
            "Scope": "local",
            "Options": None,
            "CreatedAt": moment(self.created)[:19] + "Z",
        }


@dataclass(eq=False)
class Network:
    name: str
    driver: str = "bridge"
    labels: dict[str, str] = field(default_factory=dict)
    id: str = field(default_factory=fresh_id)
    created: float = field(default_factory=time.time)

    def told(self, users: Mapping[str, str]) -> dict[str, Any]:
        """``users``: names of running containers by id."""
        return {
            "Name": self.name,
            "Id": self.id,
            "Created": moment(self.created),
            "Driver": self.driver,
            "Scope": "local",
            "Labels": self.labels,
            "Containers": {each: {"Name": name} for each, name in users.items()},
        }


@dataclass(eq=False)
class Container:
    name: str
    image: Image
    body: dict[str, Any]
    """What it was created with."""
    mounts: list[dict[str, Any]]
    id: str = field(default_factory=fresh_id)
    created: float = field(default_factory=time.time)
    state: str = "created"
    exit_code: int = 0
    removing: bool = False
    ports: dict[str, Any] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    execs: list[Exec] = field(default_factory=list)
    files: Files = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.files = self.files or dict(self.image.files)
        self.grown = len(self.files)

    @property
    def labels(self) -> dict[str, str]:
        return {**self.image.labels, **(self.body.get("Labels") or {})}

    @property
    def host(self) -> dict[str, Any]:
        return self.body.get("HostConfig") or {}

    @property
    def network(self) -> str:
        named = self.host.get("NetworkMode") or "default"
        return "bridge" if named == "default" else str(named)

    @property
    def running(self) -> bool:
        return self.state == "running"

    def end(self, code: int) -> None:
        if self.running:
            self.state, self.exit_code = "exited", code
            self.ended.set()

    def told(self) -> dict[str, Any]:
        config = {key: value for key, value in self.body.items() if key not in ("HostConfig", "NetworkingConfig")}
        whole = {**self.image.config, **{key: value for key, value in config.items() if value is not None}}
        return {
            "Id": self.id,
            "Name": f"/{self.name}",
            "Created": moment(self.created),
            "Image": self.image.id,
            "State": {
                "Status": "removing" if self.removing else self.state,
                "Running": self.running,
                "Paused": False,
                "OOMKilled": False,
                "Dead": False,
                "ExitCode": self.exit_code,
                "Pid": 4242 if self.running else 0,
            },
            "Config": {**whole, "Labels": self.labels, "User": whole.get("User") or ""},
            "HostConfig": {"Binds": None, "CapAdd": None, "Privileged": False, **self.host},
            "Mounts": self.mounts,
            "GraphDriver": {"Data": {"UpperDir": f"/nowhere/{self.id}/diff"}, "Name": "overlay2"},
            "NetworkSettings": {"Ports": self.ports if self.running else {}, "Networks": {self.network: {}}},
        }

    def listed(self, size: bool = False, network_id: str = "") -> dict[str, Any]:
        """``network_id`` is unknown to the engine, too, until the container was started."""
        sizes = {"SizeRw": len(self.files) - self.grown, "SizeRootFs": self.image.size} if size else {}
        if size and not sizes["SizeRw"]:
            del sizes["SizeRw"]  # the engine leaves a zero out
        return {
            "Id": self.id,
            "Names": [f"/{self.name}"],
            "Image": self.body["Image"],
            "ImageID": self.image.id,
            "Created": int(self.created),
            "Labels": self.labels,
            "State": "removing" if self.removing else self.state,
            "Mounts": self.mounts,
            "HostConfig": {"NetworkMode": self.network},
            "NetworkSettings": {"Networks": {self.network: {"NetworkID": network_id}}},
            **sizes,
        }


@dataclass(eq=False)
class Exec:
    container: Container
    body: dict[str, Any]
    id: str = field(default_factory=fresh_id)
    running: bool = False
    exit_code: int | None = None
    killed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.container.execs.append(self)

    def _kill(self, whom: Callable[[Exec], bool]) -> None:
        for other in self.container.execs:
            if other is not self and whom(other):
                other.killed.set()

    def told(self) -> dict[str, Any]:
        return {
            "ID": self.id,
            "Running": self.running,
            "ExitCode": self.exit_code,
            "ContainerID": self.container.id,
            "Pid": 4243 if self.running else 0,
        }

    async def run(self, write: Callable[[bytes, int], None]) -> int:
        """The code of the command, once it has ended; what it says goes to ``write``, with the number of the stream."""
        script, *said = self.body["Cmd"][2:]
        deadline: float | None = None
        if "begun" in script:  # the wrapper of the back-end: its name, the deadline, the command …
            write(b"begun\n", 2)
            deadline, script = float(said[1]), said[2]
        elif said:  # what ends one command among several, by its mark
            script = f"end {said[1]}"
        work = asyncio.ensure_future(self._script(script, lambda data: write(data, 1)))
        over = [asyncio.ensure_future(each.wait()) for each in (self.container.ended, self.killed)]
        try:
            done, _ = await asyncio.wait([work, *over], timeout=deadline, return_when=asyncio.FIRST_COMPLETED)
            if work in done:
                return work.result()
            return KILLED if done else 124
        finally:
            for task in (work, *over):
                task.cancel()

    async def _script(self, script: str, write: Callable[[bytes], None]) -> int:
        code = 0
        if ".git" in script:  # the first commit: nothing to see from outside
            return 0
        for line in script.replace("\n", ";").split(";"):
            words = shlex.split(line)
            if words[:1] == ["exit"]:
                return int(words[1]) if len(words) > 1 else code
            if words:
                code = await self._command(words, write)
        return code

    async def _command(self, words: list[str], write: Callable[[bytes], None]) -> int:
        where = self.body.get("WorkingDir") or "/"
        files = self.container.files
        match words:
            case ["true" | ":", *_]:
                return 0
            case ["false"]:
                return 1
            case ["echo", *said, ">", name]:
                files[posixpath.join(where, name)] = " ".join(said).encode() + b"\n"
            case ["echo", *said]:
                write(" ".join(said).encode() + b"\n")
            case ["cat", name]:
                content = files.get(posixpath.join(where, name))
                write(f"cat: {name}: No such file or directory\n".encode() if content is None else content)
                return int(content is None)
            case ["sleep", seconds]:
                await asyncio.sleep(float(seconds))
            case ["id", "-u" | "-g"]:
                write(b"0\n" if str(self.body.get("User") or "0").startswith("0") else b"1000\n")
            case ["kill", "-9", "-1"]:
                self._kill(lambda other: True)
            case ["end", mark]:
                self._kill(lambda other: any(each.endswith(f"={mark}") for each in other.body.get("Env") or []))
            case _:
                write(f"sh: 1: {words[0]}: not found\n".encode())
                return 127
        return 0


def unpack(files: Files, where: str, archive: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for entry in tar:
            content = tar.extractfile(entry)
            files[posixpath.normpath(posixpath.join(where, entry.name))] = None if content is None else content.read()


def packed(files: Files, path: str) -> bytes:
    """A tar of ``path``, as the engine makes it: its last part is the name of the first entry."""
    spool = io.BytesIO()
    with tarfile.open(fileobj=spool, mode="w") as tar:
        for name in sorted(each for each in files if each == path or each.startswith(f"{path}/")):
            content = files[name]
            entry = tarfile.TarInfo(posixpath.basename(path) + name[len(path) :])
            entry.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            entry.size = len(content or b"")
            tar.addfile(entry, io.BytesIO(content or b""))
    return spool.getvalue()
