"""What commands say of themselves, in one place: help texts with their examples, commands in groups, and ``docs``, the
page that is made of them, of the README and of the docstrings that a user may want.

A command's docstring is prose, then a line ``Examples:`` and a command line each, indented. Everything else follows
from that and from the options' own help.
"""

from __future__ import annotations

import html
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from markdown_it import MarkdownIt
from typer.main import get_command

import thunderctl
from thunderctl.cli.show import AsJson, out, print_json
from thunderctl.core.policies import POLICIES
from thunderctl.errors import UsageError
from thunderctl.profile import Profile
from thunderctl.runs.store import write_whole

MORE = "More"
_EXAMPLES = re.compile(r"^Examples?:[ \t]*\n(?P<lines>(?:[ \t]*\n|[ \t]+\S.*\n?)+)", re.MULTILINE)

PAGES = (
    ("What a run stores", "thunderctl.runs.store"),
    ("What the figures mean", "thunderctl.report.stats"),
    ("What a roll-out's figures mean", "thunderctl.rollouts.figures"),
    ("Progress as JSON lines", "thunderctl.cli.live_lines"),
)
"""Modules whose docstrings a user may want, with a title each; the policies follow by themselves."""


class Format(StrEnum):
    html = "html"
    md = "md"


@dataclass(frozen=True, slots=True)
class Said:
    """A docstring: what it says, and the command lines it shows."""

    prose: str
    examples: tuple[str, ...]

    @property
    def first_sentence(self) -> str:
        paragraph = " ".join(self.prose.split("\n\n")[0].split())
        return re.split(r"(?<=[^.][.])\s+(?=[A-Z'\"`])", paragraph)[0].removesuffix(".")

    def as_help(self) -> str:
        """For ``--help``, as Markdown: an indented block would lose its lines there, a fenced one keeps them."""
        shown = "\n".join(self.examples)
        return f"{self.prose}\n\nExamples:\n\n```\n{shown}\n```" if self.examples else self.prose


def understand(docstring: str | None) -> Said:
    text = inspect.cleandoc(docstring or "")
    found = _EXAMPLES.search(text)
    if found is None:
        return Said(text, ())
    lines = [line.strip() for line in found["lines"].splitlines() if line.strip()]
    rest = text[found.end() :].strip()
    return Said("\n\n".join(part for part in (text[: found.start()].strip(), rest) if part), tuple(lines))


def arrange(app: typer.Typer, panels: Mapping[str, Sequence[str]]) -> None:
    """Put the commands of ``app`` into ``panels`` (title → names), in that order, and set everybody's help texts."""
    panel_of = {name: title for title, names in panels.items() for name in names}
    order = list(panel_of)
    for commands in (app.registered_commands, app.registered_groups):
        commands.sort(key=lambda info: order.index(info.name) if info.name in order else len(order))
        for info in commands:
            info.rich_help_panel = panel_of.get(info.name or "", MORE)
    _set_texts(app)


def _set_texts(app: typer.Typer) -> None:
    for command in app.registered_commands:
        said = understand(command.help or (command.callback.__doc__ if command.callback else ""))
        command.help, command.short_help = said.as_help(), said.first_sentence
    for group in app.registered_groups:
        if group.typer_instance is not None:
            _set_texts(group.typer_instance)


# ------------------------------------------------------------------ the page


@dataclass(frozen=True, slots=True)
class Command:
    """A command as ``--help`` tells of it."""

    path: str
    usage: str
    said: Said
    options: tuple[tuple[str, str, str], ...]
    """Declaration, help and default of each."""


def commands(app: typer.Typer) -> Iterator[Command]:
    """Every command that does something, groups opened up, in the order of ``--help``."""
    yield from _below(get_command(app), "thunderctl")


def _below(command: Any, path: str) -> Iterator[Command]:
    if hasattr(command, "commands"):
        for name, each in command.commands.items():
            if not each.hidden:
                yield from _below(each, f"{path} {name}")
        return
    context = command.make_context(path, [], resilient_parsing=True)
    usage = f"{path} {' '.join(command.collect_usage_pieces(context))}"
    options = tuple(_option(param, context) for param in command.params if not getattr(param, "hidden", False))
    yield Command(path, usage, understand(_unfenced(command.help or "")), options)


def _unfenced(help_text: str) -> str:
    """The docstring that :meth:`Said.as_help` was made from."""
    return re.sub(
        r"```\n(.*?)\n```", lambda m: re.sub(r"^", "    ", m[1], flags=re.MULTILINE), help_text, flags=re.DOTALL
    )


def _option(param: Any, context: Any) -> tuple[str, str, str]:
    if param.param_type_name == "argument":
        declared = str(param.metavar or param.name)
    else:
        declared = ", ".join([*param.opts, *param.secondary_opts])
    default = param.get_default(context, call=False)
    shown = "" if default in (None, False, (), []) or callable(default) else str(getattr(default, "value", default))
    return declared, " ".join((getattr(param, "help", None) or "").split()), shown


def as_markdown(app: typer.Typer) -> str:
    """The whole page."""
    parts = [readme(), "# Commands", *map(_command, commands(app)), "# Keys of a profile", *_keys(), "# Policies"]
    parts += [f"## {name}\n\n{_docstring(inspect.getmodule(each))}" for name, each in POLICIES.items()]
    for title, module in PAGES:
        parts.append(f"# {title}\n\n{_docstring(importlib.import_module(module))}")
    return "\n\n".join(parts) + "\n"


