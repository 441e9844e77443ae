"""Files on their way into an environment: which are let in, and in what form they travel.

Rule: nothing that is copied in may point out of the folder it came from, and no name that a client gives may lead
out of the working directory. Both are refused with the offending name, never repaired.
"""

from __future__ import annotations

import io
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from thunderctl.errors import EnvironmentFailure

SPOOL_BYTES = 16 * 1024 * 1024
"""An archive stays in memory up to this size and goes to a temporary file beyond it."""


def inside(name: str) -> PurePosixPath:
    """``name`` as a path below the working directory; ``EnvironmentFailure`` if it leads anywhere else."""
    path = PurePosixPath(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts or path == PurePosixPath("."):
        raise EnvironmentFailure(
            f"the path {name!r} does not stay inside the working directory",
            hint="give a relative path without '..'",
        )
    return path


def checked_tree(folder: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    """Everything below ``folder``, parents first and sorted, as ``(file, relative name)``.

    Refuses links that leave the folder and anything that is not a file, a folder or a link.
    """
    if not folder.is_dir():
        raise EnvironmentFailure(f"the folder {folder} of the environment's files does not exist")
    root = folder.resolve()
    pending = [folder]
    while pending:
        here = pending.pop()
        for entry in sorted(here.iterdir()):
            relative = PurePosixPath(entry.relative_to(folder).as_posix())
            mode = entry.lstat().st_mode
            if stat.S_ISLNK(mode):
                _refuse_leaving(entry, root)
            elif stat.S_ISDIR(mode):
                pending.append(entry)
            elif not stat.S_ISREG(mode):
                raise EnvironmentFailure(
                    f"{entry} is neither a file, a folder nor a link and cannot be copied into an environment"
                )
            yield entry, relative


def _refuse_leaving(link: Path, root: Path) -> None:
    target = link.readlink()
    # An absolute target points elsewhere once copied, even if it lies inside the folder now.
    if target.is_absolute() or not link.resolve().is_relative_to(root):
        raise EnvironmentFailure(
            f"the link {link} leads out of {root} (to {target})",
            hint="make it a relative link to something inside, or a copy",
        )


def tree_archive(folder: Path | None, workdir: str, uid: int, gid: int) -> IO[bytes]:
    """A tar of ``folder`` to be unpacked at ``/``: its content is ``workdir``, owned by ``uid:gid``."""
    top = workdir.strip("/")
    spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115 (handed to the caller)
    with tarfile.open(fileobj=spool, mode="w") as archive:
        archive.addfile(_folder_entry(top, uid, gid))
        for file, relative in checked_tree(folder) if folder is not None else ():
            entry = archive.gettarinfo(str(file), arcname=f"{top}/{relative}")
            entry.uid, entry.gid, entry.uname, entry.gname = uid, gid, "", ""
            if entry.isreg():
                with file.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)
    spool.seek(0)
    return spool


def contents_archive(contents: Mapping[str, bytes], uid: int, gid: int) -> IO[bytes]:
    """A tar of ``contents`` to be unpacked at the working directory, folders on the way included.

    Their entries matter: the engine replaces by a true folder whatever link a command left at such a place.
    """
    spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115 (handed to the caller)
    made: set[PurePosixPath] = set()
    with tarfile.open(fileobj=spool, mode="w") as archive:
        for name, data in contents.items():
            path = inside(name)
            for parent in reversed(path.parents[:-1]):
                if parent not in made:
                    made.add(parent)
                    archive.addfile(_folder_entry(str(parent), uid, gid))
            entry = tarfile.TarInfo(str(path))
            entry.size, entry.mode, entry.uid, entry.gid = len(data), 0o644, uid, gid
            archive.addfile(entry, io.BytesIO(data))
    spool.seek(0)
    return spool


def _folder_entry(name: str, uid: int, gid: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, 0o755, uid, gid
    return entry
