"""Reading and writing below a folder while commands change it: step by step through descriptors, never through links.

A path that is checked first and opened afterwards may lead elsewhere by then; here every step is opened where the
last one stands, so whatever is moved or linked meanwhile, nothing outside of the folder is reached.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from thunderctl.environments.files import inside
from thunderctl.errors import EnvironmentFailure

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without waiting: a pipe that nobody writes to must not hold a thread.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files, all or none if a name is refused. A link in the way is replaced by a folder or by the file."""
    for name, path in {name: inside(name) for name in contents}.items():
        with _parent(folder, path, make=True) as parent:
            try:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path.name, dir_fd=parent)
                with open(os.open(path.name, _NEW, 0o666, dir_fd=parent), "wb") as file:  # noqa: PTH123
                    file.write(contents[name])
            except IsADirectoryError:
                raise EnvironmentFailure(f"{name} is a folder in the environment and cannot become a file") from None
            except OSError as error:
                raise EnvironmentFailure(f"{name} cannot be written in the environment: {error.strerror}") from error


def read(folder: Path, name: str, max_bytes: int) -> bytes:
    """The content of a file of at most ``max_bytes``."""
    path = inside(name)
    try:
        with (
            _parent(folder, path, make=False) as parent,
            open(os.open(path.name, _FILE, dir_fd=parent), "rb") as file,  # noqa: PTH123
        ):
            told = os.fstat(file.fileno())
            if not stat.S_ISREG(told.st_mode):
                raise EnvironmentFailure(f"{name} is not a file (links are not followed)")
            content = file.read(max_bytes + 1) if told.st_size <= max_bytes else b""
    except FileNotFoundError:
        raise EnvironmentFailure(f"there is no file {name} in the environment") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO):
            raise EnvironmentFailure(f"{name} is not a file (links are not followed)") from None
        raise EnvironmentFailure(f"{name} cannot be read in the environment: {error.strerror}") from error
    size = max(told.st_size, len(content))
    if size > max_bytes:
        raise EnvironmentFailure(f"the file {name} has {size} bytes, more than {max_bytes}")
    return content


@contextlib.contextmanager
def _parent(folder: Path, path: PurePosixPath, *, make: bool) -> Iterator[int]:
    """A descriptor of the folder that ``path`` is in; with ``make`` the folders on the way are made."""
    here = os.open(folder, _FOLDER)
    try:
        for part in path.parts[:-1]:
            further = _step(here, part, path) if make else os.open(part, _FOLDER, dir_fd=here)
            os.close(here)
            here = further
        yield here
    finally:
        os.close(here)


def _step(here: int, part: str, path: PurePosixPath) -> int:
    for _ in range(10):  # a command may put a link there again and again; it gains nothing but this refusal
        try:
            return os.open(part, _FOLDER, dir_fd=here)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=here)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise EnvironmentFailure(f"{path} cannot be written in the environment: {error.strerror}") from error
            with contextlib.suppress(OSError):
                if not stat.S_ISLNK(os.stat(part, dir_fd=here, follow_symlinks=False).st_mode):
                    break
                os.unlink(part, dir_fd=here)
    raise EnvironmentFailure(f"{path} cannot be written in the environment: {part} is not a folder")
