"""Images: found, pulled or built, each at most once however many environments ask for it.

What was brought here is written down in ``images.json`` of the home folder, since a pulled image cannot carry a label
of ours; only what stands there may ever be removed again. Everything in this file blocks and runs in a thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, BuildError, DockerException, ImageNotFound

from thunderctl import paths
from thunderctl.environments.backend import Progress
from thunderctl.errors import EnvironmentFailure

BASE = "thunderctl/base:1"
"""The image of a workload that names none: Debian, Python 3.11 (also as ``python``) and git."""

REGISTRY_BASE = "python:3.11-slim-bookworm"
_DOCKERFILE = f"""
FROM {REGISTRY_BASE}
RUN apt-get update && apt-get install -y --no-install-recommends git ca-certificates && rm -rf /var/lib/apt/lists/*
"""
_DEBOOTSTRAP = ("debootstrap", "--variant=minbase", "--include=git,python3,ca-certificates", "bookworm")


class Images:
    """The images that environments start from."""

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def ensure(self, name: str, progress: Progress = lambda line: None) -> None:
        """Return once ``name`` is on this engine; ``EnvironmentFailure`` says why it cannot be."""
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if self.present(name):
                return
            with _one_process_at_a_time():
                if self.present(name):
                    return
                how = self._bring_base(progress) if name == BASE else self._pull(name, progress)
                self._write_down(name, how)

    def present(self, name: str) -> bool:
        try:
            self._client.images.get(name)
        except ImageNotFound:
            return False
        return True

    def _pull(self, name: str, progress: Progress) -> str:
        progress(f"pulling {name}")
        try:
            self._client.images.pull(name)
        except DockerException as error:
            raise EnvironmentFailure(
                f"the image {name} is not on this engine and could not be pulled: {_reason(error)}",
                hint=f"check the name and the network, or bring it yourself: docker load / docker pull {name}",
            ) from error
        return "pulled"

    def _bring_base(self, progress: Progress) -> str:
        try:
            progress(f"building {BASE} on {REGISTRY_BASE}")
            self._client.images.pull(REGISTRY_BASE)
            self._client.images.build(
                fileobj=io.BytesIO(_DOCKERFILE.encode()), tag=BASE, rm=True, labels={"thunderctl.owner": paths.owner()}
            )
            return "built"
        except (DockerException, BuildError) as error:
            no_registry = _reason(error)
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            raise EnvironmentFailure(
                f"the base image {BASE} is missing and no registry answers: {no_registry}",
                hint="connect to a registry once, install debootstrap and run as root, or `docker load` an image "
                f"with bash, git, python3 and coreutils and tag it {BASE}",
            )
        progress(f"no registry answers; making {BASE} with debootstrap (about a minute)")
        self._debootstrap()
        return "imported"

    def _debootstrap(self) -> None:
        with tempfile.TemporaryDirectory(prefix="thunderctl-base-") as work:
            root = Path(work) / "root"
            made = subprocess.run([*_DEBOOTSTRAP, str(root)], capture_output=True, text=True, check=False)
            if made.returncode:
                raise EnvironmentFailure(
                    f"debootstrap ended with {made.returncode}",
                    hint="it needs a Debian mirror that answers",
                    details=(made.stdout + made.stderr).splitlines()[-5:],
                )
            (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
            tar = ["tar", "-C", str(root), "--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*", "-c", "."]
            with subprocess.Popen(tar, stdout=subprocess.PIPE) as packing:
                repository, tag = BASE.split(":")
                answer = self._client.api.import_image_from_stream(
                    packing.stdout,
                    repository=repository,
                    tag=tag,
                    changes=[f"LABEL thunderctl.owner={paths.owner()}", "ENV LANG=C.UTF-8"],
                )
            if packing.returncode or '"error"' in str(answer):
                raise EnvironmentFailure(f"the base image could not be imported: {answer}")

    def _write_down(self, name: str, how: str) -> None:
        record = brought()
        record[name] = {"id": self._client.images.get(name).id, "how": how, "when": time.time()}
        file = paths.home() / "images.json"
        fresh = file.with_name(f"images.json.{os.getpid()}")
        fresh.write_text(json.dumps(record, indent=1) + "\n")
        fresh.replace(file)


def brought() -> dict[str, dict[str, Any]]:
    """Images that this home brought to the engine: name → ``id``, ``how`` (pulled, built, imported), ``when``."""
    try:
        found: dict[str, dict[str, Any]] = json.loads((paths.home() / "images.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found


@contextlib.contextmanager
def _one_process_at_a_time() -> Iterator[None]:
    lock = paths.home() / "images.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _reason(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error) if isinstance(error, APIError) else str(error)
