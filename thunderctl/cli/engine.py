"""``thunderctl engine``: make, list and remove the environments that vLLM runs in. Only prints."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table

from thunderctl.cli.show import AsJson, out, print_json, ticker
from thunderctl.errors import UsageError
from thunderctl.workers.engine import EngineEnvironment, ensure_engine, installed_engines, remove_engine

app = typer.Typer(
    name="engine",
    help="Install, list and remove engine environments (vLLM). 'up' and 'run' install what they need by themselves.",
    no_args_is_help=True,
    rich_markup_mode=None,  # examples keep their lines, and brackets stay brackets
)


class Kind(StrEnum):
    """Engines that can be installed."""

    CPU = "cpu"
    CUDA = "cuda"


KindArgument = Annotated[Kind, typer.Argument(help="cpu or cuda (NVIDIA GPUs).")]


@app.command("install")
def install_command(
    kind: KindArgument,
    version: Annotated[
        str | None, typer.Option("--version", metavar="V", help="Another vLLM version than the locked one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Install vLLM into an environment of its own, unless it is there already.

    Packages come from where pip's configuration says. The locked version is known to work; another one is resolved
    by pip and may not.

    \b
    Examples:
      thunderctl engine install cpu
      thunderctl engine install cuda --version 0.22.1
    """
    with ticker() as progress:
        engine = ensure_engine(kind.value, version, progress=progress)
    if as_json:
        print_json(_as_data(engine))
    else:
        out.print(f"{engine.kind} {engine.version} is ready: {engine.folder}", soft_wrap=True, highlight=False)


@app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """List the installed environments.

    \b
    Examples:
      thunderctl engine list
      thunderctl engine list --json
    """
    engines = installed_engines()
    if as_json:
        print_json({"engines": [_as_data(engine) for engine in engines]})
        return
    if not engines:
        out.print("no engine is installed; `thunderctl engine install cpu` does it", highlight=False)
        return
    table = Table(box=None, pad_edge=False)
    for title in ("kind", "version", "folder"):
        table.add_column(title, overflow="fold")
    for engine in engines:
        table.add_row(engine.kind, engine.version, str(engine.folder))
    out.print(table)


@app.command("remove")
def remove_command(
    kind: KindArgument,
    version: Annotated[
        str | None, typer.Option("--version", metavar="V", help="Only this version; without it all of the kind.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Delete environments. One that a running process uses is kept, and that is an error.

    \b
    Examples:
      thunderctl engine remove cpu
      thunderctl engine remove cuda --version 0.22.1
    """
    gone = remove_engine(kind.value, version)
    if not gone:
        which = f"{kind.value} {version}" if version else kind.value
        raise UsageError(f"no {which} engine is installed", hint="`thunderctl engine list` shows what there is")
    if as_json:
        print_json({"removed": [str(folder) for folder in gone]})
    else:
        for folder in gone:
            out.print(f"removed {folder}", soft_wrap=True, highlight=False)


def _as_data(engine: EngineEnvironment) -> dict[str, Any]:
    return {
        "kind": engine.kind,
        "version": engine.version,
        "python": str(engine.python),
        "folder": str(engine.folder) if engine.folder else None,
    }
