"""``thunderctl``: composes the commands, and turns errors into messages and exit codes. No command lives here."""

from __future__ import annotations

import errno
import sys

import typer

from thunderctl import __version__
from thunderctl.cli import (
    bench,
    bench_environments,
    bench_gateway,
    calibrate,
    compare,
    docs,
    doctor,
    engine,
    env,
    evaluate,
    explain,
    gc,
    metrics,
    node,
    plan,
    profile,
    report,
    rollout,
    run,
    simulate,
    top,
    trace,
    workload,
)
from thunderctl.cli.show import print_error
from thunderctl.errors import ExitCode, PreflightError, ThunderError

app = typer.Typer(
    name="thunderctl",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    help="Run hundreds of LLM agents on your own GPUs: vLLM workers, a program-aware scheduler and leased tool "
    "environments, from one profile.",
    epilog="First steps: `thunderctl run swebench --agents 8`, then `thunderctl report`.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"thunderctl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


app.command("up")(node.up)
app.command("down")(node.down)
app.command("status")(node.status)
app.command("ps")(node.ps)
app.command("top")(top.top)
app.command("logs")(node.logs)
app.command("explain")(explain.explain)
app.command("run")(run.run)
app.command("compare")(compare.compare)
app.command("simulate")(simulate.simulate)
app.command("plan")(plan.plan)
app.command("calibrate")(calibrate.calibrate)
app.command("report")(report.report)
app.command("evaluate")(evaluate.evaluate)
app.command("gc")(gc.gc)
app.command("doctor")(doctor.doctor)
app.command("docs")(docs.docs)
app.add_typer(rollout.app, name="rollout")
app.add_typer(trace.app, name="trace")
app.add_typer(metrics.app, name="metrics")
app.add_typer(workload.app, name="workload")
bench.app.command("gateway")(bench_gateway.gateway)
bench.app.command("environments")(bench_environments.environments)
app.add_typer(bench.app, name="bench")
app.add_typer(profile.app, name="profile")
app.add_typer(engine.app, name="engine")
app.add_typer(env.app, name="env")

PANELS = {
    "Run agents, and see what came of it": ("run", "rollout", "compare", "workload", "report", "evaluate"),
    "The node that they run on": ("up", "down", "status", "top", "ps", "logs", "explain", "env", "metrics"),
    "Without GPUs, and before a run": ("simulate", "plan", "calibrate", "trace", "bench"),
    "This machine": ("doctor", "gc", "profile", "engine", "docs"),
}
"""Commands as a person looks for them. One that is not here stands under "More"."""

docs.arrange(app, PANELS)


def _words() -> str:
    """The command of this process, without options and arguments: ``thunderctl env image build``."""
    command, words = typer.main.get_command(app), ["thunderctl"]
    for word in sys.argv[1:]:
        if word not in getattr(command, "commands", {}):
            break
        command = command.commands[word]  # type: ignore[attr-defined]
        words.append(word)
    return " ".join(words)


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except ThunderError as error:
        print_error(error, _words())
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        full = PreflightError(
            f"the disk is full: {error.filename or 'a file'} could not be written",
            hint="make room, or choose other places with THUNDERCTL_HOME and THUNDERCTL_CACHE",
        )
        print_error(full, _words())
        sys.exit(full.exit_code)


if __name__ == "__main__":
    main()
