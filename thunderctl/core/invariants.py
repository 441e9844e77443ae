"""What holds of a scheduler between any two events. Tests and the simulator ask after each event."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from thunderctl.core.ledger import WorkerLedger
from thunderctl.core.program import Call, Phase, Program, Status

if TYPE_CHECKING:
    from thunderctl.core.scheduler import Scheduler


def violations(scheduler: Scheduler) -> list[str]:
    """Invariants that do not hold, in words; empty if all do. O(programs)."""
    found: list[str] = []
    calls: dict[str, Call] = {}
    for program in scheduler.programs.values():
        calls.update(program.calls)
        found += _of_program(program, scheduler.workers)
        if program.origin is not None and program.weights != scheduler.weights:
            found.append(f"{program.id}: {program.origin} caches it for weights {program.weights}, which are gone")
    found += scheduler.preparation.mismatches(scheduler.programs)
    for ledger in scheduler.workers.values():
        found += ledger.mismatches(scheduler.now)
        if ledger.weights != scheduler.weights:
            found.append(f"{ledger.name} caches for weights {ledger.weights}, in force are {scheduler.weights}")
        found += [
            f"{name} counts on {ledger.name} without being there"
            for name in ledger.entries
            if name not in scheduler.programs or scheduler.programs[name].worker != ledger.name
        ]
    if calls != scheduler.calls:
        found.append("the index of calls differs from the programs' own")
    if scheduler.arriving or scheduler.touched:
        found.append("an event left work behind")
    return found


def _of_program(program: Program, workers: dict[str, WorkerLedger]) -> Iterator[str]:
    held = len(program.calls) - program.in_flight
    if (program.phase is Phase.REASONING) != bool(program.calls):
        yield f"{program.id}: {program.phase} with {len(program.calls)} calls"
    if program.status is Status.PAUSED and (program.in_flight or program.worker):
        yield f"{program.id}: paused, yet on {program.worker} with {program.in_flight} in flight"
    if program.status is Status.ACTIVE and (held or program.worker is None):
        yield f"{program.id}: active on {program.worker} with {held} calls held"
    if (program.paused_since is not None) != (program.status is Status.PAUSED and bool(program.calls)):
        yield f"{program.id}: waits since {program.paused_since}, {program.status}"
    ledger = workers.get(program.worker) if program.worker else None
    entry = ledger.entries.get(program.id) if ledger else None
    if ledger is not None and (entry is None or (entry.tokens, entry.phase) != (program.tokens, program.phase)):
        yield f"{program.id}: counts as {entry}, needs {program.tokens} {program.phase}"
