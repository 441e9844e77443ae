"""Finds profiles, follows ``extends:``, applies overrides, and says of every value where it came from.

Layers are merged from the base to the overrides into one plain tree, with a second, flat map of the place that last
said each key; every complaint, ours or the schema's, is looked up there. What a profile may say is ``profile.py``'s;
how YAML is read safely is ``marked_yaml.py``'s; how a complaint is worded is ``profile_errors.py``'s.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from thunderctl import marked_yaml, paths
from thunderctl.errors import ProfileError, UsageError
from thunderctl.marked_yaml import KeyPath, MarkedYaml, YamlProblem
from thunderctl.profile import Profile
from thunderctl.profile_errors import Place, annotation_at, explain, raise_all

OVERRIDE = "-c"
DEFAULT = "default"
OWN_KEYS = ("name", "description")
"""Keys that say which profile a file is; a profile that extends another does not take these over."""


@dataclass(frozen=True, slots=True)
class ResolvedProfile:
    """A profile as it holds after ``extends:`` and overrides."""

    profile: Profile
    sources: dict[str, str]
    """Dotted key of every leaf -> ``laptop.yaml:12``, ``-c`` or ``default``. A list is one leaf."""
    origin: str
    """The file that was asked for."""

    @property
    def digest(self) -> str:
        return self.profile.digest()


@dataclass(frozen=True, slots=True)
class ProfileEntry:
    """One line of the list of known profiles."""

    name: str
    """What to type: the file's name without its suffix."""
    description: str
    path: Path
    kind: Literal["bundled", "own", "hidden"]
    """``own`` lies in the home folder; ``hidden`` does too, but a bundled profile of that name comes first."""
    problem: str | None = None
    """Why the file cannot be read, if it cannot. Whether its values are right is not looked at."""


def load_profile(name_or_path: str, overrides: Sequence[str] = ()) -> ResolvedProfile:
    """The profile ``name_or_path`` with ``overrides`` (each ``key.path=value``) on top.

    A value with a ``/`` or the suffix ``.yaml`` or ``.yml`` is a path; anything else is a name: bundled profiles
    first, then ``profiles/`` in the home folder. Raises ``ProfileError`` naming file, line and key.
    """
    chain = _chain(_locate(name_or_path, beside=None))
    asked = chain[-1].path
    tree: dict[str, Any] = {}
    places: dict[KeyPath, Place] = {}
    for layer in chain:
        own = layer is chain[-1]
        label = layer.path.name
        if sum(other.path.name == label for other in chain) > 1:
            label = str(layer.path)  # ./laptop.yaml may extend the bundled laptop.yaml
        values = {key: value for key, value in layer.values.items() if own or key not in OWN_KEYS}
        _merge(tree, values, places, _FilePlaces(layer, label))
    for override in overrides:
        path, value = _parse_override(override)
        _merge(tree, _nested(path, value), places, _OverridePlaces(path))
    if "name" not in tree:
        tree["name"] = asked.stem
    try:
        profile = Profile.model_validate(tree)
    except ValidationError as error:
        raise_all(str(asked), explain(error, places, asked))
    try:
        paths.safe_name(profile.name, "profile name")
    except UsageError as error:
        where = places[("name",)].where if ("name",) in places else str(asked)
        raise ProfileError(f"{where}: name: {error.message}", hint=error.hint) from error
    sources = {
        ".".join(path): places[path].source if path in places else DEFAULT
        for path in _leaves(profile.model_dump(mode="json"))
    }
    return ResolvedProfile(profile, sources, str(asked))


def list_profiles() -> list[ProfileEntry]:
    """Every profile that has a name: the bundled ones, then those in the home folder. Broken files are listed."""
    bundled = _folder(paths.bundled_profiles())
    own = _folder(paths.home() / "profiles")
    entries = [_entry(name, path, "bundled") for name, path in bundled.items()]
    return entries + [_entry(name, path, "hidden" if name in bundled else "own") for name, path in own.items()]


# --- finding files ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Layer:
    """One file of an ``extends:`` chain."""

    path: Path
    values: Mapping[str, Any]
    lines: Mapping[KeyPath, int]
    extends: str | None


def _folder(folder: Path) -> dict[str, Path]:
    # Editors leave lock files such as .#laptop.yaml beside the file that is being edited.
    found = {path.stem: path for path in folder.glob("*.yaml") if not path.name.startswith(".")}
    return dict(sorted(found.items()))


def _known() -> dict[str, Path]:
    return {**_folder(paths.home() / "profiles"), **_folder(paths.bundled_profiles())}


def _is_path(name_or_path: str) -> bool:
    return "/" in name_or_path or name_or_path.endswith((".yaml", ".yml"))


def _locate(name_or_path: str, beside: Path | None, said_at: str = "") -> Path:
    """The file meant. A name is only ever looked up, never made into a path, so it cannot leave its folder."""
    if _is_path(name_or_path):
        path = Path(name_or_path)
        if name_or_path.startswith("~/"):
            path = Path.home() / name_or_path[2:]
        return path if beside is None else beside / path
    known = _known()
    if name_or_path in known:
        return known[name_or_path]
    close = difflib.get_close_matches(name_or_path, known, n=1)
    raise ProfileError(
        f"{said_at}there is no profile {name_or_path!r}",
        hint=f"did you mean {close[0]!r}?" if close else "a file needs its suffix: NAME.yaml",
        details=[f"known profiles: {', '.join(sorted(known)) or 'none'}"],
    )


