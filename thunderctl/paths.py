"""Where things live on disk, and nothing else.

``THUNDERCTL_HOME`` (state and runs) and ``THUNDERCTL_CACHE`` (engines and models) move the two roots; without them
the XDG base directories are used. Names that become folders pass through :func:`safe_name` first.
"""

from __future__ import annotations

import os
import re
import uuid
from importlib import resources
from pathlib import Path

from thunderctl.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


def safe_name(name: str, what: str) -> str:
    """``name`` if it can be a folder of its own and nothing more; else ``UsageError`` naming ``what``."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise UsageError(
            f"{what} {name!r} cannot be used as a name",
            hint="use letters, digits, '.', '_', '+' and '-', starting with a letter or digit, without '..'",
        )
    return name


def home() -> Path:
    """Root of everything that must survive a restart: nodes, leases, runs."""
    explicit = os.environ.get("THUNDERCTL_HOME")
    if explicit:
        return Path(explicit).expanduser().absolute()
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser().absolute() / "thunderctl"


def cache() -> Path:
    """Root of what can be made again: engine environments, generated models."""
    explicit = os.environ.get("THUNDERCTL_CACHE")
    if explicit:
        return Path(explicit).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "thunderctl"


def nodes() -> Path:
    return home() / "nodes"


def runs() -> Path:
    return home() / "runs"


def engines() -> Path:
    return cache() / "engines"


def models() -> Path:
    return cache() / "models"


def owner() -> str:
    """The identity that every container of this home carries as its label; made once, then kept."""
    file = home() / "owner"
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        pass
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f"owner.{os.getpid()}")
    fresh.write_text(uuid.uuid4().hex[:16] + "\n")
    try:
        os.link(fresh, file)  # fails if another process was first: then its identity is ours too
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    return file.read_text().strip()


def _bundled(kind: str) -> Path:
    """The data folder ``kind``: in the wheel, or at the top of a checkout."""
    packaged = Path(str(resources.files("thunderctl"))) / "_data" / kind
    return packaged if packaged.is_dir() else Path(__file__).resolve().parent.parent / kind


def bundled_profiles() -> Path:
    return _bundled("profiles")


def bundled_workloads() -> Path:
    return _bundled("workloads")
