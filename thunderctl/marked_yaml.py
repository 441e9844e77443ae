"""Reads one YAML document from an untrusted file and remembers the line of every key and list element.

Safe types only. Refused, each with its place: duplicate keys, keys that are not text, merge keys (``<<``), more than
one document, values that contain themselves, and aliases that expand a small file into a huge value. Nothing here
knows what the document means; callers turn :class:`YamlProblem` into the error of their own border.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]
"""Where a value sits in a document: mapping keys and list indices from the top."""

MAX_BYTES = 256 * 1024
"""Largest file that is read. Written by hand, a profile or a task stays under a tenth of it."""
MAX_EXPANDED = 1_000_000
"""Most characters and values that a document may hold once its aliases are followed."""


class YamlProblem(Exception):
    """What is wrong, and where (line and column count from 1; ``None`` where no place can be named)."""

    def __init__(self, reason: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class MarkedYaml:
    """A document's plain value, and the line on which each of its keys and elements stands."""

    value: Any
    lines: Mapping[KeyPath, int]


def read(path: Path) -> MarkedYaml:
    """The document in the file ``path``; ``YamlProblem`` if it cannot be read or is not one YAML document."""
    try:
        # A device or a pipe could be endless or block for ever; only a plain file has an end.
        if path.exists() and not path.is_file():
            raise YamlProblem("is a directory, not a file" if path.is_dir() else "is not a plain file")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise YamlProblem(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(raw) > MAX_BYTES:
        raise YamlProblem(f"is larger than {MAX_BYTES // 1024} KiB")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise YamlProblem(f"is not UTF-8 text (byte 0x{raw[error.start]:02x})", line) from error
    return parse(text)


def parse(text: str) -> MarkedYaml:
    """The one document in ``text``; an empty text is ``None``."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return MarkedYaml(None, {})
            walk = _Walk(loader)
            return MarkedYaml(walk.value_of(root, ()), walk.lines)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = error.problem or error.context or "cannot be parsed"
        if "'\\t'" in reason:
            reason += " (indent with spaces, not with tabs)"
        elif "another document" in reason:
            reason = "more than one document in the file"
        place = (None, None) if mark is None else (mark.line + 1, mark.column + 1)
        raise YamlProblem(f"is not valid YAML: {reason}", *place) from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        character = f"U+{ord(text[error.position]):04X}"
        raise YamlProblem(f"holds the control character {character}", line, column) from error
    except RecursionError:
        raise YamlProblem("is nested too deeply") from None


class _Walk:
    """Turns composed nodes into plain values. Our own, since PyYAML keeps the last of duplicate keys silently."""

    def __init__(self, loader: yaml.SafeLoader) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._loader = loader
        self._open: set[int] = set()
        self._budget = MAX_EXPANDED

    def value_of(self, node: yaml.Node, at: KeyPath) -> Any:
        self._budget -= 1 + (len(node.value) if isinstance(node, yaml.ScalarNode) else 0)
        if self._budget < 0:
            raise YamlProblem("grows beyond all measure when its aliases are followed")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if id(node) in self._open:
            raise YamlProblem("holds a value that contains itself", node.start_mark.line + 1)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
                return self._mapping(node, at)
            if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
                elements = []
                for index, element in enumerate(node.value):
                    self.lines[(*at, index)] = element.start_mark.line + 1
                    elements.append(self.value_of(element, (*at, index)))
                return elements
        finally:
            self._open.discard(id(node))
        raise _at(node, f"uses the tag {node.tag.replace('tag:yaml.org,2002:', '!!')}, which is not allowed")

    def _mapping(self, node: yaml.MappingNode, at: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                # Merging lists of aliases grows exponentially, and hides where a value came from.
                raise _at(key_node, "uses a merge key (<<), which is not supported")
            key = self.value_of(key_node, at) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                said = key_node.value if isinstance(key_node, yaml.ScalarNode) else "a list or mapping"
                raise _at(key_node, f"has a key that is not text ({said}); put it in quotes")
            here = (*at, key)
            if key in values:
                dotted = ".".join(str(part) for part in here)
                raise _at(key_node, f"says the key {dotted} twice; the first is on line {self.lines[here]}")
            self.lines[here] = key_node.start_mark.line + 1
            values[key] = self.value_of(value_node, here)
        return values

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        try:
            return self._loader.construct_object(node, deep=True)
        except (ValueError, LookupError, ArithmeticError, AttributeError) as error:
            # PyYAML lets the constructors' own exceptions out: ``2024-99-99``, ``!!bool maybe``, ``!!int ''``.
            kind = node.tag.rpartition(":")[2]
            raise _at(node, f"has a value that is not a valid {kind}: {node.value[:60]!r}") from error


def _at(node: yaml.Node, reason: str) -> YamlProblem:
    return YamlProblem(reason, node.start_mark.line + 1, node.start_mark.column + 1)
