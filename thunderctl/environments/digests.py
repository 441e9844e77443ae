"""Digests of content: what a folder or a file holds, whatever its name, place or dates.

They name images, so the same content is brought once. The digest of a file is kept for as long as its inode, size and
times stay: hundreds of environments of one task read its files once.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from docker.utils.build import exclude_paths

from thunderctl.environments.files import checked_tree
from thunderctl.errors import EnvironmentFailure

LENGTH = 20
"""Hex digits of a digest in a name: 80 bits."""


def short(digest: str) -> str:
    return digest[:LENGTH]


def file_digest(file: Path) -> str:
    """SHA-256 of the content, in hex."""
    told = file.stat()
    return _content(str(file), told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns)


@lru_cache(maxsize=65_536)
def _content(file: str, inode: int, size: int, modified: int, changed: int) -> str:
    with Path(file).open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def tree_digest(folder: Path) -> str:
    """Of everything that an environment gets as its files; refuses what may not enter one."""
    return _entries(folder, (str(name) for _, name in checked_tree(folder)))


def context_files(folder: Path) -> list[str]:
    """Names of what a build of ``folder`` may see: all but what its ``.dockerignore`` says."""
    ignore = folder / ".dockerignore"
    lines = ignore.read_text(encoding="utf-8").splitlines() if ignore.is_file() else []
    patterns = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return sorted(exclude_paths(str(folder), patterns))


def context_digest(folder: Path) -> str:
    """Of everything that a build of ``folder`` may see."""
    return _entries(folder, context_files(folder))


def _entries(folder: Path, names: Iterable[str]) -> str:
    whole = hashlib.sha256()
    for name in sorted(names):
        path = folder / name
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            said = f"link {path.readlink()}"
        elif stat.S_ISDIR(mode):
            said = f"folder {stat.S_IMODE(mode):o}"
        elif stat.S_ISREG(mode):
            said = f"file {stat.S_IMODE(mode):o} {file_digest(path)}"
        else:
            raise EnvironmentFailure(
                f"{path} is neither a file, a folder nor a link and cannot become part of an image"
            )
        whole.update(f"{len(name)} {name} {len(said)} {said}\n".encode())
    return whole.hexdigest()