def _chain(path: Path) -> list[_Layer]:
    """The layers that make up ``path``, from the base to ``path`` itself."""
    layers = [_read_layer(path)]
    seen = [path.resolve()]
    while (parent := layers[-1].extends) is not None:
        layer = layers[-1]
        said_at = f"{layer.path}:{layer.lines[('extends',)]}: extends: "
        path = _locate(parent, layer.path.parent, said_at)
        layers.append(_read_layer(path, said_at))
        if path.resolve() in seen:
            loop = " → ".join(str(each.path) for each in layers)
            raise ProfileError(f"{said_at}profiles extend each other in a circle: {loop}")
        seen.append(path.resolve())
    return layers[::-1]


def _read_layer(path: Path, said_at: str = "") -> _Layer:
    document = _read_mapping(path, said_at)
    values = dict(document.value)
    extends = values.pop("extends", None)
    if extends is not None and not isinstance(extends, str):
        raise ProfileError(f"{path}:{document.lines[('extends',)]}: extends: must be the name or path of one profile")
    return _Layer(path, values, document.lines, extends)


def _read_mapping(path: Path, said_at: str = "") -> MarkedYaml:
    try:
        document = marked_yaml.read(path)
        if document.value is None:
            raise YamlProblem("is empty; a profile says at least one key")
        if not isinstance(document.value, dict):
            kind = "a list" if isinstance(document.value, list) else "a single value"
            raise YamlProblem(f"must be a mapping of keys to values, not {kind}", 1)
    except YamlProblem as error:
        where = ":".join(str(part) for part in (path, error.line, error.column) if part is not None)
        hint = None
        if isinstance(error.__cause__, FileNotFoundError) and path.stem in _known():
            hint = f"did you mean the profile {path.stem!r}? Its name is written without a suffix"
        raise ProfileError(f"{said_at}{where}: {error.reason}", hint=hint) from error
    return document


def _entry(name: str, path: Path, kind: Literal["bundled", "own", "hidden"]) -> ProfileEntry:
    try:
        description = _read_mapping(path).value.get("description")
    except ProfileError as error:
        return ProfileEntry(name, "", path, kind, error.message)
    return ProfileEntry(name, description if isinstance(description, str) else "", path, kind)


# --- merging ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _FilePlaces:
    layer: _Layer
    label: str

    def at(self, path: KeyPath) -> Place:
        line = self.layer.lines[path]
        return Place(source=f"{self.label}:{line}", where=f"{self.layer.path}:{line}")


@dataclass(frozen=True, slots=True)
class _OverridePlaces:
    said: KeyPath

    def at(self, path: KeyPath) -> Place:
        # The key only: a value may be a secret that ends up in a log.
        return Place(source=OVERRIDE, where=f"{OVERRIDE} {'.'.join(str(part) for part in self.said)}")


def _merge(
    tree: dict[str, Any],
    values: Mapping[str, Any],
    places: dict[KeyPath, Place],
    said: _FilePlaces | _OverridePlaces,
    at: KeyPath = (),
) -> None:
    """Puts ``values`` over ``tree``: mappings merge, the rest replaces, ``null`` takes a key back to its default."""
    for key, value in values.items():
        here = (*at, key)
        if value is None and annotation_at(here) is not None:
            tree.pop(key, None)
            _forget(places, here)
            continue
        if isinstance(value, dict):
            if not isinstance(tree.get(key), dict):
                tree[key] = {}
                _forget(places, here)
            places[here] = said.at(here)
            _merge(tree[key], value, places, said, here)
            continue
        # An unknown key keeps its null, so that the schema gets to see and refuse it.
        tree[key] = value
        _forget(places, here)
        _mark(places, value, said, here)


def _mark(places: dict[KeyPath, Place], value: object, said: _FilePlaces | _OverridePlaces, at: KeyPath) -> None:
    places[at] = said.at(at)
    inside: list[tuple[str | int, object]] = []
    if isinstance(value, list):
        inside = list(enumerate(value))
    elif isinstance(value, dict):
        inside = list(value.items())
    for key, element in inside:
        _mark(places, element, said, (*at, key))


def _forget(places: dict[KeyPath, Place], at: KeyPath) -> None:
    for path in [path for path in places if path[: len(at)] == at]:
        del places[path]


def _parse_override(override: str) -> tuple[tuple[str, ...], Any]:
    key, equals, text = override.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        shown = key if equals else override
        raise ProfileError(f"{OVERRIDE} {shown}: is not KEY=VALUE", hint="write for example -c workers.count=2")
    if path[0] == "extends":
        raise ProfileError(f"{OVERRIDE} extends: only a file can extend a profile")
    try:
        value = marked_yaml.parse(text).value
    except YamlProblem as error:
        raise ProfileError(
            f"{OVERRIDE} {'.'.join(path)}: the value {error.reason}",
            hint="put quotes around the value, inside those of the shell",
        ) from error
    # Quoting twice for the shell is a nuisance: where only text is allowed, 0.10 and yes are text.
    if annotation_at(path) in (str, str | None) and not isinstance(value, (str, list, dict, type(None))):
        value = text.strip()
    return path, value


def _nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def _leaves(values: Mapping[str, Any], at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of everything that is not a mapping with something in it."""
    found: list[tuple[str, ...]] = []
    for key, value in values.items():
        here = (*at, key)
        found += _leaves(value, here) if isinstance(value, dict) and value else [here]
    return found
