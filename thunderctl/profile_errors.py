"""How a profile's mistakes are worded: place, dotted key, what is wrong, and the key or value that was meant.

Turns the schema's complaints into one line each for the person who wrote the file. Nothing here reads files.
"""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from thunderctl.errors import ProfileError
from thunderctl.marked_yaml import KeyPath
from thunderctl.profile import Profile


@dataclass(frozen=True, slots=True)
class Place:
    """Who said a key: short for a table (``laptop.yaml:12``), and in full for an error."""

    source: str
    where: str


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that is wrong with a profile."""

    text: str
    hint: str | None = None


_NOUNS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
"""pydantic's error type -> what the value must be, in the words of a person who writes YAML."""

_SECRET = ("workers", "env")
"""Values under this key are never repeated in an error: they may be tokens."""


def raise_all(origin: str, complaints: Sequence[Complaint]) -> NoReturn:
    """One complaint is the message; several are listed in ``details``."""
    if len(complaints) == 1:
        raise ProfileError(complaints[0].text, hint=complaints[0].hint)
    lines = [each.text + (f" ({each.hint})" if each.hint else "") for each in complaints]
    raise ProfileError(f"{origin}: {len(lines)} things are wrong in this profile", details=lines)


def explain(error: ValidationError, places: Mapping[KeyPath, Place], origin: Path) -> list[Complaint]:
    """What ``error`` says about a profile, by key, each at the place that said the key."""
    by_path: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        path = detail["loc"]
        # A union adds the name of the member it tried: not part of the key.
        while path and path not in places:
            path = path[:-1]
        by_path.setdefault(path or detail["loc"], []).append(detail)
    complaints = []
    for path, details in by_path.items():
        if not path or details[0]["type"] == "value_error":
            complaints += [_between_sections(detail, places, origin) for detail in details]
            continue
        where = places[path].where if path in places else str(origin)
        said = f"{where}: {_dotted(path)}: "
        if any(detail["type"] == "extra_forbidden" for detail in details):
            complaints.append(Complaint(said + "unknown key", _meant_key(path)))
        else:
            complaints.append(Complaint(said + _wrong_value(path, details), _meant_value(details)))
    return complaints


def annotation_at(path: KeyPath) -> Any:
    """The type that the schema allows at ``path``; ``None`` if it knows no such key."""
    here: Any = Profile
    for key in path:
        section = _section(here)
        if section is not None:
            field = section.model_fields.get(str(key))
            if field is None:
                return None
            here = field.annotation
        elif typing.get_origin(here) is dict:
            here = typing.get_args(here)[1]
        else:
            return None
    return here


def _between_sections(detail: ErrorDetails, places: Mapping[KeyPath, Place], origin: Path) -> Complaint:
    """A rule over several sections has no key of its own: it is placed at the first key that it names."""
    reason = detail["msg"].removeprefix("Value error, ")
    for dotted in re.findall(r"[a-z_]+(?:\.[a-z_]+)+", reason):
        place = places.get(tuple(dotted.split(".")))
        if place is not None:
            return Complaint(f"{place.where}: {reason}")
    return Complaint(f"{origin}: {reason}")


def _wrong_value(path: KeyPath, details: Sequence[ErrorDetails]) -> str:
    wanted = dict.fromkeys(
        _NOUNS.get(detail["type"]) or detail["msg"].removeprefix("Input should be ") for detail in details
    )
    text = f"must be {' or '.join(wanted)}"
    if path[:2] != _SECRET:
        shown = repr(details[0]["input"])
        text += f", not {shown if len(shown) <= 60 else shown[:57] + '...'}"
    return text


def _meant_value(details: Sequence[ErrorDetails]) -> str | None:
    detail = details[0]
    if detail["type"] == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(detail.get("ctx", {}).get("expected", "")))
        close = difflib.get_close_matches(str(detail["input"]), allowed, n=1)
        return f"did you mean {close[0]!r}?" if close else None
    if detail["type"] == "string_type" and not isinstance(detail["input"], (list, dict)):
        return "put the value in quotes"
    return None


def _meant_key(path: KeyPath) -> str | None:
    """The nearest key of the same section; else the key of that very name in another section."""
    section = _section(annotation_at(path[:-1]))
    siblings = [] if section is None else list(section.model_fields)
    key = str(path[-1])
    close = difflib.get_close_matches(key, siblings, n=1)
    if close:
        return f"did you mean {_dotted((*path[:-1], close[0]))!r}?"
    elsewhere = [known for known in _known_keys(Profile) if known[-1] == key]
    return f"did you mean {_dotted(elsewhere[0])!r}?" if elsewhere else None


def _known_keys(model: type[BaseModel], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        yield (*at, name)
        section = _section(field.annotation)
        if section is not None:
            yield from _known_keys(section, (*at, name))


def _section(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _dotted(path: KeyPath) -> str:
    return ".".join(str(part) for part in path)
