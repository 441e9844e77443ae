"""Reads the rows of a data set that a user has: a file, or a name at Hugging Face.

A row that cannot be used is refused by itself, with the place where it stands, and the others are read; a file that
cannot be read at all is an error. What a row means is told by whoever asks (:func:`load_rows`), not here. Libraries for
Parquet and Hugging Face are looked for when somebody asks for one of these.
"""

from __future__ import annotations

import codecs
import csv
import importlib
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from thunderctl.errors import PreflightError, UsageError, WorkloadError
from thunderctl.workload.base import Task

T = TypeVar("T", bound=Task)

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""``owner/name`` of a data set at Hugging Face."""
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
LONGEST_FIELD = 2**27
"""Bytes of one CSV field; some rows carry pictures."""


class Row(NamedTuple):
    """One row as it was found."""

    where: str
    """The file and the line or row, as a person looks for it."""
    fields: dict[str, Any]
    problem: str = ""
    """Why it cannot be read; then there are no fields."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that is left out."""

    where: str
    instance_id: str | None
    """Its task's, if it says that much."""
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: " + (f"{self.instance_id}: " if self.instance_id else "") + self.reason

    def as_dict(self) -> dict[str, str | None]:
        """As a run's manifest tells it."""
        return {"row": self.where, "instance_id": self.instance_id, "reason": self.reason}


class Rows(list[T]):
    """The tasks of a data set, and beside them the rows that are none."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[Refused] = []


def load_rows(source: str, task_of: Callable[[dict[str, Any]], T]) -> Rows[T]:
    """Every row of ``source`` as a task. ``task_of`` raises ``UsageError`` (a ``WorkloadError`` is one) for a row that
    cannot be used; a second row of the same name is refused as well. ``WorkloadError`` if there is no row to use."""
    found: Rows[T] = Rows()
    seen: dict[str, str] = {}
    for where, fields, problem in read_rows(source):
        said = fields.get("instance_id")
        name = said if isinstance(said, str) else None
        try:
            if problem:
                raise WorkloadError(problem)
            task = task_of(fields)
            if task.instance_id in seen:
                raise WorkloadError(f"{seen[task.instance_id]} has the same instance_id")
        except UsageError as error:
            found.refused.append(Refused(where, name, error.message))
            continue
        seen[task.instance_id] = where
        found.append(task)
    if not found:
        if not found.refused:
            raise WorkloadError(f"{source} has no rows")
        raise WorkloadError(
            f"{source}: none of its {len(found.refused)} rows can be used", details=[str(r) for r in found.refused[:20]]
        )
    return found


def read_rows(source: str) -> Iterator[Row]:
    """Rows of a file (JSON lines, JSON, CSV, Parquet), or of ``OWNER/NAME`` or ``OWNER/NAME:SPLIT`` at Hugging Face."""
    path = Path(source).expanduser()
    if path.is_file():
        yield from _read_file(path, path.name)
        return
    name, _, split = source.partition(":")
    if path.suffix.lower() in READERS or path.exists() or not HUB_NAME.fullmatch(name):
        raise WorkloadError(
            f"there is no file of rows {source!r}",
            hint=f"give a file ({', '.join(READERS)}), or OWNER/NAME or OWNER/NAME:SPLIT at Hugging Face",
        )
    for file in hub_files(name, split):
        yield from _read_file(file, f"{source} ({file.name})")


def _read_file(path: Path, called: str) -> Iterator[Row]:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise WorkloadError(f"{path}: rows come as {', '.join(READERS)}", hint="rename it, or convert it to JSON lines")
    try:
        yield from reader(path, called)
    except OSError as failure:
        raise WorkloadError(f"{path} cannot be read: {failure.strerror or failure}") from None


# ---------------------------------------------------------------------- files


def _json_lines(path: Path, called: str) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if not line.strip():
                continue
            where = f"{called} line {number}"
            try:
                value = json.loads(line.decode().rstrip())
            except UnicodeDecodeError as error:
                yield Row(where, {}, f"not UTF-8 at byte {error.start + 1}")
            except json.JSONDecodeError as error:
                yield Row(where, {}, f"not valid JSON: {error.msg.lower()} at column {error.colno}")
            except RecursionError:
                yield Row(where, {}, "not valid JSON: nested too deeply")
            else:
                yield _an_object(where, value)


def _json(path: Path, called: str) -> Iterator[Row]:
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise WorkloadError(f"{path}: not UTF-8 at byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        hint = "one object a line is JSON lines: call it .jsonl" if error.msg == "Extra data" else None
        raise WorkloadError(f"{path} line {error.lineno}: not valid JSON: {error.msg.lower()}", hint=hint) from None
    except RecursionError:
        raise WorkloadError(f"{path}: not valid JSON: nested too deeply") from None
    if not isinstance(value, list):
        raise WorkloadError(f"{path}: wanted a list of rows, found {_kind(value)}")
    for number, item in enumerate(value, 1):
        yield _an_object(f"{called} row {number}", item)


def _csv(path: Path, called: str) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for number, fields in enumerate(reader, 1):
                where = f"{called} row {number}"
                if None in fields:
                    yield Row(where, {}, "it has more fields than the first line names")
                else:  # what a short row lacks is missing, not empty
                    yield Row(where, {key: value for key, value in fields.items() if value is not None})
        except csv.Error as error:
            raise WorkloadError(f"{path} after line {reader.line_num}: not valid CSV: {error}") from None
        except UnicodeDecodeError as error:
            raise WorkloadError(f"{path}: not UTF-8 after line {reader.line_num}: {error.reason}") from None


def _parquet(path: Path, called: str) -> Iterator[Row]:
    arrow = _library("pyarrow", "Parquet files")
    parquet = importlib.import_module("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=256)
            rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
            for number, fields in enumerate(rows, 1):  # what is null is missing
                yield Row(f"{called} row {number}", {key: value for key, value in fields.items() if value is not None})
    except arrow.ArrowException as error:
        raise WorkloadError(f"{path}: not a Parquet file that can be read: {str(error).splitlines()[0]}") from None


READERS: dict[str, Callable[[Path, str], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
"""By the end of a file's name."""


