"""Which images go: a pure decision over the record, the bytes of layers and who uses what.

Images share layers, so what one of them frees depends on which others stay. Rules for every policy: only what is in the
record; nothing in use; nothing whose layers somebody needs anyway (it would free no byte); children before parents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Literal

import docker

from thunderctl import paths
from thunderctl.environments.disk import DockerDisk, Layer
from thunderctl.environments.image_store import Brought, Removal, brought, images_in_use, record, remove_images
from thunderctl.profile import ToolEnvironmentSpec

GIB = 1024**3
LOW_SHARE = 0.8
"""Low mark of a budget that names none, as a share of the high one: fewer rounds, each of several images."""

ImagePolicy = Literal["keep", "run", "budget"]


@dataclass(frozen=True, slots=True)
class ImageLayers:
    """What images of the record consist of, by name. Those that are not on the engine are left out."""

    layers: Mapping[str, tuple[Layer, ...]]
    """The lowest first."""
    sizes: Mapping[Layer, int]
    """Bytes."""
    others: Set[Layer] = frozenset()
    """Layers that images outside the record have too: removing ours does not free them."""

    def bytes(self, names: Iterable[str]) -> int:
        """What ``names`` hold that no image outside the record has: each layer once."""
        held = {layer for name in names for layer in self.layers.get(name, ())}
        return sum(self.sizes.get(layer, 0) for layer in held - self.others)

    def freed(self, names: Iterable[str]) -> int:
        """What goes if all of ``names`` go and the others stay."""
        return self.bytes(self.layers) - self.bytes(self.layers.keys() - set(names))

    def unique(self, name: str) -> int:
        """What goes with this image alone."""
        return self.freed([name])

    def shared(self, name: str) -> int:
        """What others, ours or not, need as well."""
        return sum(self.sizes.get(layer, 0) for layer in self.layers.get(name, ())) - self.unique(name)


def image_bytes(client: docker.DockerClient, disk: DockerDisk | None = None) -> ImageLayers:
    """Layers and their bytes, of the images of this home. Only what is new to ``disk`` is asked of the engine.

    Its own overview (``docker system df``) walks everything that it has, containers and volumes included.
    """
    ours = brought()
    chains, sizes = (disk or DockerDisk(client, paths.owner(), "")).look_at_images(ours)
    ids = {str(said["id"]) for said in ours.values()}
    return ImageLayers(
        {name: tuple(chains[said["id"]]) for name, said in ours.items() if said["id"] in chains},
        sizes,
        frozenset(layer for image, chain in chains.items() if image not in ids for layer in chain),
    )


def what_goes(
    record: Mapping[str, Brought],
    images: ImageLayers,
    in_use: Set[str],
    policy: ImagePolicy,
    *,
    run: str,
    high_bytes: int,
    low_bytes: int,
) -> list[str]:
    """Names to remove, in this order.

    ``keep``: none. ``run``: what ``run`` brought. ``budget``: once our images hold more than ``high_bytes``, the least
    recently used until they hold ``low_bytes`` at most; a use of an image is one of everything below it.
    """
    order = removable(record, images, in_use)
    if policy == "run":
        going = {name for name in order if run and record[name].run == run}
        staying = {layer for name in images.layers if name not in going for layer in images.layers[name]}
        return [name for name in order if name in going and not _is_below(name, images, staying)]
    held = images.bytes(images.layers)
    if policy == "keep" or held <= high_bytes:
        return []
    gone: list[str] = []
    for name in order:
        if held <= low_bytes:
            break
        gone.append(name)
        held = images.bytes(images.layers.keys() - set(gone))
    return gone


def let_go(
    client: docker.DockerClient, disk: DockerDisk | None, settings: ToolEnvironmentSpec, run: str = ""
) -> Removal:
    """Do what the profile says about images: at the end of ``run``, or (``budget``) whenever one may have come."""
    if settings.image_policy == "keep":
        return Removal([], {})
    high = settings.image_budget_gib
    low = settings.image_budget_low_gib or LOW_SHARE * high
    names = what_goes(
        record(), image_bytes(client, disk), images_in_use(client).keys(), settings.image_policy,
        run=run, high_bytes=int(high * GIB), low_bytes=int(low * GIB),
    )  # fmt: skip
    return remove_images(client, names)


def removable(record: Mapping[str, Brought], images: ImageLayers, in_use: Set[str]) -> list[str]:
    """What nobody needs, the least recently used first; children before their parents."""
    needed = {layer for name in in_use for layer in images.layers.get(name, ())} | images.others
    free = [name for name in images.layers if name in record and name not in in_use]
    free = [name for name in free if not _is_below(name, images, needed)]

    def rank(name: str) -> tuple[float, int, str]:
        # A child uses its parents: their last use is at least its own.
        mine = images.layers[name][-1:]
        users = [name, *(other for other in free if mine and mine[0] in images.layers[other])]
        return max(record[user].last_used for user in users), -len(images.layers[name]), name

    return sorted(free, key=rank)


def _is_below(name: str, images: ImageLayers, layers: Set[Layer]) -> bool:
    """Whether all of an image is needed by whoever has ``layers``: the highest layer stands for all below it."""
    return images.layers[name][-1:] != () and images.layers[name][-1] in layers
