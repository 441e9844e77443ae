"""Which weights are in force and what is being done about them, as ``state.db`` keeps it. Data only."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from thunderctl.daemon.gate import Mode


class Standing(msgspec.Struct, frozen=True):
    """The weights of one node's workers."""

    version: int = 0
    source: str | None = None
    """Where the version in force can be loaded from; ``None`` if a trainer transferred it by itself."""
    mark: str = ""
    """What ``source`` looked like: a trainer may write the next version into the same folder."""
    under_way: Literal["load", "transfer"] | None = None
    """``load``: workers are being given ``target_source``; ``transfer``: a trainer gives them something by itself."""
    target: int = 0
    target_source: str | None = None
    target_mark: str = ""
    mode: Mode = "finish"
    """Of the change that is under way, or was the last."""
    deadline: float = 0.0
    """``transfer``: when it counts as given up, in seconds since the epoch."""
    with_trainer: frozenset[str] = frozenset()
    """``transfer``: the workers that the trainer was told of."""
    out: dict[str, str] = {}
    """Workers that run, but whose weights are not those in force → why."""

    def in_force(self) -> Standing:
        """The same, without what was under way."""
        return Standing(self.version, self.source, self.mark, mode=self.mode)

    def loading(self, version: int, source: str, mark: str, mode: Mode) -> Standing:
        """Workers are about to be given ``source``."""
        return msgspec.structs.replace(
            self, under_way="load", target=version, target_source=source, target_mark=mark, mode=mode
        )

    def loaded(self) -> Standing:
        """What is in force once the load that is under way is done."""
        return Standing(self.target, self.target_source, self.target_mark, mode=self.mode)

    def transferring(self, mode: Mode, deadline: float, workers: frozenset[str]) -> Standing:
        """A trainer is about to give ``workers`` something."""
        return msgspec.structs.replace(self, under_way="transfer", mode=mode, deadline=deadline, with_trainer=workers)

    def is_already(self, version: int | None, source: str | None) -> bool:
        """Whether nothing is left to be done for ``version``: its caller did not hear of it the first time."""
        same = self.version == version and self.source == source
        return same and self.under_way is None and mark_of(source) == self.mark

    def why_lost(self) -> str | None:
        """Why the version in force cannot be loaded from files; ``None`` if it can."""
        if self.source is None:
            return f"version {self.version} was transferred: no files have it"
        if mark_of(self.source) != self.mark:
            return f"version {self.version} is lost: {self.source} has changed since"
        return None


def mark_of(source: str | None) -> str:
    """What tells the weights in a folder from others that take their place: names, sizes and times of its files.

    Empty for what is no folder.
    """
    folder = Path(source) if source is not None else None
    if folder is None or not folder.is_dir():
        return ""
    told = []
    for file in sorted(folder.glob("*.safetensors")):
        with contextlib.suppress(OSError):  # it went just now, or is a link to nothing
            stat = file.stat()
            told.append((file.name, stat.st_size, stat.st_mtime_ns))
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]
