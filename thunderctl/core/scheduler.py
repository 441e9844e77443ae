"""The scheduler: ``handle(event, now) -> effects``. Bookkeeping lives here; every choice lives in a policy.

Two invariants make the rest simple. An ACTIVE program counts on exactly one worker's ledger, and each of its calls
is admitted. A PAUSED program counts nowhere, and each of its calls is held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thunderctl.core import events as ev
from thunderctl.core.effects import Admit, Effect, Paused, PrepareEnvironment, ReclaimEnvironment, Reject, Restored
from thunderctl.core.invariants import violations
from thunderctl.core.ledger import FadingSum, Line, WorkerLedger
from thunderctl.core.policies.base import Decision, Place, Policy
from thunderctl.core.preparation import Preparation
from thunderctl.core.program import ACTING, ACTIVE, PAUSED, TERMINATED, Call, Program, Verb
from thunderctl.core.tools import ToolTimes

NO_WORKER_RETRY_S = 5.0
"""Retry-After of a call that arrives while no worker is up."""
GROWTH_PRIOR_TOKENS = 500.0
"""Growth of a context from one step to the next before any was seen (told: 575 over 500 coding programs)."""
CONTEXT_PRIOR_TOKENS = 17_000.0
"""Length of a context before any was seen (recorded: mean over the steps of 380 coding programs)."""
LATE_S = 60.0
"""A call whose client has gone away may be read this long after the release that was sent behind it: a busy gateway
reads its connections in any order."""
GROWTH_WEIGHT = 0.02
"""Weight of the latest step in the running means: about the last 50 steps count."""


class Scheduler:
    """One global queue over all workers (arXiv 2602.13692, section 4.3), decided upon by ``policy``.

    ``program_ttl_s``: seconds of silence (no call, no tool) after which a program is released. ``prepare_ahead``: most
    tool environments that are prepared for programs which still wait.
    """

    def __init__(self, policy: Policy, *, program_ttl_s: float = 1800.0, prepare_ahead: int = 32) -> None:
        self.policy = policy
        self.program_ttl_s = program_ttl_s
        self.now = 0.0
        self.programs: dict[str, Program] = {}
        self.calls: dict[str, Call] = {}
        self.workers: dict[str, WorkerLedger] = {}
        self.touched: dict[str, None] = {}
        """Workers whose sums changed during the present event, in the order of change."""
        self.arriving: dict[str, None] = {}
        """ACTIVE programs with a call that is not admitted yet; empty between events."""
        self.growth_tokens = GROWTH_PRIOR_TOKENS
        """By how much a program's context grows from one step to the next, averaged over all programs lately."""
        self.context_tokens = CONTEXT_PRIOR_TOKENS
        """Length of a context after a call, averaged over all programs lately."""
        self.tools = ToolTimes()
        """How long tools take; without word of a tool, how long it is from one call to the next."""
        self.weights = 0
        """Version of the model's weights."""
        self.preparation = Preparation(prepare_ahead)
        self.forced_restores = 0
        self._releasing: set[str] = set()
        self._released_lately = Line()
        self._silent_until = Line()
        self._effects: list[Effect] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            ev.CallArrived: self._call_arrived,
            ev.CallCancelled: self._call_ended,
            ev.CallFailed: self._call_ended,
            ev.FirstToken: self._first_token,
            ev.CallProgress: self._progress,
            ev.CallFinished: self._call_finished,
            ev.CallBounced: self._call_bounced,
            ev.ToolStarted: self._tool_started,
            ev.ToolFinished: self._tool_finished,
            ev.EnvironmentWanted: self._environment_wanted,
            ev.EnvironmentReady: lambda event: self.preparation.ready(event.program, event.seconds),
            ev.EnvironmentFailed: lambda event: self.preparation.forget(event.program),
            ev.ProgramReleased: self._released,
            ev.WorkerUp: self._worker_up,
            ev.WorkerDraining: self._worker_draining,
            ev.WorkerLost: self._worker_lost,
            ev.WeightsChanged: self._weights_changed,
            ev.Timer: lambda _event: None,
        }

    # ------------------------------------------------------------------ the one door

    def handle(self, event: ev.Event, now: float) -> list[Effect]:
        """Take in one event and return what is to be done, in order. Late and duplicate events change nothing."""
        self.now = now = max(now, self.now)
        self._effects = []
        self._handlers[type(event)](event)
        while (silent := self._silent_until.first()) is not None and silent[0] <= now:
            self._fall_silent(silent[1])
        for decision in self.policy.decide(self, now):
            self._carry_out(decision)
        for program_id in self.arriving:
            self._admit_held(self.programs[program_id])
        self.arriving.clear()
        self.touched.clear()
        if self.preparation.pending:
            for name in self.preparation.due():
                early = self.programs[name].status is PAUSED
                self._effects.append(PrepareEnvironment(name, early))
        return self._effects

    def next_deadline(self) -> float | None:
        """When a ``Timer`` event is due at the latest; ``None`` if only other events can change anything."""
        times = [self.policy.next_check(self, self.now)]
        silent = self._silent_until.first()
        times.append(silent[0] if silent else None)
        return min((t for t in times if t is not None), default=None)

    @property
    def live_workers(self) -> list[WorkerLedger]:
        """Workers that may be given programs, in the order they came up."""
        return [w for w in self.workers.values() if not w.draining]

    # ------------------------------------------------------------------ calls

    def _call_arrived(self, event: ev.CallArrived) -> None:
        if event.call in self.calls:
            return
        for worker in self.workers.values():
            if not worker.draining:
                break
        else:
            self._effects.append(Reject(event.call, event.program, 503, NO_WORKER_RETRY_S, "no worker is up"))
            return
        if event.program in self._releasing:
            self._effects.append(Reject(event.call, event.program, 409, 0.0, "the program was released"))
            return
        program = self.programs.get(event.program)
        if program is not None and program.worker is not None and program.worker not in self.workers:
            # Its other calls still have to learn that their worker is gone; then it can be placed anew.
            self._effects.append(Reject(event.call, program.id, 503, NO_WORKER_RETRY_S, "its worker is gone"))
            return
        if program is None:
            program = Program(event.program, self.now, event.group, event.parent, since=self.now)
            self.programs[program.id] = program
        call = Call(event.call, program.id, max(1, event.prompt_tokens), self.now)
        if program.phase is ACTING:
            if program.worker is not None:
                self._ledger(program).cost.book_rest(program.tokens, self.now - program.since)
            if program.steps and not program.tool_ended:
                self.tools.add(program.tool, self.now - program.since)
            program.apply(Verb.CALL)
            program.since = self.now
        self._silent_until.remove(program.id)
        self.calls[call.id] = call
        program.calls[call.id] = call
        if program.status is ACTIVE and self._ledger(program).draining and program.in_flight == 0:
            self._pause(program, "its worker is draining", keeps_cache=False)
        if program.status is ACTIVE:
            self.arriving[program.id] = None
        elif program.paused_since is None:
            program.paused_since = self.now
        self._recount(program)

    def _first_token(self, event: ev.FirstToken) -> None:
        call = self.calls.get(event.call)
        if call is not None and call.first_token is None and call.worker is not None:
            call.first_token = self.now

    def _progress(self, event: ev.CallProgress) -> None:
        call = self.calls.get(event.call)
        if call is not None and call.worker is not None and event.output_tokens > call.output_tokens:
            call.output_tokens = event.output_tokens
            self._recount(self.programs[call.program])

    def _call_finished(self, event: ev.CallFinished) -> None:
        call = self.calls.get(event.call)
        if call is None or call.worker is None or call.admitted is None:
            return
        program = self.programs[call.program]
        if call.worker in self.workers:
            self._book(self.workers[call.worker], program, call, call.admitted, event)
            if not program.steps:
                self.workers[call.worker].learn_shared(event.cached_tokens, program.group)
        context = event.prompt_tokens + event.output_tokens
        program.finish(call, event.prompt_tokens, context)
        self._end(call)

    def _book(
        self, ledger: WorkerLedger, program: Program, call: Call, admitted: float, usage: ev.CallFinished
    ) -> None:
        """Book the finished call's space and time on its worker."""
        span = self.now - admitted
        if call.first_token is not None:
            prefill_s = call.first_token - admitted
        elif ledger.prefill_tokens_per_s:
            prefill_s = min(span, max(0, usage.prompt_tokens - usage.cached_tokens) / ledger.prefill_tokens_per_s)
        else:
            prefill_s = 0.0
        ledger.cost.book_call(
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.output_tokens,
            known_tokens=program.context_tokens,
            prefill_s=prefill_s,
            decode_s=span - prefill_s,
        )

    def _call_ended(self, event: ev.CallCancelled | ev.CallFailed) -> None:
        call = self.calls.get(event.call)
        if call is not None:
            program = self.programs[call.program]
            if call.first_token is not None:
                program.context_tokens = max(program.context_tokens, call.tokens)
            self._end(call)
            unheard = not program.steps and not program.calls and program.status is not TERMINATED
            if unheard and program.id in self._released_lately:
                self._terminate(program)  # nobody will release it again

    def _call_bounced(self, event: ev.CallBounced) -> None:
        call = self.calls.get(event.call)
        if call is None or call.worker is None:
            return
        program = self.programs[call.program]
        call.worker = call.admitted = call.first_token = None
        call.output_tokens = 0
        if not self.live_workers:
            self._effects.append(Reject(call.id, program.id, 503, NO_WORKER_RETRY_S, "no worker is up"))
            self._end(call)
        elif program.in_flight == 0:
            self._pause(program, "its worker did not answer", keeps_cache=False)
        elif program.worker in self.workers:
            self.arriving[program.id] = None
            self._recount(program)
        else:
            self._effects.append(Reject(call.id, program.id, 503, NO_WORKER_RETRY_S, "its worker is gone"))
            self._end(call)

    def _end(self, call: Call) -> None:
        """The call has had its one outcome; the program rests if it was the last."""
        program = self.programs[call.program]
        del self.calls[call.id]
        del program.calls[call.id]
        if program.calls:
            self._recount(program)
            return
        self.arriving.pop(program.id, None)
        grown = program.settle()
        if grown is not None:
            self.growth_tokens += GROWTH_WEIGHT * (grown - self.growth_tokens)
            self.context_tokens += GROWTH_WEIGHT * (program.rested_tokens - self.context_tokens)
        program.apply(Verb.REST)
        program.since = program.rested = self.now
        program.tool, program.tool_ended = "", False
        program.paused_since = None
        self._recount(program)
        self._silent_until.put(program.id, self.now + self.program_ttl_s)
        if program.id in self._releasing:
            self._terminate(program)
        elif program.worker is not None and program.worker not in self.workers:
            self._pause(program, "its worker is gone", keeps_cache=False)
        elif program.pause_when_rested and program.status is ACTIVE:
            self._pause(program, "marked while it was reasoning")

    def _admit_held(self, program: Program) -> None:
        assert program.worker is not None, program.id  # noqa: S101 - an invariant of this class
        for call in program.calls.values():
            if call.worker is None:
                call.worker = program.worker
                call.admitted = self.now
                waited = self.now - call.arrived
                program.waited_s += waited
                self._effects.append(Admit(call.id, program.id, program.worker, waited))

    # ------------------------------------------------------------------ tools and the end of programs

    def _tool_started(self, event: ev.ToolStarted) -> None:
        self._silent_until.remove(event.program)
        program = self.programs.get(event.program)
        if program is not None and program.phase is ACTING:
            program.tool, program.tool_ended = event.tool, False
            self._noticed(program)

    def _tool_finished(self, event: ev.ToolFinished) -> None:
        program = self.programs.get(event.program)
        if program is None and event.program in self.preparation:
            self._silent_until.put(event.program, self.now + self.program_ttl_s)
        if program is None or program.phase is not ACTING:
            return
        # Its next call is near, so its context counts in full again instead of fading on.
        if program.worker is not None:
            self._ledger(program).cost.book_rest(program.tokens, self.now - program.since)
        if not program.tool_ended:
            self.tools.add(program.tool, self.now - program.since)
        program.since, program.tool_ended = self.now, True
        self._recount(program)
        self._silent_until.put(program.id, self.now + self.program_ttl_s)

    def _environment_wanted(self, event: ev.EnvironmentWanted) -> None:
        self.preparation.want(event.program)
        self._released_lately.remove(event.program)  # it begins anew
        program = self.programs.get(event.program)
        if program is not None:
            self._noticed(program)
        else:  # its first call is still to come, and may never come
            self._silent_until.put(event.program, self.now + self.program_ttl_s)

    def _fall_silent(self, name: str) -> None:
        if name in self.programs:
            self._terminate(self.programs[name])
        else:
            self._silent_until.remove(name)
            self.preparation.forget(name)
            self._effects.append(ReclaimEnvironment(name))

    def _released(self, event: ev.ProgramReleased) -> None:
        while (late := self._released_lately.first()) is not None and late[0] < self.now - LATE_S:
            self._released_lately.remove(late[1])
        self._released_lately.put(event.program, self.now)
        program = self.programs.get(event.program)
        if program is None:
            if event.program in self.preparation:
                self._fall_silent(event.program)
            return
        for call in [c for c in program.calls.values() if c.worker is None]:
            self._effects.append(Reject(call.id, program.id, 409, 0.0, "the program was released"))
            self._end(call)
        if program.id not in self.programs:
            return  # it was being released already, and these calls were its last
        if program.calls:
            self._releasing.add(program.id)  # what the engine still answers is counted until it has answered
        else:
            self._terminate(program)

    def _terminate(self, program: Program) -> None:
        if program.worker is not None and program.worker in self.workers:
            self._ledger(program).cost.book_rest(program.tokens, self.now - program.since)
            self._ledger(program).drop(program.id, self.now)
            self.touched[program.worker] = None
        program.apply(Verb.RELEASE)
        program.worker = None
        self._silent_until.remove(program.id)
        self._releasing.discard(program.id)
        self._noticed(program)
        del self.programs[program.id]
        self.preparation.forget(program.id)
        self._effects.append(ReclaimEnvironment(program.id))

    # ------------------------------------------------------------------ workers

    def _worker_up(self, event: ev.WorkerUp) -> None:
        ledger = self.workers.get(event.worker)
        if ledger is None:
            ledger = WorkerLedger(event.worker, event.capacity_tokens, event.prefill_tokens_per_s, FadingSum())
            ledger.weights = self.weights
            self.workers[event.worker] = ledger
        ledger.capacity, ledger.draining = event.capacity_tokens, False
        ledger.prefill_tokens_per_s = event.prefill_tokens_per_s
        fading = FadingSum(self.policy.half_life(ledger))
        for entry in ledger.entries.values():
            if entry.phase is ACTING:
                fading.add(entry.tokens, entry.since, self.now)
        ledger.fading = fading
        self.touched[event.worker] = None
        for program in self.programs.values():
            # Calls that a former worker of this name left unanswered count until the gateway ends them.
            if program.worker == event.worker and program.id not in ledger.entries:
                self._recount(program)

    def _worker_draining(self, event: ev.WorkerDraining) -> None:
        ledger = self.workers.get(event.worker)
        if ledger is None:
            return
        ledger.draining = True
        self._vacate(ledger, "its worker is draining")

    def _worker_lost(self, event: ev.WorkerLost) -> None:
        ledger = self.workers.get(event.worker)
        if ledger is None:
            return
        ledger.draining = True
        self._vacate(ledger, "its worker is gone")
        for program_id in list(ledger.entries):
            # Calls in flight bounce or fail one by one, as the gateway notices; they count nowhere meanwhile.
            ledger.drop(program_id, self.now)
        del self.workers[event.worker]
        self.touched.pop(event.worker, None)
        for program in self.programs.values():
            if program.origin == event.worker:
                program.origin = None
                self._noticed(program)
        if not self.live_workers:
            self._reject_all_held("no worker is up")

    def _vacate(self, ledger: WorkerLedger, reason: str) -> None:
        for program_id in list(ledger.entries):
            program = self.programs[program_id]
            if program.in_flight == 0:
                self._pause(program, reason, keeps_cache=False)
            else:
                program.pause_when_rested = True

    def _reject_all_held(self, reason: str) -> None:
        for call in [c for c in self.calls.values() if c.worker is None]:
            self._effects.append(Reject(call.id, call.program, 503, NO_WORKER_RETRY_S, reason))
            self._end(call)

    def _weights_changed(self, event: ev.WeightsChanged) -> None:
        """Nobody's context is cached any more. Whoever rests loses its place, since there is nothing left to keep."""
        if event.version < self.weights:
            return
        self.weights = event.version
        for ledger in self.workers.values():
            ledger.forget_cache(event.version)
            self.touched[ledger.name] = None
        for program in self.programs.values():
            program.weights = event.version
            if program.status is ACTIVE and program.in_flight == 0:
                self._pause(program, "the weights changed", keeps_cache=False)
            elif program.status is PAUSED and program.origin is not None:
                program.origin = None
                self._noticed(program)

    # ------------------------------------------------------------------ decisions

    def _carry_out(self, decision: Decision) -> None:
        program = self.programs[decision.program]
        if isinstance(decision, Place):
            self._place(program, decision)
        elif program.in_flight:
            program.pause_when_rested = True
        else:
            self._pause(program, decision.reason)

    def _pause(self, program: Program, reason: str, *, keeps_cache: bool = True) -> None:
        worker = program.worker
        assert worker is not None, program.id  # noqa: S101 - an invariant of this class
        program.apply(Verb.PAUSE)
        if worker in self.workers:
            if program.phase is ACTING:
                self._ledger(program).cost.book_rest(program.tokens, self.now - program.since)
            self._ledger(program).drop(program.id, self.now)
            self.touched[worker] = None
        program.worker, program.origin = None, worker if keeps_cache else None
        program.pause_when_rested = False
        program.pauses += 1
        program.paused_since = self.now if program.calls else None
        self.arriving.pop(program.id, None)
        self._effects.append(Paused(program.id, worker, program.tokens, reason))
        self._noticed(program)

    def _place(self, program: Program, place: Place) -> None:
        if program.status is ACTIVE:
            if program.worker == place.worker or program.in_flight:
                return
            self._ledger(program).drop(program.id, self.now)
        else:
            program.apply(Verb.RESTORE)
        first = program.steps == 0 and program.origin is None
        waited = self.now - program.paused_since if program.paused_since is not None else 0.0
        if waited > 0:
            self.preparation.placed(self.now)
        moved = program.origin is not None and program.origin != place.worker
        program.worker = program.origin = place.worker
        program.weights = self.weights
        program.paused_since = None
        self.forced_restores += place.forced
        if program.calls:
            self.arriving[program.id] = None
        self._recount(program)
        reason = "first placement" if first else place.reason
        self._effects.append(Restored(program.id, place.worker, program.tokens, waited, place.forced, moved, reason))

    # ------------------------------------------------------------------ accounts

    def _ledger(self, program: Program) -> WorkerLedger:
        assert program.worker is not None, program.id  # noqa: S101 - an invariant of this class
        return self.workers[program.worker]

    def _recount(self, program: Program) -> None:
        """Bring the ledger and the policy up to date with what the program now needs."""
        if program.worker is not None and program.worker in self.workers:
            self._ledger(program).put(program.id, program.tokens, program.phase, program.since, self.now, program.group)
            self.touched[program.worker] = None
        self._noticed(program)

    def _noticed(self, program: Program) -> None:
        self.policy.noticed(program, self.now)
        if program.id in self.preparation:
            self.preparation.noticed(program, self.policy.rank(program, self.now))

    def check(self) -> None:
        """Assert every invariant; ``AssertionError`` names the first that does not hold. Costs O(programs)."""
        found = violations(self)
        assert not found, found[0]  # noqa: S101 - this is what the method is for