def _an_object(where: str, value: object) -> Row:
    if isinstance(value, dict):
        return Row(where, value)
    return Row(where, {}, f"wanted an object, found {_kind(value)}")


def _kind(value: object) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "a truth value",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null")


# ---------------------------------------------------------------------- Hugging Face


def hub_files(name: str, split: str) -> list[Path]:
    """The files of one split, fetched into Hugging Face's own cache. ``split`` is ``test`` where nothing is said and
    there is one of that name, else the only one there is; ``FOLDER/SPLIT`` where several folders have it."""
    hub = _library("huggingface_hub", "data sets by name")
    errors = importlib.import_module("huggingface_hub.errors")
    try:
        api = hub.HfApi()
        found = splits_of(api.list_repo_files(name, repo_type="dataset"))
        chosen = found[_choose(name, found, split)]
        return [Path(api.hf_hub_download(name, file, repo_type="dataset")) for file in chosen]
    except errors.GatedRepoError:
        raise WorkloadError(
            f"{name} is given only to people who agreed to its terms",
            hint="agree on its page, then `hf auth login` or set HF_TOKEN; or give a file of rows you have",
        ) from None
    except errors.RepositoryNotFoundError:
        raise WorkloadError(
            f"Hugging Face has no data set {name!r}, or does not show it to you",
            hint="check the name; a private one wants `hf auth login` or HF_TOKEN",
        ) from None
    except (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, OSError) as failure:
        raise WorkloadError(
            f"{name} could not be fetched: {str(failure).splitlines()[0]}",
            hint="without a network, give a file of rows instead",
        ) from None
    except Exception as failure:  # the library's HTTP client has errors of its own, and it changed once
        if type(failure).__module__.split(".")[0] not in ("httpx", "httpcore", "requests"):
            raise
        raise WorkloadError(
            f"{name} could not be fetched: {failure}", hint="without a network, give a file of rows instead"
        ) from None


def splits_of(files: list[str]) -> dict[str, list[str]]:
    """Split → its files, in order, by the Hub's naming: ``data/test-00000-of-00001.parquet`` is of ``data/test``."""
    found: dict[str, list[str]] = {}
    for file in sorted(files):
        path = Path(file)
        if path.suffix in READERS:
            found.setdefault(_SHARD.sub("", str(path.with_suffix(""))), []).append(file)
    return found


def _choose(name: str, found: dict[str, list[str]], split: str) -> str:
    wanted = split or "test"
    matching = [key for key in found if key == wanted or key.endswith("/" + wanted)]
    if not matching and not split and len(found) == 1:
        matching = list(found)
    if len(matching) != 1:
        several = "several" if matching else "no"
        raise WorkloadError(
            f"{name} has {several} {'splits' if matching else 'split'} {wanted!r}",
            hint=f"there are: {', '.join(f'{name}:{key}' for key in sorted(matching or found)) or 'none'}",
        )
    return matching[0]


def _library(module: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise PreflightError(
            f"{what} are read by {module}, which is not installed",
            hint="pip install 'thunderctl[datasets]', or convert the rows to JSON lines",
        ) from None
