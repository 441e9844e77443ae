"""The page of everything: complete, in one file, and as a person wants to read it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.commandline import CommandLine
from thunderctl.cli.docs import as_html, as_markdown, commands
from thunderctl.cli.main import app
from thunderctl.core.policies import POLICIES
from thunderctl.profile import Profile


@pytest.fixture(scope="module")
def page() -> str:
    return as_markdown(app)


class Links(HTMLParser):
    """Places in a page, and where its links and resources lead."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []
        self.inside: list[str] = []
        self.resources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.places += [place] if (place := told.get("id")) else []
        target = told.get("href") or told.get("src") or ""
        if target.startswith("#"):
            self.inside.append(target[1:])
        elif target and tag != "a":
            self.resources.append(target)


def test_the_page_has_the_readme_every_command_every_key_and_every_policy(page: str) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text().strip()
    assert page.startswith(readme)
    for command in commands(app):
        assert f"## {command.path}\n" in page
        assert all(example in page for example in command.said.examples)
    for name, field in Profile.model_fields.items():
        for key in getattr(field.annotation, "model_fields", {}):
            assert f"`{name}.{key}`" in page
    assert all(f"## {name}\n" in page for name in POLICIES)


def test_what_stands_under_a_key_in_the_schema_stands_beside_it_on_the_page(page: str) -> None:
    row = next(line for line in page.splitlines() if line.startswith("| `gateway.port` |"))
    assert row == "| `gateway.port` | `0` | 0 lets the kernel choose; `thunderctl status` tells which. |"


def test_html_needs_nothing_else_and_its_contents_lead_somewhere(page: str) -> None:
    links = Links()
    links.feed(as_html(page))
    assert links.resources == []
    assert links.inside and set(links.inside) <= set(links.places)
    assert len(links.places) == len(set(links.places))


def test_no_reStructuredText_is_left_on_the_page(page: str) -> None:
    outside_code = "\n".join(line for line in page.splitlines() if not line.startswith("    "))
    assert re.findall(r"``[^`]+``|:class:|:func:|:mod:", re.sub(r"```.*?```", "", outside_code, flags=re.DOTALL)) == []


def test_the_format_follows_the_files_name_unless_it_is_said(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path / "home")
    told = cli.json("docs", "--out", str(tmp_path / "all.html"))
    assert told["format"] == "html" and told["bytes"] == (tmp_path / "all.html").stat().st_size
    assert (tmp_path / "all.html").read_text().startswith("<!doctype html>")
    refused = cli.run("docs", "--out", str(tmp_path / "nowhere" / "all.md"))
    assert refused.returncode == 2 and "mkdir -p" in refused.stderr
