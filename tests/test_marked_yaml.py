"""The safe reader: what it refuses, where it says so, and the lines that it remembers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderctl import marked_yaml
from thunderctl.marked_yaml import YamlProblem, parse, read


def test_every_key_and_element_knows_its_line() -> None:
    document = parse("a: 1\nb:\n  c: [x,\n    y]\n  d: {e: 2}\n")
    assert document.value == {"a": 1, "b": {"c": ["x", "y"], "d": {"e": 2}}}
    assert document.lines == {
        ("a",): 1,
        ("b",): 2,
        ("b", "c"): 3,
        ("b", "c", 0): 3,
        ("b", "c", 1): 4,
        ("b", "d"): 5,
        ("b", "d", "e"): 5,
    }


def test_an_alias_gives_the_value_of_its_anchor() -> None:
    assert parse("a: &x [1, 2]\nb: *x").value == {"a": [1, 2], "b": [1, 2]}


def test_an_empty_text_is_none() -> None:
    assert parse("# nothing\n").value is None


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        ("a: 1\nb:\n  c: 2\n  c: 3", "says the key b.c twice; the first is on line 3", 4),
        ("a: [1,\n  2", "is not valid YAML", 2),
        ("a:\n\tb: 1", "indent with spaces", 2),
        ("a: 1\n---\nb: 2", "more than one document", 2),
        ("a: 1\n2: 3", "has a key that is not text (2)", 2),
        ("? [a]\n: 3", "has a key that is not text (a list or mapping)", 1),
        ("a: &x [*x]", "contains itself", 1),
        ("a: {}\nb:\n  <<: {c: 1}", "merge key", 3),
        ("a: 2024-99-99", "not a valid timestamp", 1),
        ("a: !!int ''", "not a valid int", 1),
        ("a: !!bool maybe", "not a valid bool", 1),
        ("a: !!python/object/apply:os.getcwd []", "which is not allowed", 1),
        ("a: !!python/name:os.getcwd ''", "could not determine a constructor", 1),
        ("a: !!set {b}", "uses the tag !!set", 1),
        ("a: 1\nb: \x07", "control character U+0007", 2),
        ("a: *nothing", "undefined alias", 1),
        ("[" * 5000, "nested too deeply", None),
        ("a: " + "9" * 5000, "not a valid int", 1),
    ],
)
def test_what_cannot_be_trusted_is_refused_with_its_line(text: str, reason: str, line: int | None) -> None:
    with pytest.raises(YamlProblem) as caught:
        parse(text)
    assert reason in caught.value.reason
    assert caught.value.line == line


def test_aliases_that_multiply_are_refused() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    with pytest.raises(YamlProblem, match="when its aliases are followed"):
        parse("\n".join(levels))


def test_a_long_text_that_aliases_repeat_is_refused() -> None:
    with pytest.raises(YamlProblem, match="when its aliases are followed"):
        parse(f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 20)}]")


def test_a_file_that_is_too_large_is_not_parsed(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_text("# " + "x" * marked_yaml.MAX_BYTES)
    with pytest.raises(YamlProblem, match="is larger than 256 KiB"):
        read(file)


def test_a_byte_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(YamlProblem, match="is not UTF-8 text") as caught:
        read(file)
    assert caught.value.line == 2


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    with pytest.raises(YamlProblem, match="is not a plain file"):
        read(pipe)


@pytest.mark.parametrize("name", ["missing.yaml", "nul\0.yaml", "x" * 300 + ".yaml"])
def test_a_file_that_cannot_be_opened_is_a_problem(tmp_path: Path, name: str) -> None:
    with pytest.raises(YamlProblem, match="cannot be read"):
        read(tmp_path / name)


def test_a_link_to_itself_is_a_problem(tmp_path: Path) -> None:
    link = tmp_path / "loop.yaml"
    link.symlink_to(link)
    with pytest.raises(YamlProblem, match="cannot be read"):
        read(link)


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from(list("ab:,-[]{}&*!?|>'\"#%@<=~ \n\t019.\x00é")), max_size=60))
def test_any_text_is_a_document_or_a_problem(text: str) -> None:
    try:
        parse(text)
    except YamlProblem as problem:
        assert problem.reason


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None)
@given(_values, st.booleans())
def test_what_yaml_wrote_is_read_back_with_a_line_for_everything_in_it(value: object, flow: bool) -> None:
    document = parse(yaml.safe_dump(value, default_flow_style=flow))
    assert document.value == value

    def count(inner: object) -> int:
        children = inner if isinstance(inner, list) else list(inner.values()) if isinstance(inner, dict) else []
        return len(children) + sum(count(child) for child in children)

    assert len(document.lines) == count(value)
