"""``thunderctl profile``: which profiles there are, what one says and where each value comes from, whether it holds.

Only prints. Reading and merging live in ``profile_files.py``; errors go up to the main app, except in ``validate``,
whose result they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from thunderctl.cli import complete
from thunderctl.errors import ExitCode, ProfileError
from thunderctl.profile_files import ResolvedProfile, list_profiles, load_profile

app = typer.Typer(
    name="profile",
    help="List, show and check profiles: the YAML files that say what 'thunderctl up' starts.",
    no_args_is_help=True,
    rich_markup_mode=None,  # examples keep their lines, and brackets stay brackets
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "-c",
        "--set",
        metavar="KEY=VALUE",
        help="Override one key, for example -c workers.count=2; may be repeated. null takes the default.",
    ),
]


@app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """List every profile that can be named: the bundled ones and your own.

    Your own lie in profiles/NAME.yaml under the home folder (THUNDERCTL_HOME). A bundled profile of the same name
    comes first; yours is then marked "hidden" and can still be given as a path.

    \b
    Examples:
      thunderctl profile list
      thunderctl profile list --json
    """
    entries = list_profiles()
    if as_json:
        keys = ("name", "kind", "description", "path", "problem")
        _print_json([{key: _plain(getattr(entry, key)) for key in keys} for entry in entries])
        return
    table = Table(box=None, pad_edge=False)
    for title in ("name", "kind", "description"):
        table.add_column(title, no_wrap=title != "description")
    for entry in entries:
        about = Text(entry.description) if entry.problem is None else Text(entry.problem, style="red")
        table.add_row(Text(entry.name), entry.kind, about)
    Console().print(table)


@app.command("show")
def show_command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A profile's name, or the path of a YAML file.", autocompletion=complete.profiles
        ),
    ],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Print a profile as it holds after 'extends' and overrides, and where each value was said.

    What is printed is itself a profile: YAML, with the file and line of every value as a comment.

    \b
    Examples:
      thunderctl profile show laptop
      thunderctl profile show laptop -c workers.kv_tokens=61440 -c runs.agents=24
      thunderctl profile show ./mine.yaml --json
    """
    resolved = load_profile(name, overrides or ())
    if as_json:
        profile = resolved.profile.model_dump(mode="json")
        _print_json({"profile": profile, "sources": resolved.sources, "digest": resolved.digest})
        return
    Console().print(_annotated(resolved), soft_wrap=True, highlight=False)


@app.command("validate")
def validate_command(
    names: Annotated[list[str], typer.Argument(metavar="NAME_OR_PATH...", help="Profiles' names, or YAML files.")],
    as_json: AsJson = False,
) -> None:
    """Check profiles without starting anything; exits with 2 if any of them is wrong.

    Every profile is looked at, also after one that failed. Whether the engine, the model and the GPUs are there
    is not looked at.

    \b
    Examples:
      thunderctl profile validate laptop
      thunderctl profile validate profiles/*.yaml
      thunderctl profile validate ./mine.yaml --json
    """
    console = Console()
    results: list[dict[str, Any]] = []
    for name in names:
        try:
            digest = load_profile(name).digest
        except ProfileError as error:
            trouble = {"message": error.message, "hint": error.hint, "details": error.details}
            results.append({"profile": name, "ok": False, **trouble})
            if not as_json:
                console.print(_failure(name, error), soft_wrap=True, highlight=False)
            continue
        results.append({"profile": name, "ok": True, "digest": digest})
        if not as_json:
            line = Text.assemble((f"{name}: ", ""), ("ok", "green"), (f"  {digest}", "dim"))
            console.print(line, soft_wrap=True, highlight=False)
    if as_json:
        _print_json(results)
    if not all(result["ok"] for result in results):
        raise typer.Exit(int(ExitCode.USAGE))


def _failure(name: str, error: ProfileError) -> Text:
    text = Text.assemble((f"{name}: ", ""), ("wrong", "red"), (f"\n  {error.message}", ""))
    for detail in error.details:
        text.append(f"\n    {detail}")
    if error.hint:
        text.append(f"\n  {error.hint}", style="dim")
    return text


def _annotated(resolved: ResolvedProfile) -> Text:
    """The whole profile as YAML, each leaf followed by its source, the sources in one column."""
    lines = list(_lines(resolved.profile.model_dump(mode="json"), resolved.sources))
    # One long line (a description) must not push the sources of all others off the screen.
    column = max((len(line) for line, source in lines if source and len(line) <= 60), default=0) + 2
    text = Text.assemble((f"# {resolved.origin}, digest {resolved.digest}", "dim"))
    for line, source in lines:
        text.append(f"\n{line}")
        if source:
            text.append(" " * max(2, column - len(line)))
            text.append(f"# {source}", style="dim")
    return text


def _lines(
    values: Mapping[str, Any], sources: Mapping[str, str], at: tuple[str, ...] = ()
) -> Iterator[tuple[str, str]]:
    indent = "  " * len(at)
    for key, value in values.items():
        here = (*at, key)
        if isinstance(value, dict) and value:
            yield f"{indent}{_inline(key)}:", ""
            yield from _lines(value, sources, here)
        else:
            yield f"{indent}{_inline(key)}: {_inline(value)}", sources[".".join(here)]


def _inline(value: object) -> str:
    """``value`` as YAML on one line."""
    dumped = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    text = dumped.removesuffix("\n").removesuffix("\n...")
    if text.splitlines() == [text]:
        return text
    # Line ends (U+0085 and U+2028 are such to YAML too) would be folded and lost: escape them.
    return yaml.safe_dump(value, default_flow_style=True, width=float("inf"), default_style='"').removesuffix("\n")


def _plain(value: object) -> str | None:
    return None if value is None else str(value)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
