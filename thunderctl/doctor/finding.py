"""One thing that was looked at: what was found, whether it will do, and what to type if not."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path


class State(StrEnum):
    ok = "ok"
    wanted = "wanted"
    """Something can be done without it, something not: ``needed_for`` says what."""
    broken = "broken"
    """Nothing can be done without it, or nothing of what was asked about."""


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    found: str
    state: State
    needed_for: str = ""
    fix: str = ""
    """What to do; a command where there is one. Empty if nothing is to be done."""

    def if_needed(self, needed: bool, by: str) -> Finding:
        """What is missing is broken for whoever needs it."""
        if not needed or self.state is State.ok:
            return self
        return replace(self, state=State.broken, needed_for=by)


def fine(what: str, found: str) -> Finding:
    return Finding(what, found, State.ok)


def wanted(what: str, found: str, needed_for: str, fix: str) -> Finding:
    return Finding(what, found, State.wanted, needed_for, fix)


def broken(what: str, found: str, fix: str) -> Finding:
    return Finding(what, found, State.broken, "anything at all", fix)


_INSTALLERS = (
    ("apt-get", "sudo apt-get install -y"),
    ("dnf", "sudo dnf install -y"),
    ("pacman", "sudo pacman -S"),
    ("zypper", "sudo zypper install"),
    ("apk", "sudo apk add"),
)


def install(package: str, **other_names: str) -> str:
    """The command that installs ``package`` here; ``other_names``: its name by installer, ``-`` written ``_``."""
    for program, line in _INSTALLERS:
        if shutil.which(program):
            return f"{line} {other_names.get(program.replace('-', '_'), package)}"
    return f"install {package}"


def runs_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def start_service(name: str, by_hand: str) -> str:
    """The command that starts a service here."""
    if runs_systemd():
        return f"sudo systemctl start {name}"
    if (Path("/etc/init.d") / name).exists():
        return f"sudo service {name} start"
    return by_hand


def read_number(path: str) -> int | None:
    """A number that the kernel tells in a file; ``None`` if it does not, or says ``max``."""
    try:
        return int(Path(path).read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
