"""Runs pip in an engine environment and turns what it does into lines for a person.

Which index, proxy or certificate pip uses is its own configuration's business. pip says nothing for a minute while
it unpacks; the packages that have arrived in the environment are counted meanwhile.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from thunderctl.errors import EngineError

_QUIET_S = 2.0
"""Longest time without a sign of life."""
_KEPT_LINES = 200
_TOLD_LINES = 8

# A user's habits that would send packages somewhere else than into the environment.
_MISLEADING = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_HASHES", "PYTHONPATH", "PYTHONHOME")

_COLLECTING = re.compile(r"^Collecting (\S+)")
_DOWNLOADING = re.compile(r"^\s*Downloading (\S+?)(?:-\d\S*)? (\([\d.]+ [kMG]B\))")
_BUILDING = re.compile(r"^\s*Building wheel for (\S+)")


class Pip:
    """pip of the environment ``folder``, whose ``lock`` it inherits; ``progress`` receives one short line at a time."""

    def __init__(self, folder: Path, lock: int, progress: Callable[[str], None]) -> None:
        self._folder = folder
        self._lock = lock
        self._progress = progress

    def install(self, *arguments: str, total: int | None = None) -> None:
        """``pip install`` these; ``total`` is how many packages that makes, if it is known.

        Raises:
            EngineError: pip failed; its last lines are in the details.
        """
        self._run("install", ["--no-compile", "--prefer-binary", "--progress-bar", "off", *arguments], total)

    def uninstall(self, *names: str) -> None:
        """Remove packages; one that is not there is no error."""
        self._run("uninstall", ["--yes", *names], None)

    def _run(self, verb: str, arguments: list[str], total: int | None) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
        environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [str(self._folder / "bin" / "python"), "-m", "pip", verb, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
            pass_fds=(self._lock,),
        )
        lines: queue.Queue[str | None] = queue.Queue()
        reader = threading.Thread(target=_pump, args=(process, lines), daemon=True)
        reader.start()
        try:
            kept = self._follow(lines, total)
            code = process.wait()
        finally:
            # On an interrupt: pip and what it started (compilers) go, before the folder does.
            with suppress(ProcessLookupError):
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code:
            raise _failure(verb, code, kept, self._folder)

    def _follow(self, lines: queue.Queue[str | None], total: int | None) -> list[str]:
        """Tell what pip does until it ends; its last lines."""
        began = time.monotonic()
        kept: deque[str] = deque(maxlen=_KEPT_LINES)
        doing = "starting pip"
        collected = 0
        order: list[str] = []
        at_start = self._arrived()
        while True:
            try:
                line = lines.get(timeout=_QUIET_S)
            except queue.Empty:
                if order:
                    doing = self._installing(order, at_start)
                self._progress(f"{doing} ({time.monotonic() - began:.0f} s)")
                continue
            if line is None:
                return list(kept)
            kept.append(line)
            if match := _COLLECTING.match(line):
                collected += 1
                doing = f"collecting {collected}{f' of {total}' if total else ''}: {match[1]}"
                self._progress(doing)
            elif match := _DOWNLOADING.match(line):
                name = match[1].rsplit("/", 1)[-1]
                doing = f"downloading {collected}{f' of {total}' if total else ''}: {name} {match[2]}"
                self._progress(doing)
            elif match := _BUILDING.match(line):
                doing = f"building {match[1]}"
                self._progress(doing)
            elif line.startswith("Installing collected packages: "):
                order = line.partition(": ")[2].split(", ")
                doing = self._installing(order, at_start)
                self._progress(doing)

    def _installing(self, order: list[str], at_start: int) -> str:
        """Which package pip unpacks now: it told the order beforehand, and those that are done can be counted."""
        done = min(max(self._arrived() - at_start, 0), len(order) - 1)
        return f"installing {done + 1} of {len(order)}: {order[done]}"

    def _arrived(self) -> int:
        return sum(1 for _ in self._folder.glob("lib/python*/site-packages/*.dist-info"))


def _pump(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None  # noqa: S101 (we asked for a pipe)
    with process.stdout:
        for line in process.stdout:
            lines.put(line.rstrip())
    lines.put(None)


def _failure(verb: str, code: int, kept: list[str], folder: Path) -> EngineError:
    text = "\n".join(kept)
    telling = [line for line in kept if line.startswith("ERROR")] or [line for line in kept if line.strip()]
    details = [line if len(line) < 400 else f"{line[:400]} …" for line in telling[-_TOLD_LINES:]]
    missing = re.search(r"No matching distribution found for (\S+)", text)
    if "No space left on device" in text or "Disk quota exceeded" in text:
        free = shutil.disk_usage(folder.parent).free / 2**30
        hint = f"{free:.1f} GiB are free in {folder.parent}, and an engine needs several; THUNDERCTL_CACHE moves it"
    elif missing and "+cpu" in missing[1]:
        hint = (
            "PyTorch publishes its CPU builds on a package index of its own: add that index to pip's configuration "
            "(`pip config set global.extra-index-url …`), or set engine.python to an interpreter that has vLLM"
        )
    elif missing:
        hint = (
            f"no package index in pip's configuration offers {missing[1]} for this machine and Python; "
            "check `pip config list`, or set engine.python to an interpreter that has vLLM"
        )
    else:
        hint = "the same again may help if the network failed; or set engine.python to an interpreter that has vLLM"
    return EngineError(f"pip {verb} failed (exit code {code}) for {folder.name}", hint=hint, details=details)
