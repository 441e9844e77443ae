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
    doctor,
    engine,
    env,
    explain,
    gc,
    node,
    plan,
    profile,
    report,
    run,
    simulate,
    trace,
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
app.command("logs")(node.logs)
app.command("explain")(explain.explain)
app.command("run")(run.run)
app.command("compare")(compare.compare)
app.command("simulate")(simulate.simulate)
app.command("plan")(plan.plan)
app.command("calibrate")(calibrate.calibrate)
app.command("report")(report.report)
app.command("gc")(gc.gc)
app.command("doctor")(doctor.doctor)
app.add_typer(trace.app, name="trace")
bench.app.command("gateway")(bench_gateway.gateway)
bench.app.command("environments")(bench_environments.environments)
app.add_typer(bench.app, name="bench")
app.add_typer(profile.app, name="profile")
app.add_typer(engine.app, name="engine")
app.add_typer(env.app, name="env")


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except ThunderError as error:
        print_error(error)
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
        print_error(full)
        sys.exit(full.exit_code)


if __name__ == "__main__":
    main()
