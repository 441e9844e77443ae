"""``doctor``: what this machine has of what thunderctl can use, what is missing for what, and what to type then."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from thunderctl.cli import complete
from thunderctl.cli.show import AsJson, Overrides, out, print_json
from thunderctl.doctor.examine import examine
from thunderctl.doctor.finding import Finding, State
from thunderctl.errors import ExitCode
from thunderctl.profile_files import load_profile

_MARKS = {State.ok: ("ok", "green"), State.wanted: ("wanted", "yellow"), State.broken: ("broken", "bold red")}
WIDTH = 28
"""Cells of a finding's name."""


def doctor(
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            "-p",
            help="Ask what this profile needs, not only what there is.",
            autocompletion=complete.profiles,
        ),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Look at this machine: what is there, what is missing for what, and how to get it. Changes nothing.

    Exit code 3 if nothing can run, or not the profile that was asked about.

    Examples:

        thunderctl doctor
        thunderctl doctor --profile h100x8
        thunderctl doctor --json
    """
    asked = load_profile(profile, overrides or ()).profile if profile else None
    findings = examine(asked)
    broken = [finding for finding in findings if finding.state is State.broken]
    if as_json:
        print_json({"ok": not broken, "profile": profile, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            for line in _lines(finding):
                out.print(line, soft_wrap=True)
        out.print(_verdict(findings, profile), soft_wrap=True)
    if broken:
        raise typer.Exit(ExitCode.PREFLIGHT)


def _lines(finding: Finding) -> list[Text]:
    mark, style = _MARKS[finding.state]
    lines = [Text.assemble((f"{mark:<7}", style), (f"{finding.what:<{WIDTH}} ", "bold"), finding.found)]
    if finding.state is not State.ok:
        lines.append(Text(f"{'':8}needed for {finding.needed_for}", style="dim"))
        lines.append(Text.assemble(f"{'':8}fix: ", (finding.fix, "cyan")))
    return lines


def _verdict(findings: list[Finding], profile: str | None) -> Text:
    """What follows, and what to type next."""
    broken = [finding.what for finding in findings if finding.state is State.broken]
    if broken:
        return Text(f"\n{', '.join(broken)}: mend this first, then `thunderctl doctor` again", style="bold")
    command = f"thunderctl up {profile}" if profile else "thunderctl run swebench --agents 8"
    return Text(f"\nnext: {command}", style="bold")
