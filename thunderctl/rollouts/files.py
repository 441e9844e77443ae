"""A roll-out's folder. Groups stand in it as trainers load them, and each is there whole or not at all.

    rollout.json                       what was asked for: workload, kind, engine, model, versions, argv
    groups/00000-NAME.parquet          a group: one row a segment (``COLUMNS``)
    groups-jsonl/00000-NAME.jsonl      the same group as one line, as ``Group.as_dict`` has it

Each folder holds one form only, so that ``pandas.read_parquet`` and ``pyarrow.dataset`` take ``groups/`` as it is. A
file is written beside its place and renamed, so what has its name is whole; a group counts as soon as one of its two
files is there, and the other is made from it when the folder is next written to. One that is torn all the same (cut
short by a copy, a full disk) is noticed by its end and never counts. Without pyarrow there is no Parquet: the lines
hold everything.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote, unquote

from thunderctl.errors import PreflightError, ThunderError, UsageError
from thunderctl.rollouts.schema import SCHEMA, Group, Sample, Segment
from thunderctl.runs.store import write_whole

MANIFEST = "rollout.json"
PARQUET, LINES = "parquet", "jsonl"
FOLDERS = {PARQUET: "groups", LINES: "groups-jsonl"}
LONGEST_NAME = 200
"""Characters of a group's name in a file's name."""
_NAMED = re.compile(r"(\d{5,})-(.+)\.(parquet|jsonl)")
_SCHEMA_KEY, _GROUP_KEY = b"thunderctl.schema", b"thunderctl.group"
"""In a Parquet file's own metadata: the layout's version, and the group without its samples as JSON."""


class Column(NamedTuple):
    """A column of the Parquet form."""

    name: str
    type: str
    nullable: bool
    about: str


COLUMNS = (
    Column("group", "string", False, "the group's name: samples of one task have it in common"),
    Column("task", "string", False, "the task's instance id"),
    Column("sample", "int32", False, "which sample of its group, from 0"),
    Column("segment", "int32", False, "which segment of the sample, from 0"),
    Column("segments", "int32", False, "how many it has; 0: this row stands for a sample without tokens"),
    Column("attempt", "int32", False, "1, or more if it took the place of one that failed"),
    Column("program", "string", False, "the sample's name to the daemon"),
    Column("kind", "string", False, "live, replay or trace"),
    Column("status", "string", False, "how its agent ended"),
    Column("reward", "double", True, "the sample's; null if it was not judged"),
    Column("parts", "map<string, double>", False, "what the reward is made of"),
    Column("ids", "list<int32>", False, "the segment's tokens, prompt and all"),
    Column("mask", "list<int8>", False, "for each token: 1 if the model made it, else 0"),
    Column("versions", "list<int32>", False, "for each token: version of the weights that made it; -1 where mask is 0"),
    Column("logprobs", "list<double>", True, "for each token: its log-probability (natural); 0.0 where mask is 0; "
           "null if the engine computed none"),
    Column("turns", "list<turn>", False, "model calls: {step, start, end, cached_tokens, finish_reason, "
           "prompt_digest}; the prompt is ids[:start], the answer ids[start:end]"),
    Column("breaks", "list<string>", False, "the sample's: why each segment after the first begins"),
    Column("steps", "int32", False, "the sample's"),
    Column("started", "double", False, "seconds since the roll-out began"),
    Column("ended", "double", False, "seconds since the roll-out began"),
    Column("submission", "string", False, "what the sample handed in"),
    Column("error", "string", True, "why it failed"),
)  # fmt: skip
"""One row a segment. What a sample has (reward, status, …) stands in each row of it."""


def describe() -> str:
    """The layout in words, for `thunderctl rollout --schema`."""
    lines = [
        f"Layout {SCHEMA}. A roll-out's folder:",
        f"  {MANIFEST:<28}what was asked for and what ran it",
        f"  {FOLDERS[PARQUET]}/NNNNN-NAME.parquet    a group, one row a segment",
        f"  {FOLDERS[LINES]}/NNNNN-NAME.jsonl  the same as one line: group > samples > segments > turns",
        "",
        "Columns of the Parquet form; the lines have the same names, nested:",
    ]
    for column in COLUMNS:
        null = ", null" if column.nullable else ""
        lines.append(f"  {column.name:<11}{column.type + null:<22}{column.about}")
    return "\n".join(lines)


def parquet_is_there() -> bool:
    """Whether Parquet can be written and read here."""
    return importlib.util.find_spec("pyarrow") is not None


@dataclass(slots=True)
class Entry:
    """A group's files under one number."""

    number: int
    name: str
    files: dict[str, Path]
    """By form; whole ones only."""


