"""Set-up layers: a workspace that was set up once is kept as an image, and the next one like it starts from there.

A key covers everything that set-up depends on and that we know of. The container's own configuration (keeper, labels
of its lease) must not get into the image: it would look like an environment that somebody leases.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import Any

import docker
from docker.errors import ImageNotFound

from thunderctl import paths
from thunderctl.environments.backend import COMMIT, COMMIT_ENV
from thunderctl.environments.digests import short, tree_digest
from thunderctl.environments.image_store import image_lock, note_use, record, write_down
from thunderctl.environments.recipes import OWNER
from thunderctl.environments.spec import EnvironmentSpec
from thunderctl.environments.turns import turn

PREPARED = "thunderctl/prepared"
_OF_THE_LEASE = ("node", "run", "program", "lease", "created")


def prepared_key(image_id: str, spec: EnvironmentSpec) -> str | None:
    """:func:`workspace_key` of what is worth keeping: ``None`` if there are no set-up commands, or if they may have
    read mounts, whose content has no digest."""
    return workspace_key(image_id, spec) if spec.setup and not spec.mounts else None


def workspace_key(image_id: str, spec: EnvironmentSpec) -> str:
    """Digest of what a prepared workspace depends on: image, commands, variables, place, user, git and the content of
    the files."""
    said = [
        image_id,
        list(spec.setup),
        sorted(spec.env.items()),
        spec.workdir,
        spec.user,
        [COMMIT, sorted(COMMIT_ENV.items())] if spec.git else None,
        None if spec.files is None else tree_digest(spec.files),
    ]
    return short(hashlib.sha256(json.dumps(said).encode()).hexdigest())


def find_prepared(client: docker.DockerClient, key: str) -> str | None:
    """An image that holds the workspace of ``key``, those of bundled tasks included. Its use is noted."""
    named = [known.name for known in record().values() if known.key == key]
    for name in dict.fromkeys([f"{PREPARED}:{key}", *named]):
        with contextlib.suppress(ImageNotFound):
            client.images.get(name)
            note_use(name)
            return name
    return None


def keep_prepared(client: docker.DockerClient, container: str, key: str, run: str = "") -> str | None:
    """Make ``container``, in which nothing runs, the image of ``key``; its name, or ``None`` if it cannot be kept.

    Whoever is second with the same key gets the image of the first.
    """
    return commit(client, container, f"{PREPARED}:{key}", key, "prepared", run)


def commit(client: docker.DockerClient, container: str, name: str, key: str, how: str, run: str = "") -> str | None:
    """``container`` as the image ``name``, unless there is one; ``None`` if a volume hides what was made in it."""
    with turn(image_lock(name)):
        try:
            there = client.images.get(name)
            image_id = str(there.id)
            known = record().get(name)
            # Another home's has the same key and so the same content; it is that home's to remove.
            if (known is not None and known.id == image_id) or there.labels.get(OWNER) != paths.owner():
                return name
        except ImageNotFound:
            told = client.api.inspect_container(container)
            if any(mount.get("Type") == "volume" for mount in told.get("Mounts") or []):
                return None
            repository, _, tag = name.rpartition(":")
            client.api.commit(container, repository, tag, changes=_changes(client, told))
            image_id = str(client.images.get(name).id)
        write_down(name, image_id, how, run, key)
        return name


def _changes(client: docker.DockerClient, told: dict[str, Any]) -> list[str]:
    """Take the keeper and the lease back out of the configuration. A label can be emptied but not removed."""
    before: dict[str, Any] = client.images.get(told["Image"]).attrs["Config"]
    labels = " ".join([f'{OWNER}="{paths.owner()}"', *(f'thunderctl.{name}=""' for name in _OF_THE_LEASE)])
    return [
        f"LABEL {labels}",
        f"USER {before.get('User') or '0:0'}",
        f"WORKDIR {before.get('WorkingDir') or '/'}",
        f"ENTRYPOINT {json.dumps(before.get('Entrypoint') or [''])}",  # an empty list would leave the keeper's
        f"CMD {json.dumps(before.get('Cmd') or [])}",
    ]
