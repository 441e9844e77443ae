"""Where state, runs, engines and models go: whether there is room, and whether the place is fit for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from thunderctl import launcher, paths
from thunderctl.doctor.finding import Finding, broken, fine, wanted
from thunderctl.report.tables import size
from thunderctl.workers.engine import installed_engines

ENGINE_BYTES = 4 * 2**30
"""The CPU engine takes 2.2 GiB, and as much again while it is unpacked; the CUDA engine about three times that."""
FILES_WANTED = 50_000
"""An engine environment has 30,000 files."""
IN_MEMORY = ("tmpfs", "ramfs")
REMOTE = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "ceph", "lustre", "glusterfs")


def disks() -> Iterator[Finding]:
    yield _folder("disk for state and runs", paths.home(), "THUNDERCTL_HOME", launcher.SPACE_WANTED)
    cache = _folder("disk for engines and models", paths.cache(), "THUNDERCTL_CACHE", launcher.SPACE_WANTED)
    if not cache.fix and not installed_engines() and _free(paths.cache()) < ENGINE_BYTES:
        where = _elsewhere("THUNDERCTL_CACHE", paths.cache())
        cache = wanted(cache.what, cache.found, f"installing an engine ({size(ENGINE_BYTES)} free)", where)
    yield cache


def _folder(what: str, folder: Path, variable: str, least: int) -> Finding:
    place = _existing(folder)
    mount, kind = _mount_of(place)
    free = _free(place)
    found = f"{size(free)} free at {folder}" + (f" ({kind} on {mount})" if kind else "")
    elsewhere = _elsewhere(variable, folder)
    told = os.statvfs(place)
    writable = place.is_dir() and os.access(place, os.W_OK | os.X_OK) and not told.f_flag & os.ST_RDONLY
    if not writable or not told.f_blocks:  # a file system without blocks is the kernel's own
        return broken(what, f"{place} cannot be written to", elsewhere)
    if free < least:
        rooms = "make room (`thunderctl gc` finds remains; old runs are in " + str(paths.runs()) + ")"
        return broken(what, f"{found}; {size(least)} are needed", f"{rooms}, or {elsewhere}")
    if told.f_files and told.f_favail < FILES_WANTED:
        return broken(what, f"room for {told.f_favail:,} more files only at {folder}", f"remove files, or {elsewhere}")
    if kind in IN_MEMORY:
        return wanted(what, f"{found}: in memory", "keeping anything over a restart, and memory for engines", elsewhere)
    if kind.startswith(REMOTE):
        return wanted(what, f"{found}: on a network", "safe state (SQLite wants a local disk) and speed", elsewhere)
    return fine(what, found)


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _free(folder: Path) -> int:
    return shutil.disk_usage(_existing(folder)).free


def _mount_of(place: Path) -> tuple[str, str]:
    """Mount point and kind of the file system that ``place`` is on; the later of two mounts on one point counts."""
    mounts = [p for p in psutil.disk_partitions(all=True) if place.resolve().is_relative_to(p.mountpoint)]
    if not mounts:
        return "/", ""
    longest = max(len(p.mountpoint) for p in mounts)
    last = [p for p in mounts if len(p.mountpoint) == longest][-1]
    return last.mountpoint, last.fstype


def _elsewhere(variable: str, now: Path) -> str:
    """The command that moves the folder to the disk with the most room."""
    device = _existing(now).stat().st_dev
    candidates = [Path.home(), *(Path(p.mountpoint) for p in psutil.disk_partitions(all=False))]
    fit = [
        place
        for place in candidates
        if place.is_dir()
        and os.access(place, os.W_OK)
        and place.stat().st_dev != device
        and _free(place) > ENGINE_BYTES
    ]
    best = max(fit, key=_free, default=None)
    return f"export {variable}={best / 'thunderctl' if best else 'A-FOLDER-ON-ANOTHER-DISK'}"
