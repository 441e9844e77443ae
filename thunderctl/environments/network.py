"""The one network that all environments of an owner share, made when the first one needs it.

A bridge for each environment exhausts the engine's address pools after about thirty. On this one, containers cannot
talk to each other; the way out and published ports are all there is.
"""

from __future__ import annotations

import contextlib

import docker
from docker.errors import APIError, NotFound

from thunderctl import paths
from thunderctl.environments.turns import turn
from thunderctl.errors import EnvironmentFailure

_NO_TALK = {"com.docker.network.bridge.enable_icc": "false"}


def network_name(owner: str) -> str:
    return f"thunderctl-{owner}"


def ensure_network(client: docker.DockerClient, owner: str) -> str:
    """The name of the owner's network, once it is there. The engine lets two have one name, so makers take turns."""
    name = network_name(owner)
    if find_network(client, owner) is not None:
        return name
    with turn(f"network {name}"):
        if find_network(client, owner) is None:
            try:
                client.api.create_network(
                    name,
                    driver="bridge",
                    options=_NO_TALK,
                    labels={"thunderctl.owner": owner},
                    check_duplicate=True,
                )
            except APIError as error:
                if error.status_code != 409:
                    raise EnvironmentFailure(
                        f"the network {name} could not be made: {error.explanation}",
                        hint="`docker network prune` frees address pools; or do without: network = none",
                    ) from error
    return name


def find_network(client: docker.DockerClient, owner: str | None = None) -> str | None:
    """The id of the shared network of ``owner`` (of this home), if there is one."""
    name = network_name(owner or paths.owner())
    found = client.api.networks(names=[name])  # any name that contains it
    return next((str(each["Id"]) for each in found if each["Name"] == name), None)


def drop_network(client: docker.DockerClient, owner: str) -> None:
    """Remove the shared network unless somebody is on it; who comes at this very moment makes it again."""
    found = find_network(client, owner)
    if found is None:
        return
    for each in client.api.containers(all=True, filters={"network": found}):  # those not started yet as well
        if each["State"] in ("created", "running", "paused", "restarting"):
            return
    with contextlib.suppress(NotFound, APIError):
        client.api.remove_network(found)
