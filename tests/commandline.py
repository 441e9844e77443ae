"""The real ``thunderctl`` in a process and a home of its own, and a look at what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PYTHON = os.environ.get("THUNDERCTL_TEST_ENGINE_PYTHON")
ENGINE = ["-c", f"engine.python={PYTHON}"] if PYTHON else []
"""Options of a command that starts a real engine."""
LOCAL = [*ENGINE, "-c", "environments.backend=local"]
"""The same, with tools in local folders."""


@dataclass(frozen=True)
class CommandLine:
    """Runs commands with ``THUNDERCTL_HOME`` at ``home``; engines and models stay in the usual cache."""

    home: Path

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "THUNDERCTL_HOME": str(self.home), "COLUMNS": "160"}

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start a command and return at once."""
        return subprocess.Popen(
            [sys.executable, "-m", "thunderctl.cli.main", *args],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *args: str, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.start(*args)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"thunderctl {' '.join(args)} did not end\n{out}\n{err}") from None
        return subprocess.CompletedProcess(list(args), process.returncode, out, err)

    def json(self, *args: str, code: int = 0) -> Any:
        """A command's ``--json`` output; its exit code must be ``code``."""
        done = self.run(*args, "--json")
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def processes(self) -> list[psutil.Process]:
        """Every process that lives in this home: daemons, workers, whatever they started."""
        mark = f"THUNDERCTL_HOME={self.home}".encode()
        found = []
        for process in psutil.process_iter():
            try:
                environ = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
                if mark in environ and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def nothing_runs(self) -> bool:
        """Whether no process and no tool environment of this home is left."""
        folders = list(self.home.glob("nodes/*/environments/*"))
        return not self.processes() and not folders


def until(true: Callable[[], bool], within_s: float = 60) -> None:
    """Wait for something that happens soon; fails if it does not. A process may end while ``true`` looks at it."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        with contextlib.suppress(psutil.NoSuchProcess):
            if true():
                return
        time.sleep(0.1)
    raise AssertionError(f"it did not happen within {within_s} s")
