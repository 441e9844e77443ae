"""What is left on the Docker engine: containers, what agents registered, volumes, networks and images. Looking only.

What bears the owner label of this home is ours; of images, what its record says that it brought. The engine's build
cache is nobody's in particular and is left alone.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import docker
from docker.errors import NotFound

from thunderctl import paths
from thunderctl.environments.image_policy import image_bytes, removable
from thunderctl.environments.image_store import images_in_use, record
from thunderctl.environments.registered import find, protected_by, refusal
from thunderctl.environments.remains import GcItem, Kept, Node

_ANONYMOUS = re.compile(r"[0-9a-f]{64}")

Listing = Sequence[Mapping[str, Any]]
"""The engine's containers, as its list tells them."""


def find_containers(client: docker.DockerClient, *, measure: bool = True) -> Iterator[GcItem]:
    """Containers that carry the owner label of this home and the name of a lease; their bytes only with ``measure``."""
    for each in client.api.containers(all=True, size=measure, filters={"label": [_ours(), "thunderctl.lease"]}):
        if not each["Labels"]["thunderctl.lease"]:  # a person's own, on an image of a kept set-up
            continue
        yield container_item(each["Id"], each["Labels"], each["Names"], each["Created"], each.get("SizeRw") or 0)


def container_item(full_id: str, labels: dict[str, str], names: list[str], created: float, size: int) -> GcItem:
    name = (names[0] if names else full_id[:12]).lstrip("/")
    return _labelled("container", full_id, name, labels, time.time() - created, int(size))


def _labelled(kind: Any, full_id: str, name: str, labels: Mapping[str, str], age_s: float, size: int = 0) -> GcItem:
    return GcItem(
        kind, full_id, name, "", age_s, size, labels.get("thunderctl.node"), labels.get("thunderctl.run"),
        labels.get("thunderctl.program"), labels.get("thunderctl.lease"),
    )  # fmt: skip


def find_registered(nodes: dict[str, Node], listing: Listing) -> Iterator[GcItem | Kept]:
    """Containers that agents registered with nodes that are dead now."""
    protected = protected_by(nodes, listing)
    for node in nodes.values():
        for said in node.registered if node.state == "dead" else ():
            told = find(listing, said.container)
            if told is None:
                continue
            item = container_item(told["Id"], {}, told["Names"], told["Created"], 0)
            item = dataclasses.replace(item, kind="agent's container", node=node.name, program=said.program)
            reason = refusal(told, said, protected)
            yield item if reason is None else Kept(dataclasses.replace(item, node=None), reason)


def still_registered(nodes: dict[str, Node], listing: Listing, item: GcItem) -> str | None:
    """Why an agent's container is not to be taken any more; ``None`` if it is, or if it is gone."""
    if not any(each["Id"] == item.id for each in listing):
        return None
    user = protected_by(nodes, listing).get(item.id)
    if user is not None:
        return f"{user} registered it as well"
    going = [each.id for each in find_registered(nodes, listing) if isinstance(each, GcItem)]
    return None if item.id in going else "no dead node has it on its books any more"


def find_anonymous_volumes(
    client: docker.DockerClient, containers: Collection[GcItem], *, measure: bool = True
) -> Iterator[GcItem]:
    """Anonymous volumes of ``containers``. One without its container bears no sign of ours and is nobody's to take."""
    sizes: dict[str, int] | None = None if measure else {}
    for item in containers:
        try:
            mounts: list[dict[str, Any]] = client.api.inspect_container(item.id)["Mounts"]
        except NotFound:
            continue
        for mount in mounts:
            if mount.get("Type") != "volume" or not _ANONYMOUS.fullmatch(mount.get("Name", "")):
                continue
            sizes = _volume_sizes(client) if sizes is None else sizes
            name = mount["Name"]
            yield dataclasses.replace(
                item, kind="volume", id=name, name=name[:12], why=f"of {item.name}", bytes=sizes.get(name, 0)
            )


def find_volumes(client: docker.DockerClient, *, measure: bool = True) -> Iterator[GcItem]:
    """Volumes that carry the owner label of this home."""
    found = client.api.volumes(filters={"label": _ours()})["Volumes"] or []
    sizes = _volume_sizes(client) if found and measure else {}
    for each in found:
        name, labels = each["Name"], each["Labels"] or {}
        yield _labelled("volume", name, name, labels, _age(each.get("CreatedAt")), sizes.get(name, 0))


def find_networks(client: docker.DockerClient) -> Iterator[GcItem]:
    """Networks that carry the owner label of this home."""
    for each in client.api.networks(filters={"label": _ours()}):
        yield _labelled("network", each["Id"], each["Name"], each["Labels"] or {}, _age(each.get("Created")))


def user_of(item: GcItem, listing: Listing, besides: Collection[str] = ()) -> str | None:
    """A container, running or not, that needs the volume or network; ``besides`` are the ids of those that go."""
    for each in listing:
        if each["Id"] in besides:
            continue
        networks = (each.get("NetworkSettings") or {}).get("Networks") or {}
        if item.kind == "volume":
            used = any(mount.get("Name") == item.id for mount in each.get("Mounts") or ())
        else:
            used = item.name in networks or any(on.get("NetworkID") == item.id for on in networks.values())
        if used:
            return str((each["Names"] or [each["Id"][:12]])[0].lstrip("/"))
    return None


def find_images(
    client: docker.DockerClient, older_than_s: float, run: str | None, besides: Collection[str]
) -> Iterator[GcItem]:
    """Images that this home brought and nobody needs, in the order in which they can go.

    ``besides``: ids of containers that go. ``bytes`` is what goes with each, once those before it are gone.
    """
    known, layers = record(), image_bytes(client)
    using = set(images_in_use(client, besides))
    # What must stay is needed like anything in use: with it stays whatever it is built on.
    staying = {
        name
        for name, each in known.items()
        if time.time() - each.last_used < older_than_s or (run is not None and each.run != run)
    }
    left = set(layers.layers)
    for name in removable(known, layers, using | staying):
        each = known[name]
        freed = layers.bytes(left) - layers.bytes(left - {name})
        left.discard(name)
        yield GcItem(
            "image", name, name, f"{each.how}, and nobody needs it", time.time() - each.last_used, freed,
            run=each.run or None, stamp=each.last_used,
        )  # fmt: skip


def used_since(item: GcItem) -> str | None:
    """Why an image is not the one of the plan any more; ``None`` if it is, or if it is gone from the record."""
    known = record().get(item.id)
    return "it was used since" if known is not None and known.last_used > item.stamp else None


def _ours() -> str:
    return f"thunderctl.owner={paths.owner()}"


def _age(moment: str | None) -> float:
    """Seconds since the engine's ISO time; 0 where it cannot be read: what may be new stays."""
    try:
        return time.time() - datetime.datetime.fromisoformat(moment or "").timestamp()
    except ValueError:
        return 0.0


def _volume_sizes(client: docker.DockerClient) -> dict[str, int]:
    # The engine measures everything it has for this answer: ask once, and only if needed.
    volumes = client.df()["Volumes"] or []
    return {each["Name"]: max(0, (each.get("UsageData") or {}).get("Size", 0)) for each in volumes}
