"""The asyncio shell around the scheduler: a clock, a timer, and calls that wait for their effect. No HTTP here."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from thunderctl.core import effects as fx
from thunderctl.core import events as ev
from thunderctl.core.scheduler import Scheduler
from thunderctl.daemon.journal import Journal

DECISIONS_KEPT = 200_000
"""Latest decisions that ``GET /decisions`` can answer: about 40 MB at the most."""


@dataclass(slots=True)
class HeldCall:
    """A call on its way through the gateway; ``admission`` resolves to the next effect that concerns it."""

    id: str
    program: str
    admission: asyncio.Future[fx.Admit | fx.Reject]


@dataclass(slots=True)
class Tally:
    """Counters since the daemon started; all of them only grow."""

    admitted: int = 0
    rejected: int = 0
    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    unscheduled: int = 0
    retried: int = 0
    pauses: int = 0
    restores: int = 0
    forced_restores: int = 0
    migrations: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    held_seconds: float = 0.0
    by_phase: dict[str, int] = field(default_factory=dict)


class Shell:
    """Feeds events to the scheduler and carries its effects out. Used from one event loop only."""

    def __init__(
        self,
        scheduler: Scheduler,
        journal: Journal | None,
        on_reclaim: Callable[[str], None] | None = None,
        *,
        time_scale: float = 1.0,
    ) -> None:
        self.scheduler = scheduler
        self.time_scale = time_scale
        """Seconds on the wall that a second of the scheduler's clock takes; 1 unless workers are emulated."""
        self.tally = Tally()
        self.decisions: deque[dict[str, Any]] = deque(maxlen=DECISIONS_KEPT)
        self.decision_count = 0
        self._journal = journal
        self._on_reclaim = on_reclaim
        self._held: dict[str, HeldCall] = {}
        self._serial = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._tokens_per_byte = 0.3
        self._sizes: dict[str, tuple[int, int]] = {}

    def now(self) -> float:
        """The scheduler's clock, in seconds from an arbitrary start."""
        return time.monotonic() / self.time_scale

    # ------------------------------------------------------------------ calls

    def arrive(self, program: str, body_bytes: int, group: str | None = None) -> HeldCall:
        """A call of ``program`` came in. Await ``admission`` of the result; end it with exactly one ``end_…``."""
        call = HeldCall(f"c{next(self._serial)}", program, asyncio.get_running_loop().create_future())
        self._held[call.id] = call
        self.submit(ev.CallArrived(call.id, program, self._estimate(program, body_bytes), group))
        return call

    def _estimate(self, program: str, body_bytes: int) -> int:
        """Prompt tokens of a body: what the last usage of this program said, plus what was added since."""
        tokens, size = self._sizes.get(program, (0, 0))
        return max(1, tokens + round((body_bytes - size) * self._tokens_per_byte))

    def bounce(self, call: HeldCall) -> None:
        """The worker failed before its first byte: wait for another admission on the same ``call``."""
        self.tally.retried += 1
        call.admission = asyncio.get_running_loop().create_future()
        self.submit(ev.CallBounced(call.id))

    def end_finished(self, call: HeldCall, body_bytes: int, prompt: int, cached: int, output: int) -> None:
        self._held.pop(call.id, None)
        self.tally.finished += 1
        self.tally.prompt_tokens += prompt
        self.tally.cached_tokens += cached
        self.tally.output_tokens += output
        if prompt and body_bytes:
            self._tokens_per_byte += 0.05 * (prompt / body_bytes - self._tokens_per_byte)
            if call.program in self.scheduler.programs:
                self._sizes[call.program] = (prompt, body_bytes)
        self.submit(ev.CallFinished(call.id, prompt, cached, output))

    def end_failed(self, call: HeldCall) -> None:
        self._held.pop(call.id, None)
        self.tally.failed += 1
        self.submit(ev.CallFailed(call.id))

    def end_cancelled(self, call: HeldCall) -> None:
        self._held.pop(call.id, None)
        self.tally.cancelled += 1
        self.submit(ev.CallCancelled(call.id))

    # ------------------------------------------------------------------ the scheduler

    def submit(self, event: ev.Event) -> None:
        """Hand ``event`` to the scheduler now and carry out what it decides."""
        now = self.now()
        if self._journal is not None:
            self._journal.append(event, now)
        for effect in self.scheduler.handle(event, now):
            self._carry_out(effect)
        self._set_timer()

    def _carry_out(self, effect: fx.Effect) -> None:
        if isinstance(effect, fx.Admit | fx.Reject):
            call = self._held.get(effect.call)
            if isinstance(effect, fx.Admit):
                self.tally.admitted += 1
                self.tally.held_seconds += effect.waited_s
            else:
                self.tally.rejected += 1
                self._held.pop(effect.call, None)
            if call is not None and not call.admission.done():
                call.admission.set_result(effect)
            if isinstance(effect, fx.Admit):
                return  # too many to list, and its Restored says why
        elif isinstance(effect, fx.Paused):
            self.tally.pauses += 1
        elif isinstance(effect, fx.Restored):
            self.tally.restores += effect.reason != "first placement"
            self.tally.forced_restores += effect.forced
            self.tally.migrations += effect.moved
        elif isinstance(effect, fx.ReclaimEnvironment):
            self._sizes.pop(effect.program, None)
            if self._on_reclaim is not None:
                self._on_reclaim(effect.program)
        self.decision_count += 1
        self.decisions.append({"n": self.decision_count, "at": time.time(), **fx.to_record(effect)})

    def _set_timer(self) -> None:
        deadline = self.scheduler.next_deadline()
        if self._timer is not None and (deadline is None or deadline != self._timer_at):
            self._timer.cancel()
            self._timer = None
        if deadline is not None and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer_at = deadline
            self._timer = loop.call_later(max(0.0, deadline - self.now()) * self.time_scale, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.submit(ev.Timer())

    def close(self) -> None:
        """Stop the timer and answer every call that is still held with a refusal to come back later."""
        if self._timer is not None:
            self._timer.cancel()
        for call in list(self._held.values()):
            if not call.admission.done():
                call.admission.set_result(fx.Reject(call.id, call.program, 503, 5.0, "the daemon is stopping"))
