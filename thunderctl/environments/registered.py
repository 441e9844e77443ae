"""Containers that agents made for themselves and registered (``docker_ids``): found again and collected, with care.

They bear no sign of ours, so all that proves whose they are is what the agent said. An id is believed from twelve
characters on, a name only for a container that was there when it was said. Whatever a live program registered as
well stays, and so does what carries a lease, or the label of another home.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import docker
from docker.errors import APIError, DockerException

from thunderctl import paths
from thunderctl.environments.docker import remove
from thunderctl.environments.remains import Node, Registration, find_nodes
from thunderctl.errors import ThunderError

STOP_S = 2
"""Seconds that a container gets to end by itself. Most run ``sleep infinity``, which never does."""
AT_ONCE = 32
"""256 containers, stopped for ``STOP_S`` each, are gone within about 20 s."""
SHORT_ID = 12
"""Characters of the ids that ``docker ps`` prints. The engine would take one character for an id."""
CLOCK_S = 5.0
"""The engine's clock may differ from ours by so much."""


@dataclass(frozen=True, slots=True)
class Collected:
    """Names, as they were registered."""

    removed: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    """There was no such container (any more)."""
    left: dict[str, str] = field(default_factory=dict)
    """Why they stay, for good."""
    failed: dict[str, str] = field(default_factory=dict)


def find(listing: Sequence[Mapping[str, Any]], container: str) -> Mapping[str, Any] | None:
    """The entry of the engine's list that an agent means by ``container``."""
    for each in listing:
        if each["Id"] == container or container in [name.removeprefix("/") for name in each["Names"] or ()]:
            return each
    short = [each for each in listing if len(container) >= SHORT_ID and each["Id"].startswith(container)]
    return short[0] if len(short) == 1 else None


def refusal(told: Mapping[str, Any], said: Registration, protected: Mapping[str, str]) -> str | None:
    """Why the container ``told`` is not to be taken; ``None`` if it is. ``protected``: full id → by whom."""
    if told["Id"] in protected:
        return f"{protected[told['Id']]} registered it as well"
    labels = told.get("Labels") or {}
    owner = labels.get("thunderctl.owner")
    if owner not in (None, paths.owner()):
        return "it carries the label of another home"
    if "thunderctl.lease" in labels:
        return "it belongs to a lease"
    if not told["Id"].startswith(said.container) and told["Created"] > said.at + CLOCK_S:
        return "it was made after a container of this name was registered"
    return None


def protected_by(
    nodes: Mapping[str, Node], listing: Sequence[Mapping[str, Any]], besides: Iterable[tuple[str, Registration]] = ()
) -> dict[str, str]:
    """Full ids of what programs of live nodes registered → which program. ``besides``: node and registration of those
    that are over."""
    over, found = set(besides), {}
    for node in nodes.values():
        for said in node.registered if node.state == "alive" else ():
            told = None if (node.name, said) in over else find(listing, said.container)
            if told is not None:
                found[told["Id"]] = f"the program {said.program} of the live node {node.name}"
    return found


def collect(client: docker.DockerClient, node: str, ended: Mapping[str, Iterable[str]]) -> Collected:
    """Collect what programs of the live ``node`` registered that have ``ended``: program → containers. Blocks.

    ``DockerException`` if the engine cannot be asked; then nothing was removed.
    """
    pairs = {(program, container) for program, containers in ended.items() for container in containers}
    nodes = find_nodes()
    mine = [said for said in nodes[node].registered if (said.program, said.container) in pairs]
    listing = client.api.containers(all=True)
    protected = protected_by(nodes, listing, [(node, said) for said in mine])
    result = Collected()
    going: dict[str, str] = {}
    for said in mine:
        told = find(listing, said.container)
        reason = None if told is None else refusal(told, said, protected)
        if told is None:
            result.gone.append(said.container)
        elif reason is not None:
            result.left[said.container] = reason
        else:
            going[told["Id"]] = said.container
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for name, error in threads.map(lambda each: (each[1], _try(client, each[0])), going.items()):
            if error is None:
                result.removed.append(name)
            else:
                result.failed[name] = error
    return result


def _try(client: docker.DockerClient, container: str) -> str | None:
    try:
        stop_and_remove(client, container)
    except (ThunderError, DockerException, OSError) as error:
        return str(error)
    return None


def stop_and_remove(client: docker.DockerClient, container: str) -> None:
    """End a container in order, and remove it with its anonymous volumes; gone already is fine."""
    with contextlib.suppress(APIError):  # gone, or in a state that cannot be stopped: the removal deals with both
        client.api.stop(container, timeout=STOP_S)
    remove(client, container)
