"""How images are made: bundled bases, folders with a Dockerfile, tars of a root file system.

Each takes content that has a name already (its digest is in the tag) and puts one image under it. A base comes from a
registry where one answers and from a Debian mirror (debootstrap) where none does.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.utils.build import create_archive

from thunderctl import paths
from thunderctl.environments import packages
from thunderctl.environments.backend import Progress
from thunderctl.environments.digests import context_digest, context_files, file_digest, short
from thunderctl.environments.turns import pause
from thunderctl.errors import EnvironmentFailure

OWNER = "thunderctl.owner"
OWN = "thunderctl/"
"""Names below this are made here and never pulled: whoever had them at a registry could put anything under them."""


@dataclass(frozen=True, slots=True)
class Base:
    """A bundled base image: where it comes from with a registry, and what it consists of without one."""

    tag: str
    start: str
    """Image of a registry that it is built on …"""
    apt: tuple[str, ...]
    """… with these packages. Names of Debian packages that it has without a registry:"""
    debootstrap: tuple[str, ...]
    suite: str = "bookworm"

    @property
    def dockerfile(self) -> str:
        return (
            f"FROM {self.start}\nRUN apt-get update && apt-get install -y --no-install-recommends {' '.join(self.apt)} "
            "&& rm -rf /var/lib/apt/lists/*\n"
        )


BASES = {
    "default": Base(
        "thunderctl/base:1",
        "python:3.11-slim-bookworm",
        ("git", "ca-certificates"),
        ("git", "python3", "ca-certificates"),
    ),
}
"""``base:NAME``. Each has bash, coreutils, git and Python (also as ``python``)."""


def base_of(name: str) -> Base | None:
    return next((base for base in BASES.values() if base.tag == name), None)


def name_of(source: str) -> str:
    """The name of the image that a spec means by ``source``. ``EnvironmentFailure`` if it cannot be used.

    Content decides: a folder that changes has another name.
    """
    kind, _, rest = source.partition(":")
    if kind == "build":
        return f"{OWN}build:{short(context_digest(build_folder(rest)))}"
    if kind == "import":
        return f"{OWN}import:{short(file_digest(import_file(rest)))}"
    if kind == "base":
        if rest in packages.SETS:
            return packages.SETS[rest].tag
        if rest not in BASES:
            there = ", ".join(f"base:{name}" for name in (*BASES, *packages.SETS))
            raise EnvironmentFailure(f"there is no bundled base image {rest!r}", hint=f"there are: {there}")
        return BASES[rest].tag
    if not source:
        raise EnvironmentFailure("the name of the image is empty", hint=f"leave it out for {BASES['default'].tag}")
    return source


def build_base(client: docker.DockerClient, base: Base, progress: Progress, stop: threading.Event) -> None:
    """On an image of a registry that is on the engine already."""
    progress(f"building {base.tag} on {base.start}")
    file = io.BytesIO(base.dockerfile.encode())
    _build(client, base.tag, progress, stop, fileobj=file)


def build_with_packages(
    client: docker.DockerClient, kit: packages.PackageSet, progress: Progress, stop: threading.Event
) -> None:
    """The bundled base, which is on the engine already, with Python packages that the cache has or pip brings."""
    packages.ensure_packages(kit, packages.BASE_PYTHON, progress)
    folder = packages.folder_of(kit, packages.BASE_PYTHON)
    progress(f"building {kit.tag} on {BASES['default'].tag}")
    with tempfile.TemporaryFile() as context:
        text = packages.dockerfile(kit, BASES["default"].tag).encode()
        with tarfile.open(fileobj=context, mode="w") as tar:
            entry = tarfile.TarInfo("Dockerfile")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
            tar.add(folder / "site", "site")
        context.seek(0)
        _build(client, kit.tag, progress, stop, fileobj=context, custom_context=True)


def debootstrap_base(client: docker.DockerClient, base: Base, no_registry: str, stop: threading.Event) -> None:
    """Without a registry, from a Debian mirror: about a minute on two cores, 390 MB."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise EnvironmentFailure(
            f"the base image {base.tag} is missing and no registry answers: {no_registry}",
            hint="connect to a registry once, install debootstrap and run as root, or `docker load` an image "
            f"with bash, git, python3 and coreutils and tag it {base.tag}",
        )
    with tempfile.TemporaryDirectory(prefix="thunderctl-base-") as work:
        root = Path(work) / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(base.debootstrap)}", base.suite, str(root)]
        with (Path(work) / "log").open("w+") as log:
            making = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            _wait(making, stop)
            if making.returncode:
                log.seek(0)
                raise EnvironmentFailure(
                    f"debootstrap ended with {making.returncode}",
                    hint="it needs a Debian mirror that answers",
                    details=log.read().splitlines()[-5:],
                )
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        tar = ["tar", "-C", str(root), "--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*", "-c", "."]
        with subprocess.Popen(tar, stdout=subprocess.PIPE) as packing:
            assert packing.stdout is not None  # noqa: S101
            answer = client.api.import_image_from_stream(packing.stdout, **_as(base.tag, "ENV LANG=C.UTF-8"))
            _taken(answer, "the base image")
        if packing.returncode:
            client.api.remove_image(base.tag)
            raise EnvironmentFailure(f"tar ended with {packing.returncode} over the base image")