class GroupFiles:
    """Reads and writes the groups of one roll-out. One process writes at a time; any number may read meanwhile."""

    def __init__(self, folder: Path, *, parquet: bool | None = None) -> None:
        """``parquet``: whether to write that form too; by default if pyarrow is installed."""
        self.folder = folder
        self._forms = (PARQUET, LINES) if (parquet_is_there() if parquet is None else parquet) else (LINES,)
        self._next = 0
        """Number of the next group."""
        self._there: set[str] | None = None
        """Names of those that are there; ``None`` until the folder was made ready."""

    # ------------------------------------------------------------------ the manifest

    def write_manifest(self, record: Mapping[str, Any]) -> None:
        """Write ``rollout.json``; the layout's version is added."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"schema": SCHEMA, **record}, indent=1, ensure_ascii=False, default=str)
        write_whole(self.folder / MANIFEST, text + "\n")

    def manifest(self) -> dict[str, Any]:
        """What ``rollout.json`` says; ``UsageError`` if there is none, or a newer thunderctl wrote it."""
        path = self.folder / MANIFEST
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UsageError(f"{self.folder} holds no roll-out: it has no {MANIFEST}") from None
        except ValueError as error:
            raise UsageError(f"{path} cannot be read: {error}") from None
        if not isinstance(record, dict):
            raise UsageError(f"{path} cannot be read: wanted an object")
        _refuse_newer(path, record.get("schema"))
        return record

    # ------------------------------------------------------------------ writing

    def make_ready(self) -> None:
        """Remove what a kill left of a write, and write the form that a group lacks. Done by the first write too.

        ``PreflightError`` if Parquet is wanted and pyarrow is not installed.
        """
        if PARQUET in self._forms:
            _arrow()
        for form in self._forms:
            (self.folder / FOLDERS[form]).mkdir(parents=True, exist_ok=True)
        for folder in FOLDERS.values():
            for left in (self.folder / folder).glob(".*.writing"):
                left.unlink()
        entries = self.entries()
        for entry in entries:
            if set(self._forms) - set(entry.files):
                self._write(entry.number, self._read(entry), [form for form in self._forms if form not in entry.files])
        self._next = max((entry.number for entry in entries), default=-1) + 1
        self._there = {entry.name for entry in entries}

    def write(self, group: Group) -> None:
        """Store a group that is complete, in every form.

        ``ThunderError`` if a group of this name is there already, or if it holds what the layout cannot say.
        """
        if self._there is None:
            self.make_ready()
        assert self._there is not None  # noqa: S101 - made ready above
        if group.name in self._there:
            raise ThunderError(f"{self.folder} has a group {group.name!r} already: no sample is stored twice")
        self._write(self._next, group, self._forms)
        self._there.add(group.name)
        self._next += 1

    def _write(self, number: int, group: Group, forms: tuple[str, ...] | list[str]) -> None:
        name = quote(group.name, safe="")
        if not name or len(name) > LONGEST_NAME:
            raise UsageError(f"group {group.name!r}: a name of 1 to {LONGEST_NAME} characters is wanted")
        try:
            ready = {form: _WRITERS[form](group) for form in forms}
        except (ValueError, TypeError, OverflowError) as error:  # pyarrow's errors are of these
            raise ThunderError(f"group {group.name!r} cannot be stored: {error}") from None
        for form, into in ready.items():
            _write_file(self.folder / FOLDERS[form] / f"{number:05d}-{name}.{form}", into)

    # ------------------------------------------------------------------ reading

    def entries(self) -> list[Entry]:
        """Groups that are whole, in the order in which they were written."""
        found: dict[tuple[int, str], Entry] = {}
        for path, form, number, name in self._named():
            if is_whole(path):
                found.setdefault((number, name), Entry(number, name, {})).files[form] = path
        return [found[key] for key in sorted(found)]

    def torn(self) -> list[Path]:
        """Files that have a group's name and are not whole."""
        return [path for path, *_ in self._named() if not is_whole(path)]

    def _named(self) -> Iterator[tuple[Path, str, int, str]]:
        for form, folder in FOLDERS.items():
            for path in sorted((self.folder / folder).glob(f"*.{form}")):
                if said := _NAMED.fullmatch(path.name):
                    yield path, form, int(said[1]), unquote(said[2])

    def done(self) -> set[str]:
        """Names of the groups that are there, whole."""
        return {entry.name for entry in self.entries()}

    def read(self) -> Iterator[Group]:
        """The groups, in the order in which they were written."""
        seen: set[str] = set()
        for entry in self.entries():
            if entry.name not in seen:
                seen.add(entry.name)
                yield self._read(entry)

    def _read(self, entry: Entry) -> Group:
        return read_lines(entry.files[LINES]) if LINES in entry.files else read_parquet(entry.files[PARQUET])

    def table(self) -> Any:
        """All groups as one ``pyarrow.Table``; ``PreflightError`` if pyarrow is not installed."""
        arrow, parquet = _arrow()
        parts = [_schema(arrow).empty_table()]
        for entry in self.entries():
            if PARQUET in entry.files:
                _refuse_newer_parquet(entry.files[PARQUET], parquet)
                parts.append(parquet.read_table(entry.files[PARQUET]))
            else:
                parts.append(to_table(self._read(entry)))
        kept = {_SCHEMA_KEY: str(SCHEMA).encode()}
        return arrow.concat_tables([part.replace_schema_metadata(kept) for part in parts])


