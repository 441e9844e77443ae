"""Every error a person may see, and the exit code each one leads to.

One type per border that is crossed. A message says what was wrong and where; ``hint`` says what to do.
Anything else that reaches the command line is a bug of ours and shows its traceback.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command; the same table stands in the README."""

    OK = 0
    FAILED = 1
    USAGE = 2
    PREFLIGHT = 3
    TOO_MANY_ERRORS = 4
    BELOW_LIMIT = 5
    INTERRUPTED = 130


class ThunderError(Exception):
    """Something that the person in front of the terminal can act upon."""

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str | None = None, details: list[str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details or []


class UsageError(ThunderError):
    """A command line that cannot be carried out as written."""

    exit_code = ExitCode.USAGE


class ProfileError(UsageError):
    """A profile that cannot be read; names file, line and key."""


class WorkloadError(UsageError):
    """A workload, task folder or data set that cannot be read."""


class PreflightError(ThunderError):
    """Something that the work needs is missing; nothing was started."""

    exit_code = ExitCode.PREFLIGHT


class EngineError(PreflightError):
    """An engine environment that cannot be made, or an engine that did not start."""


class EnvironmentFailure(ThunderError):
    """A tool environment that could not be prepared, used or reclaimed."""


class DaemonError(ThunderError):
    """The daemon did not answer, or refused."""


class TooManyErrors(ThunderError):
    """More programs of a run failed than the run allows."""

    exit_code = ExitCode.TOO_MANY_ERRORS


class BelowLimit(ThunderError):
    """A comparison that did not reach the ratio which it had to."""

    exit_code = ExitCode.BELOW_LIMIT
