"""What environments hold on the disk, by kind, looked at no more often than it can have changed.

An environment changes only while a command or a copy runs in it, for whatever a command started ends with it: a sample
looks again at those alone. A layer of an image never changes and is looked at once. Where the engine's folders can be
read, blocks on the disk are counted; elsewhere the engine's own figures, which leave out what small files waste.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, NotFound

from thunderctl.environments.spec import Held

LOOK_AGAIN_S = 60.0
"""An environment is looked at after so long even if nothing is known to have run in it, and volumes whose folders
cannot be read are asked for no more often: for them the engine walks everything it has."""
ANONYMOUS = re.compile(r"[0-9a-f]{64}")
"""Names that the engine gives to volumes that nobody named."""

Layer = tuple[str, ...]
"""A layer of an image: its digest after those of all layers below it. The engine keeps the same digest on two
different grounds twice."""


def folder_bytes(folder: Path) -> int:
    """Bytes on disk below ``folder``, each file once; what disappears during the walk counts nothing."""
    total, pending = 0, [folder]
    linked: set[int] = set()
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    told = entry.stat(follow_symlinks=False)
                    is_folder = entry.is_dir(follow_symlinks=False)
                    if told.st_nlink > 1 and not is_folder:
                        if told.st_ino in linked:
                            continue
                        linked.add(told.st_ino)
                    total += told.st_blocks * 512
                    if is_folder:
                        pending.append(Path(entry.path))
    return total


def layers_of(digests: Iterable[str]) -> list[Layer]:
    """The layers of an image, the lowest first, from the digests that the engine tells."""
    chain = tuple(digests)
    return [chain[:end] for end in range(1, len(chain) + 1)]


def layer_sizes(layers: Sequence[Layer], history: Sequence[int], whole: int, known: Mapping[Layer, int]) -> list[int]:
    """Bytes of each layer where the engine's folders cannot be read.

    ``history``: sizes of the image's build steps, the lowest first. Steps that made no layer have none, so the two
    lists agree if there are as many layers as steps of some size. Where they do not (an empty file makes a layer of
    size 0), what is not ``known`` of the ``whole`` stands at the highest unknown layer.
    """
    made = [size for size in history if size]
    if len(made) == len(layers):
        return made
    sizes = [known.get(layer, 0) for layer in layers]
    unknown = [number for number, layer in enumerate(layers) if layer not in known]
    if unknown:
        sizes[unknown[-1]] = max(0, whole - sum(sizes))
    return sizes


@dataclass(slots=True)
class _Environment:
    """A container as last looked at. ``upper``: its writable layer, if that can be read."""

    container: str
    upper: Path | None
    volumes: tuple[tuple[str, Path], ...]
    layer_bytes: int = 0
    volume_bytes: int = 0
    looked: float = -math.inf

    @property
    def bytes(self) -> int:
        return self.layer_bytes + self.volume_bytes


@dataclass(frozen=True, slots=True)
class _Image:
    """An image as the engine tells of it. ``folders``: where its layers are, if they can be read."""

    layers: list[Layer]
    folders: list[Path] | None
    whole: int


class DockerDisk:
    """What one node's environments hold on a Docker engine. Everything here blocks and runs in a thread."""

    def __init__(self, client: docker.DockerClient, owner: str, node: str) -> None:
        self._client = client
        self._ours = [f"thunderctl.owner={owner}", f"thunderctl.node={node}"]
        self._environments: dict[str, _Environment] = {}
        self._over: dict[str, int] = {}
        self._written: set[str] = set()
        self._writing = Counter[str]()
        self._looking = threading.Lock()
        self._images: dict[str, _Image] = {}
        self._layers: dict[Layer, int] = {}
        self._ever: set[Layer] = set()
        self._volumes: dict[str, tuple[float, int]] = {}

    @contextlib.contextmanager
    def writing(self, lease: str) -> Iterator[None]:
        """While the block runs, and once after it, the environment of ``lease`` may hold more than before."""
        self._writing[lease] += 1
        try:
            yield
        finally:
            self._written.add(lease)
            self._writing[lease] -= 1
            if self._writing[lease] <= 0:
                del self._writing[lease]

    def sizes(self, brought: Mapping[str, Mapping[str, Any]]) -> Held:
        """A sample. ``brought``: the images of this home, as ``images.brought()`` tells."""
        over, self._over = self._over, {}
        present = self._look_at_containers()
        own = self._client.api.volumes(filters={"label": self._ours}).get("Volumes") or []
        by_kind = {
            "containers": sum(known.layer_bytes for known in present.values()),
            **self._image_bytes(brought),
            "volumes": sum(known.volume_bytes for known in present.values())
            + sum(self._volume(each["Name"], Path(each["Mountpoint"])) for each in own),
        }
        gone = sum(self._layers[layer] for layer in self._ever) - by_kind["images"] - by_kind["build cache"]
        return Held({**over, **{lease: known.bytes for lease, known in present.items()}}, by_kind, gone)

    def held_by(self, container: str) -> int:
        """Bytes that one environment holds right now."""
        known = next((each for each in list(self._environments.values()) if each.container == container), None)
        if known is None:
            known = self._know(self._client.api.inspect_container(container))
        self._measure(known)
        return known.bytes

    def look_at_last(self, lease: str) -> None:
        """Measure an environment that is about to be removed, if anything ran in it since it was measured.

        :meth:`sizes` tells what it held to whoever asks next. An environment that cannot be measured is none to wait
        for: then what was known stays.
        """
        with contextlib.suppress(APIError):
            known = self._environments.get(lease) or self._know(
                self._client.api.inspect_container(f"thunderctl-{lease}")
            )
            if known.looked == -math.inf or lease in self._written or lease in self._writing:
                self._measure(known)
            self._over[lease] = known.bytes
        self._environments.pop(lease, None)
        self._written.discard(lease)

    # ------------------------------------------------------------------ containers and their volumes

    def _look_at_containers(self) -> dict[str, _Environment]:
        told = self._client.api.containers(all=True, filters={"label": [*self._ours, "thunderctl.lease"]})
        there = {each["Labels"]["thunderctl.lease"]: each["Id"] for each in told}
        for lease in self._environments.keys() - there.keys():
            self._environments.pop(lease, None)
        present = {}
        for lease, container in there.items():
            with contextlib.suppress(NotFound):  # it went meanwhile
                known = self._environments.get(lease)
                if known is None or known.container != container:
                    known = self._know(self._client.api.inspect_container(container))
                    self._environments[lease] = known
                old = time.monotonic() - known.looked > LOOK_AGAIN_S
                if old or lease in self._written or lease in self._writing:
                    self._written.discard(lease)  # before the walk: what is written during it is seen by the next
                    self._measure(known)
                present[lease] = known
        return present

    def _know(self, told: Mapping[str, Any]) -> _Environment:
        upper = _folder((told.get("GraphDriver") or {}).get("Data"), "UpperDir")
        volumes = tuple(
            (mount["Name"], Path(mount["Source"]))
            for mount in told.get("Mounts") or []
            if mount.get("Type") == "volume" and ANONYMOUS.fullmatch(mount.get("Name", ""))
        )
        return _Environment(told["Id"], upper if upper and _readable(upper) else None, volumes)

    def _measure(self, known: _Environment) -> None:
        began = time.monotonic()
        if known.upper is not None:
            known.layer_bytes = folder_bytes(known.upper)
        else:
            api: Any = self._client.api
            answer = api._get(api._url("/containers/{0}/json", known.container), params={"size": 1})
            known.layer_bytes = int(api._result(answer, json=True).get("SizeRw") or 0)
        known.volume_bytes = sum(self._volume(name, place, again=True) for name, place in known.volumes)
        known.looked = began

    def _volume(self, name: str, place: Path, again: bool = False) -> int:
        looked, size = self._volumes.get(name, (-math.inf, 0))
        now = time.monotonic()
        if _readable(place):
            if again or now - looked > LOOK_AGAIN_S:
                self._volumes[name] = (now, folder_bytes(place))
        elif now - looked > LOOK_AGAIN_S:
            told = self._client.df().get("Volumes") or []
            self._volumes = {v["Name"]: (now, max(0, (v.get("UsageData") or {}).get("Size", 0))) for v in told}
        return self._volumes.get(name, (now, size))[1]

    # ------------------------------------------------------------------ images

    def look_at_images(
        self, brought: Mapping[str, Mapping[str, Any]]
    ) -> tuple[dict[str, list[Layer]], Mapping[Layer, int]]:
        """The layers of every image on the engine, by id, and the bytes of those layers that ours have.

        Asks the engine for the list of its images (3 ms for a hundred) and for no more, unless there are new ones.
        """
        with self._looking:
            ours = {str(each["id"]) for each in brought.values()}
            there = {each["Id"] for each in self._client.api.images()} if ours else set()
            for image in self._images.keys() - there:
                del self._images[image]
            for image in there - self._images.keys() if ours & there else ():
                with contextlib.suppress(NotFound):
                    self._images[image] = self._ask(image)
            for image in ours & self._images.keys():
                known = self._images[image]
                if not self._layers.keys() >= set(known.layers) and not self._measure_layers(image, known):
                    del self._images[image]  # it went meanwhile
            return {image: known.layers for image, known in self._images.items()}, dict(self._layers)

    def _image_bytes(self, brought: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
        """Bytes of the layers that only images of this home have, apart from what is kept of set-up commands."""
        chains, sizes = self.look_at_images(brought)
        cached = {str(each["id"]) for each in brought.values() if each.get("how") == "prepared"}
        ours = {str(each["id"]) for each in brought.values()} - cached
        others = {layer for image, layers in chains.items() if image not in ours | cached for layer in layers}
        images = {layer for image in ours & chains.keys() for layer in chains[image]} - others
        cache = {layer for image in cached & chains.keys() for layer in chains[image]} - others - images
        self._ever = (self._ever | images | cache) - others
        return {"images": sum(sizes[layer] for layer in images), "build cache": sum(sizes[layer] for layer in cache)}

    def _ask(self, image: str) -> _Image:
        api: Any = self._client.api
        told = api.inspect_image(image)
        layers = layers_of(told["RootFS"].get("Layers") or [])
        data = (told.get("GraphDriver") or {}).get("Data") or {}
        names = [*str(data.get("LowerDir") or "").split(":")[::-1], str(data.get("UpperDir") or "")]
        folders = [Path(name) for name in names if name]
        seen = len(folders) == len(layers) and all(_readable(folder) for folder in folders)
        return _Image(layers, folders if seen else None, int(told["Size"]))

    def _measure_layers(self, image: str, known: _Image) -> bool:
        if known.folders is None:
            try:
                api: Any = self._client.api
                history = [int(step["Size"]) for step in api.history(image)][::-1]
            except NotFound:
                return False
            found = layer_sizes(known.layers, history, known.whole, self._layers)
            self._layers |= dict(zip(known.layers, found, strict=True))
            return True
        for layer, folder in zip(known.layers, known.folders, strict=True):
            if layer not in self._layers:
                size = folder_bytes(folder)
                if not folder.is_dir():
                    return False
                self._layers[layer] = size
        return True


def _folder(data: Mapping[str, str] | None, name: str) -> Path | None:
    return Path(data[name]) if data and data.get(name) else None


def _readable(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)