def _wait(process: subprocess.Popen[bytes], stop: threading.Event) -> None:
    try:
        while process.poll() is None:
            pause(0.2, stop)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)  # debootstrap unmounts what it mounted
            process.wait()


_FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?\s*$", re.IGNORECASE | re.MULTILINE)


def build_folder(source: str) -> Path:
    """The folder of ``build:FOLDER``; ``EnvironmentFailure`` unless there is a Dockerfile in it."""
    folder = Path(source).expanduser().absolute()
    if not source or not folder.is_dir():
        raise EnvironmentFailure(
            f"build:{source} names no folder: {folder} does not exist",
            hint="write build: and a folder with a Dockerfile",
        )
    if not (folder / "Dockerfile").is_file():
        raise EnvironmentFailure(
            f"there is no Dockerfile in {folder} (build:{source})", hint="an image is built from FOLDER/Dockerfile"
        )
    return folder


def images_below(folder: Path) -> list[str]:
    """Images that the Dockerfile of ``folder`` starts from; what only a build can tell (variables) is left to it."""
    stages: set[str] = {"scratch"}
    found = []
    for image, stage in _FROM.findall((folder / "Dockerfile").read_text(encoding="utf-8")):
        if "$" not in image and image.lower() not in stages:
            found.append(image)
        stages.add(stage.lower())
    return found


def build(client: docker.DockerClient, folder: Path, name: str, progress: Progress, stop: threading.Event) -> None:
    """Build ``folder`` as ``name``, which is what its content was when it was looked at."""
    progress(f"building {name} from {folder}")
    with tempfile.TemporaryFile() as context:
        create_archive(str(folder), files=context_files(folder), fileobj=context)
        if name_of(f"build:{folder}") != name:
            raise EnvironmentFailure(f"{folder} changed while it was read", hint="try again once it is at rest")
        _build(client, name, progress, stop, fileobj=context, custom_context=True)


def _build(client: docker.DockerClient, name: str, progress: Progress, stop: threading.Event, **what: Any) -> None:
    said: list[str] = []
    lines = client.api.build(tag=name, rm=True, forcerm=True, decode=True, labels={OWNER: paths.owner()}, **what)
    for line in lines:
        pause(0, stop)
        if "error" in line:
            raise EnvironmentFailure(f"{name} could not be built: {line['error']}", details=said[-10:])
        text = str(line.get("stream", "")).strip()
        said += text.splitlines()
        step = re.match(r"Step (\d+)/(\d+) : ", text)
        if step:
            progress(f"building {name}: step {step[1]} of {step[2]}")


def import_file(source: str) -> Path:
    """The file of ``import:FILE``; ``EnvironmentFailure`` unless it is a tar."""
    file = Path(source).expanduser().absolute()
    if not source or not file.is_file():
        raise EnvironmentFailure(
            f"import:{source} names no file: {file} does not exist",
            hint="write import: and a tar of a root file system",
        )
    if not tarfile.is_tarfile(file):
        raise EnvironmentFailure(
            f"{file} is no tar archive (import:{source})", hint="`tar -C ROOT -cf FILE .` makes one"
        )
    return file


def import_tar(client: docker.DockerClient, file: Path, name: str, progress: Progress) -> None:
    progress(f"importing {name} from {file}")
    _taken(client.api.import_image_from_file(str(file), **_as(name)), str(file))


def _as(name: str, *changes: str) -> dict[str, Any]:
    repository, _, tag = name.rpartition(":")
    return {"repository": repository, "tag": tag, "changes": [f"LABEL {OWNER}={paths.owner()}", *changes]}


def _taken(answer: object, what: str) -> None:
    if '"error"' in str(answer):
        raise EnvironmentFailure(f"{what} could not be imported: {answer}")
