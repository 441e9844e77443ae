"""The daemon's own log, and how large the logs of a node may get. Lines are text or JSON, and hold no secret.

The daemon writes to its standard error, which is ``logs/daemon.log``; so what Python itself or a library prints at the
worst moment lands there too. Workers write their own logs beside it. All of them are opened for appending, so they are
rotated by copying and cutting them, whoever writes.

``THUNDERCTL_LOG_FORMAT`` is ``text`` or ``json``; ``THUNDERCTL_LOG_LEVEL`` a level, then levels of single components:
``info,workers=debug``. ``thunderctl up`` passes both on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from thunderctl.errors import UsageError

FORMAT_VARIABLE = "THUNDERCTL_LOG_FORMAT"
LEVEL_VARIABLE = "THUNDERCTL_LOG_LEVEL"
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
COMPONENTS = ("daemon", "workers", "environments", "journal", "live", "tracing")
"""Each is the logger ``thunderctl.NAME``."""
ROTATE_BYTES = 16 * 2**20
KEPT = 3
"""Rotated files of a log that are kept: ``daemon.log.1`` is the latest."""
LOOK_EVERY_S = 10.0
REMEMBERED = 20
"""Latest warnings that the live view can show."""
SHORTEST_SECRET = 6
"""What is shorter would black out ordinary words."""
_SECRET_NAME = re.compile(r"(?i)(?:key|token|secret|password|passwd|credential)s?$")


def secrets_of(environ: Mapping[str, str]) -> set[str]:
    """Values of variables whose names say that they are secret, and of headers, such as ``OTEL_…_HEADERS``."""
    found = {value for name, value in environ.items() if _SECRET_NAME.search(name)}
    headers = [value for name, value in environ.items() if name.upper().endswith("_HEADERS")]
    return found | {header.partition("=")[2].strip() for value in headers for header in value.split(",")}


class _Discreet(logging.Formatter):
    """A record as one line of text. Known secrets are blacked out last, so that tracebacks are covered too."""

    def __init__(self, hidden: Iterable[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(component)s: %(message)s")
        parts = sorted((s for s in set(hidden) if len(s) >= SHORTEST_SECRET), key=len, reverse=True)
        self._hidden = re.compile("|".join(map(re.escape, parts))) if parts else None

    def format(self, record: logging.LogRecord) -> str:
        record.component = record.name.removeprefix("thunderctl.")
        return self.discreet(self.line(record))

    def line(self, record: logging.LogRecord) -> str:
        return super().format(record)

    def discreet(self, text: str) -> str:
        return self._hidden.sub("[hidden]", text) if self._hidden else text


class _Json(_Discreet):
    """A record as one JSON object on a line."""

    def line(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        said: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "component": record.name.removeprefix("thunderctl."),
            # Hidden here as well: JSON writes some characters of a secret in another way.
            "message": self.discreet(record.getMessage()),
        }
        if record.exc_info:
            said["exception"] = self.discreet(self.formatException(record.exc_info))
        return json.dumps(said, ensure_ascii=False)


class _Remembered(logging.Handler):
    """Keeps the latest warnings for the live view, as text."""

    def __init__(self, form: _Discreet, kept: deque[dict[str, Any]]) -> None:
        super().__init__(logging.WARNING)
        self._form = form
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        text = self._form.discreet(record.getMessage())
        self._kept.append({"at": record.created, "level": record.levelname.lower(), "text": text[:500]})


def levels(said: str) -> tuple[int, dict[str, int]]:
    """The general level, and those of single components; ``UsageError`` for what is neither."""
    general, single = logging.INFO, dict[str, int]()
    for part in filter(None, (part.strip() for part in said.split(","))):
        component, marked, level = part.rpartition("=")
        if level not in LEVELS or (marked and component not in COMPONENTS):
            raise UsageError(
                f"{LEVEL_VARIABLE}: {part!r} is neither a level nor COMPONENT=LEVEL",
                hint=f"levels: {', '.join(LEVELS)}; components: {', '.join(COMPONENTS)}",
            )
        if marked:
            single[component] = LEVELS[level]
        else:
            general = LEVELS[level]
    return general, single


def begin(hidden: Iterable[str], environ: Mapping[str, str] | None = None) -> deque[dict[str, Any]]:
    """Set logging up for this process; returns where the latest warnings will be. ``hidden``: further secrets."""
    given = os.environ if environ is None else environ
    form_name = given.get(FORMAT_VARIABLE) or "text"
    if form_name not in ("text", "json"):
        raise UsageError(f"{FORMAT_VARIABLE} is {form_name!r}", hint="say text or json")
    general, single = levels(given.get(LEVEL_VARIABLE, ""))
    form = (_Json if form_name == "json" else _Discreet)({*hidden, *secrets_of(given)})
    kept: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(form)
    logging.basicConfig(level=general, handlers=[stream, _Remembered(form, kept)], force=True)
    for component in COMPONENTS:
        logging.getLogger(f"thunderctl.{component}").setLevel(single.get(component, logging.NOTSET))
    return kept


# ---------------------------------------------------------------------- rotation


async def keep_small(folder: Path) -> None:
    """Rotate the node's logs whenever they are too large, until cancelled. The reaper rotates its own."""
    while True:
        await asyncio.to_thread(rotate_large, folder)
        await asyncio.sleep(LOOK_EVERY_S)


def rotate_large(folder: Path, limit: int = ROTATE_BYTES) -> None:
    for file in [folder / "daemon.log", *folder.glob("worker-*.log")]:
        try:
            if file.stat().st_size > limit:
                rotate(file)
        except OSError as failure:  # gone, or no room for a copy: try again later
            logging.getLogger("thunderctl.daemon").debug("%s was not rotated: %s", file.name, failure)


def rotate(file: Path, kept: int = KEPT) -> None:
    """``file`` becomes ``file.1``, that ``file.2``, and so on; who has it open for appending goes on in an empty one.

    What is written between the last byte copied and the cut is lost: the copy goes on until nothing comes any more, so
    these are microseconds.
    """
    fresh = file.with_name(f"{file.name}.0")
    try:
        with file.open("rb") as source, fresh.open("wb") as target:
            copied = -1
            while copied != source.tell():
                copied = source.tell()
                shutil.copyfileobj(source, target, 2**20)
            for number in range(kept, 1, -1):
                older = file.with_name(f"{file.name}.{number - 1}")
                if older.exists():
                    older.replace(file.with_name(f"{file.name}.{number}"))
            shutil.copyfileobj(source, target)
            target.flush()
            os.truncate(file, 0)
        fresh.replace(file.with_name(f"{file.name}.1"))
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