# ---------------------------------------------------------------------- one file


def is_whole(path: Path) -> bool:
    """Whether a file ends as its form ends."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if path.suffix == f".{LINES}":
            file.seek(max(0, size - 1))
            return file.read(1) == b"\n"
        if size < 12:
            return False
        file.seek(size - 8)
        footer, mark = file.read(4), file.read(4)
        return mark == b"PAR1" and int.from_bytes(footer, "little") + 12 <= size


def read_lines(path: Path) -> Group:
    """The group of a JSON line; ``UsageError`` if it cannot be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        _refuse_newer(path, record.get("schema"))
        return Group.from_dict(record)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _unreadable(path, error) from None


def read_parquet(path: Path) -> Group:
    """The group of a Parquet file; ``UsageError`` if it cannot be read."""
    arrow, parquet = _arrow()
    try:
        _refuse_newer_parquet(path, parquet)
        return from_table(parquet.read_table(path))
    except (arrow.ArrowException, ValueError, TypeError, KeyError, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UsageError:
    return UsageError(
        f"{path} cannot be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
        hint="remove it (its other form, if there is one, then counts), and have what is missing done again: --resume",
    )


def _refuse_newer(path: Path, schema: object) -> None:
    if not isinstance(schema, int):
        raise UsageError(f"{path}: it does not say which layout it has (schema)")
    if schema > SCHEMA:
        raise UsageError(f"{path} was written by a newer thunderctl (layout {schema}, this one reads {SCHEMA})")


def _refuse_newer_parquet(path: Path, parquet: Any) -> None:
    said = (parquet.read_schema(path).metadata or {}).get(_SCHEMA_KEY)
    _refuse_newer(path, int(said) if said and said.isdigit() else None)


def _write_file(path: Path, into: Callable[[BinaryIO], None]) -> None:
    """As :func:`write_whole`, and on the disk before it has its name: a power cut leaves no empty file of that name."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        with fresh.open("wb") as file:
            into(file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _line_of(group: Group) -> Callable[[BinaryIO], None]:
    # Sample by sample: the encoder holds the interpreter, and 300,000 tokens at once would hold up agents for 0.2 s.
    about = json.dumps(_without_samples(group), separators=(",", ":"))
    samples = ",".join(json.dumps(sample.as_dict(), separators=(",", ":")) for sample in group.samples)
    line = f'{about[:-1]},"samples":[{samples}]}}\n'.encode("ascii")
    return lambda file: _all_of(file, line)


def _parquet_of(group: Group) -> Callable[[BinaryIO], None]:
    table, (_, parquet) = to_table(group), _arrow()
    return lambda file: parquet.write_table(table, file, compression="zstd")


def _all_of(file: BinaryIO, data: bytes) -> None:
    file.write(data)


_WRITERS: dict[str, Callable[[Group], Callable[[BinaryIO], None]]] = {PARQUET: _parquet_of, LINES: _line_of}


# ---------------------------------------------------------------------- Parquet


def _arrow() -> tuple[Any, Any]:
    """``pyarrow`` and ``pyarrow.parquet``."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise PreflightError(
            "Parquet is written and read by pyarrow, which is not installed",
            hint="pip install 'thunderctl[rollouts]'; without it a roll-out's groups are in its JSON lines",
        ) from None


