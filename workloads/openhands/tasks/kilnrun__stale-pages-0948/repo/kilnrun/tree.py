"""The folder in which files are made."""

import hashlib
from pathlib import Path

from .errors import BuildError


class Tree:
    """Files below a folder, by name."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def _path(self, name):
        path = self.folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise BuildError("%s is outside of the folder" % name)
        return path

    def exists(self, name):
        return self._path(name).is_file()

    def read(self, name):
        return self._path(name).read_text(encoding="utf-8")

    def write(self, name, text):
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def digest(self, name):
        """Of a file's contents; ``None`` if there is no such file."""
        if not self.exists(name):
            return None
        return hashlib.sha256(self._path(name).read_bytes()).hexdigest()[:24]

    def time(self, name):
        """When a file was changed last, in seconds; 0 if there is none."""
        return self._path(name).stat().st_mtime if self.exists(name) else 0.0
