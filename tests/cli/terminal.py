"""A terminal in memory: a command runs on a real pseudo-terminal, and what it draws can be looked at.

The emulator is pyte, which knows no alternate screen: it is added here, so that what is under a full-screen view and
comes back after it can be told apart.
"""

from __future__ import annotations

import copy
import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import pyte

ALTERNATE = 1049
END_OF_FRAME = b"\x1b[?2026l"


class _Emulator(pyte.Screen):  # type: ignore[misc]
    alternate = False
    cursor_shown = True

    def set_mode(self, *modes: int, **more: Any) -> None:
        if more.get("private") and ALTERNATE in modes:
            self._under = (copy.deepcopy(self.buffer), self.cursor.x, self.cursor.y)
            self.alternate = True
            self.erase_in_display(2)
        super().set_mode(*modes, **more)

    def reset_mode(self, *modes: int, **more: Any) -> None:
        if more.get("private") and ALTERNATE in modes and self.alternate:
            self.buffer, self.cursor.x, self.cursor.y = self._under
            self.alternate = False
        super().reset_mode(*modes, **more)


class Terminal:
    """A command on a terminal of its own. Use as a context manager: what still runs at the end is interrupted."""

    def __init__(self, argv: list[str], env: Mapping[str, str], columns: int, rows: int) -> None:
        self.screen = _Emulator(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = os.openpty()
        self.raw = b""
        self._resize(slave, columns, rows)
        clean = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**clean, "TERM": "xterm-256color"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.end(120)
        os.close(self._master)

    @staticmethod
    def _resize(descriptor: int, columns: int, rows: int) -> None:
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        """As a person who pulls at the window: the command is told by the kernel."""
        self.screen.resize(rows, columns)
        self._resize(self._master, columns, rows)

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def read(self, within_s: float = 0.5) -> bool:
        """Take in what was written, up to the end of the next frame; false if the command closed the terminal."""
        if not select.select([self._master], [], [], within_s)[0]:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def rows(self) -> list[str]:
        return [row.rstrip() for row in self.screen.display]

    def text(self) -> str:
        return "\n".join(self.rows())

    def wait_for(self, true: Callable[[Terminal], bool], within_s: float = 120) -> None:
        """Read until ``true`` holds at the end of a frame (or of the output)."""
        give_up = time.monotonic() + within_s
        while time.monotonic() < give_up:
            going = self.read()
            whole = not self.screen.alternate or self.raw.endswith(END_OF_FRAME)
            if whole and true(self):
                return
            assert going, f"the command ended first:\n{self.text()}"
        raise AssertionError(f"it was not seen within {within_s} s:\n{self.text()}")

    def frames(self, count: int) -> list[list[str]]:
        """The screen at the end of each of the next frames."""
        seen: list[list[str]] = []
        while len(seen) < count:
            assert self.read(5.0), self.text()
            if self.raw.endswith(END_OF_FRAME):
                seen.append(self.rows())
        return seen

    def end(self, within_s: float = 120) -> int:
        """Read until the command ends; its exit code."""
        give_up = time.monotonic() + within_s
        while self.process.poll() is None:
            self.read(0.2)
            assert time.monotonic() < give_up, self.text()
        while self.read(0.2) and select.select([self._master], [], [], 0)[0]:
            pass
        return self.process.returncode