def readme() -> str:
    """The README: of the checkout, or of the package's own description."""
    file = Path(thunderctl.__file__).resolve().parent.parent / "README.md"
    if file.is_file():
        return file.read_text().strip()
    return str(metadata.metadata("thunderctl").get_payload()).strip()  # type: ignore[attr-defined]


def _command(command: Command) -> str:
    lines = [f"## {command.path}", f"    {command.usage}", _plain_quotes(command.said.prose)]
    if command.said.examples:
        lines.append("Examples:\n\n" + "\n".join(f"    {line}" for line in command.said.examples))
    rows = [f"| `{declared}` | {_cell(text)} | {_cell(default)} |" for declared, text, default in command.options]
    if rows:
        lines.append("\n".join(["| option | what it says | default |", "| --- | --- | --- |", *rows]))
    return "\n\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _plain_quotes(text: str) -> str:
    """reStructuredText's double quotes as Markdown's single ones, and its roles as the names that they are."""
    return re.sub(r"``([^`\n]+)``", r"`\1`", re.sub(r":\w+:`~?\.?([^`]+)`", r"`\1`", text))


def _docstring(thing: Any) -> str:
    return _plain_quotes(inspect.getdoc(thing) or "")


def _keys() -> Iterator[str]:
    """Every key with its default and what the schema's source says under it."""
    for name, field in Profile.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and hasattr(section, "model_fields"):
            yield f"## {name}\n\n{_docstring(section)}"
            said = _attribute_docs(section)
            rows = [
                f"| `{name}.{key}` | {_cell(_default(each))} | {_cell(said.get(key, ''))} |"
                for key, each in section.model_fields.items()
            ]
            yield "\n".join(["| key | default | meaning |", "| --- | --- | --- |", *rows])


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "" if value is None else f"`{value}`"


def _attribute_docs(section: type) -> dict[str, str]:
    """The strings that stand under the attributes of a class."""
    source = inspect.getsource(section)
    found = re.findall(r'^    (\w+):[^\n]*\n    """(.*?)"""', source, re.MULTILINE | re.DOTALL)
    return {name: _plain_quotes(" ".join(text.split())) for name, text in found}


STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --line: #d0d7de; --code: #f3f5f7; --link: #0b57a4 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --paper: #14171b; --line: #3a424c; --code: #1f242b; --link: #7cb7ff }
}
body { color: var(--ink); background: var(--paper); font: 16px/1.55 system-ui, sans-serif; margin: 0 }
nav, main { padding: 1.5rem; max-width: 60rem }
@media (min-width: 70rem) {
  body { display: grid; grid-template-columns: 18rem 1fr }
  nav {
    position: sticky; top: 0; height: 100vh; overflow: auto; box-sizing: border-box;
    border-right: 1px solid var(--line)
  }
}
nav ol { list-style: none; padding: 0; margin: 0 } nav .deeper { padding-left: 1rem; font-size: .9em }
a { color: var(--link) } pre, code { background: var(--code); font-family: ui-monospace, monospace; font-size: .92em }
pre { padding: .8rem; overflow-x: auto } code { padding: .1em .25em } pre code { padding: 0 }
table { border-collapse: collapse; display: block; overflow-x: auto }
td, th { border: 1px solid var(--line); padding: .35rem .6rem; text-align: left; vertical-align: top }
h1 { border-top: 2px solid var(--line); padding-top: 1rem; margin-top: 2.5rem }
@media print { nav { display: none } }
"""


def as_html(markdown: str) -> str:
    """One page that needs nothing else, with a table of contents of its first two ranks of headings."""
    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(markdown)
    entries, taken = [], set[str]()
    for number, token in enumerate(tokens):
        if token.type == "heading_open" and token.tag in ("h1", "h2"):
            title = tokens[number + 1].content
            place = _anchor(title, taken)
            token.attrSet("id", place)
            entries.append((token.tag, place, title))
    body = parser.renderer.render(tokens, parser.options, {})
    contents = "\n".join(
        f'<li{" class=deeper" if tag == "h2" else ""}><a href="#{place}">{html.escape(title.replace("`", ""))}</a></li>'
        for tag, place, title in entries
    )
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>thunderctl</title>\n'
        f'<style>{STYLE}</style>\n<nav aria-label="Contents"><ol>\n{contents}\n</ol></nav>\n'
        f"<main>\n{body}</main>\n</html>\n"
    )


def _anchor(title: str, taken: set[str]) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "part"
    name, number = plain, 2
    while name in taken:
        name, number = f"{plain}-{number}", number + 1
    taken.add(name)
    return name


def docs(
    form: Annotated[
        Format | None, typer.Option("--format", help="html or md; without it as the file's name ends, or md.")
    ] = None,
    to: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; without it standard output.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make one page of everything: README, every command, every key of a profile, policies, file formats.

    Examples:

        thunderctl docs --out thunderctl.html
        thunderctl docs --format md | less
    """
    from thunderctl.cli.main import app  # it registers this very command

    chosen = form or (Format(to.suffix[1:]) if to and to.suffix[1:] in list(Format) else Format.md)
    page = as_markdown(app)
    text = page if chosen is Format.md else as_html(page)
    if to is None and not as_json:
        typer.echo(text, nl=False)
        return
    if to is not None:
        if not to.parent.is_dir():
            raise UsageError(f"{to.parent} is no folder", hint=f"mkdir -p {to.parent}")
        write_whole(to, text)
    if as_json:
        told = {"format": chosen.value, "file": str(to.absolute()) if to else None, "bytes": len(text.encode())}
        print_json({**told, **({} if to else {"text": text})})
    else:
        out.print(f"written to {to}", soft_wrap=True, highlight=False)