def _schema(arrow: Any) -> Any:
    turn = arrow.struct(
        [
            *(arrow.field(name, arrow.int32(), False) for name in ("step", "start", "end", "cached_tokens")),
            *(arrow.field(name, arrow.string(), False) for name in ("finish_reason", "prompt_digest")),
        ]
    )
    types = {
        "string": arrow.string(),
        "int32": arrow.int32(),
        "double": arrow.float64(),
        "list<int8>": arrow.list_(arrow.int8()),
        "list<int32>": arrow.list_(arrow.int32()),
        "list<double>": arrow.list_(arrow.float64()),
        "list<string>": arrow.list_(arrow.string()),
        "list<turn>": arrow.list_(turn),
        "map<string, double>": arrow.map_(arrow.string(), arrow.float64()),
    }
    return arrow.schema([arrow.field(c.name, types[c.type], c.nullable, {"about": c.about}) for c in COLUMNS])


def to_table(group: Group) -> Any:
    """A group as a ``pyarrow.Table``: one row a segment, the group's own fields in the metadata."""
    arrow, _ = _arrow()
    rows = [row for sample in group.samples for row in _rows_of(sample)]
    schema = _schema(arrow)
    columns = [arrow.array([row[each.name] for row in rows], each.type) for each in schema]
    about = json.dumps(_without_samples(group)).encode()
    kept = schema.with_metadata({_SCHEMA_KEY: str(SCHEMA).encode(), _GROUP_KEY: about})
    return arrow.Table.from_arrays(columns, schema=kept)


def _without_samples(group: Group) -> dict[str, Any]:
    return {key: value for key, value in group.as_dict().items() if key != "samples"}


def _rows_of(sample: Sample) -> Iterator[dict[str, Any]]:
    whole = sample.as_dict()
    segments = whole.pop("segments")
    whole |= {"sample": whole.pop("index"), "segments": len(segments), "parts": list(sample.parts.items())}
    for number, segment in enumerate(segments or [Segment().as_dict()]):
        yield {**whole, **segment, "segment": number}


def from_table(table: Any) -> Group:
    """Inverse of :func:`to_table`."""
    group = Group.from_dict({**json.loads(table.schema.metadata[_GROUP_KEY]), "samples": []})
    for row in table.to_pylist():
        if row["segment"] == 0:
            row["index"], row["parts"] = row["sample"], dict(row["parts"])
            group.samples.append(Sample.from_dict({**row, "segments": []}))
        if row["segments"]:
            group.samples[-1].segments.append(Segment.from_dict(row))
    return group
