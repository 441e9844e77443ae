"""The record of images that this home brought to the engine (``images.json``), and their removal.

A pulled image cannot carry a label of ours, so only what stands here under the id that it had then may ever be removed
again. Keys that this version does not know stay in the file. Everything here blocks and runs in a thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound

from thunderctl import paths
from thunderctl.environments.lease import ACTIVE
from thunderctl.environments.recipes import name_of
from thunderctl.environments.turns import nobody_has, turn
from thunderctl.errors import EnvironmentFailure
from thunderctl.node import alive, read_record

USE_RESOLUTION_S = 5.0
"""A use this soon after the last one is not written down: hundreds of environments may start from an image at once."""


@dataclass(frozen=True, slots=True)
class Brought:
    """An image that this home brought. Times are seconds since the epoch."""

    name: str
    id: str
    how: str
    """``pulled``, ``built``, ``imported`` or ``prepared``."""
    when: float
    run: str = ""
    """The run that needed it first; empty if it was brought for none."""
    last_used: float = 0.0
    key: str = ""
    """Digest of the workspace that it holds, if it was prepared."""


def record() -> dict[str, Brought]:
    """Everything in ``images.json``, by name. Files of earlier versions lack ``run`` and ``last_used``."""
    found = {}
    for name, said in brought().items():
        when = float(said.get("when") or 0)
        last = float(said.get("last_used") or when)
        words = {key: str(said.get(key) or "") for key in ("id", "how", "run", "key")}
        found[name] = Brought(name, when=when, last_used=last, **words)
    return found


def brought() -> dict[str, dict[str, Any]]:
    """The record as it stands in the file: name → ``id``, ``how``, ``when`` and what else there is."""
    try:
        found = json.loads((paths.home() / "images.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {name: said for name, said in entries if isinstance(said, dict) and "id" in said}


def write_down(name: str, image_id: str, how: str, run: str = "", key: str = "") -> None:
    """Note that this home brought ``name``."""
    now = time.time()
    with _changing() as entries:
        entries[name] = {"id": image_id, "how": how, "when": now, "run": run, "last_used": now, "key": key}


def note_use(name: str) -> None:
    """An environment starts from ``name``. An image that is not in the record is left out of it."""
    now = time.time()
    known = record().get(name)
    if known is None or abs(now - known.last_used) < USE_RESOLUTION_S:
        return
    with _changing() as entries:
        if name in entries:
            entries[name]["last_used"] = now


def forget(name: str, image_id: str) -> None:
    """Take ``name`` out of the record, unless it was brought again since."""
    with _changing() as entries:
        if entries.get(name, {}).get("id") == image_id:
            del entries[name]


@contextlib.contextmanager
def _changing() -> Iterator[dict[str, dict[str, Any]]]:
    file = paths.home() / "images.json"
    with turn("images.json"):
        with contextlib.suppress(FileNotFoundError):
            try:
                json.loads(file.read_text())
            except ValueError:  # not ours to throw away: it says what may be removed
                file.replace(file.with_name(f"images.json.broken-{time.time():.0f}"))
        entries = brought()
        yield entries
        fresh = file.with_name(f"images.json.{os.getpid()}")
        fresh.write_text(json.dumps(entries, indent=1) + "\n")
        fresh.replace(file)


def image_lock(name: str) -> str:
    """The name of the turn that brings or removes the image ``name``; see :mod:`turns`.

    Hold it (``turns.held``) from the moment the image is known to be there until a container stands on it.
    """
    return f"image {name}"


def images_in_use(client: docker.DockerClient, besides: Collection[str] = ()) -> dict[str, str]:
    """Images of the record that may not go now → who needs them: a lease, or any container, ours or not.

    ``besides``: ids of containers that are about to go.
    """
    users: dict[str, str] = {}
    by_id: dict[str, str] = {}
    for container in client.api.containers(all=True):
        if container["Id"] in besides:
            continue
        by_id.setdefault(
            container["ImageID"], f"container {(container['Names'] or [container['Id'][:12]])[0].lstrip('/')}"
        )
    leased = _leased()
    for name, known in record().items():
        user = by_id.get(known.id) or leased.get(name)
        if user is not None:
            users[name] = user
    return users


def _leased() -> dict[str, str]:
    """Images that active leases name, save those of nodes that are verifiably dead."""
    found: dict[str, str] = {}
    for file in sorted(paths.nodes().glob("*/state.db")):
        node = read_record(file.parent)
        if node is not None and not alive(node):
            continue
        rows = []
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db,
        ):
            rows = db.execute("SELECT image, id, state FROM leases WHERE image IS NOT NULL").fetchall()
        for image, lease, state in rows:
            with contextlib.suppress(EnvironmentFailure, OSError):  # a folder that is gone names nothing
                if state in ACTIVE:
                    found[name_of(image)] = f"lease {lease}"
    return found


@dataclass(frozen=True, slots=True)
class Removal:
    """What became of images that were to go: each name is in one of the two."""

    removed: list[str]
    kept: dict[str, str]
    """Name → why it stayed."""


def remove_images(client: docker.DockerClient, names: Iterable[str]) -> Removal:
    """Remove images of the record, each after a second look. What somebody needs by now stays, and so does what the
    engine will not let go (it knows users that we do not)."""
    done = Removal([], {})
    for name in names:
        lock = nobody_has(image_lock(name))
        if lock is None:
            done.kept[name] = "an environment is just being made from it"
            continue
        with lock:
            reason = _remove(client, name)
        if reason is None:
            done.removed.append(name)
        else:
            done.kept[name] = reason
    return done


def _remove(client: docker.DockerClient, name: str) -> str | None:
    """Why it stays; ``None`` if it is gone."""
    known = record().get(name)
    if known is None:
        return "not brought by this home"
    try:
        if client.images.get(name).id != known.id:
            forget(name, known.id)
            return "somebody else put another image under this name"
        user = images_in_use(client).get(name)
        if user is not None:
            return f"used by {user}"
        client.api.remove_image(name)
    except ImageNotFound:
        pass  # somebody was faster
    except APIError as error:
        if error.status_code != 409:
            raise
        return f"the engine keeps it: {error.explanation}"
    forget(name, known.id)
    return None
