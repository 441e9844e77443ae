"""The asyncio shell around the scheduler: a clock, a timer, and calls that wait for their effect. No HTTP here."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from thunderctl.core import effects as fx
from thunderctl.core import events as ev
from thunderctl.core.program import Call, Status
from thunderctl.core.scheduler import Scheduler
from thunderctl.daemon.decisions import Decisions
from thunderctl.daemon.journal import Journal
from thunderctl.daemon.story import Stories

SHORTEST_TIMER_S = 0.001
"""The event loop's clock has no finer steps."""
ANSWERED_KEPT = 8
"""Latest calls of a program that a repetition is recognised by."""


@dataclass(slots=True)
class HeldCall:
    """A call on its way through the gateway; ``admission`` resolves to the next effect that concerns it."""

    id: str
    program: str
    admission: asyncio.Future[fx.Admit | fx.Reject]
    repeated: bool = False
    """It was answered before, but its client never got the answer: it is served, and not counted as a step again."""
    in_flight: bool = False


@dataclass(slots=True)
class Tally:
    """Counters since the node first started; all of them only grow, and a restart that replays its journal keeps them.

    Only ``unscheduled`` and ``overload`` begin again: those requests are no events.
    """

    arrived: int = 0
    admitted: int = 0
    rejected: int = 0
    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    unscheduled: int = 0
    overload: int = 0
    retried: int = 0
    pauses: int = 0
    restores: int = 0
    forced_restores: int = 0
    migrations: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    held_seconds: float = 0.0

    def count_event(self, event: ev.Event) -> None:
        if isinstance(event, ev.CallArrived):
            self.arrived += 1
        elif isinstance(event, ev.CallFinished):
            self.finished += 1
            self.prompt_tokens += event.prompt_tokens
            self.cached_tokens += event.cached_tokens
            self.output_tokens += event.output_tokens
        elif isinstance(event, ev.CallFailed):
            self.failed += 1
        elif isinstance(event, ev.CallCancelled):
            self.cancelled += 1
        elif isinstance(event, ev.CallBounced):
            self.retried += 1

    def count_effect(self, effect: fx.Effect) -> None:
        if isinstance(effect, fx.Admit):
            self.admitted += 1
            self.held_seconds += effect.waited_s
        elif isinstance(effect, fx.Reject):
            self.rejected += 1
        elif isinstance(effect, fx.Paused):
            self.pauses += 1
        elif isinstance(effect, fx.Restored):
            self.restores += effect.reason != "first placement"
            self.forced_restores += effect.forced
            self.migrations += effect.moved


Spectator = Callable[[ev.Event, Call | None, float], None]
"""Sees an event after it was handled, with the call that it ended, if it ended one, and the scheduler's time."""

_OUTCOMES = (ev.CallFinished, ev.CallFailed, ev.CallCancelled)
_ENDS = (*_OUTCOMES, ev.CallBounced)


class Shell:
    """Feeds events to the scheduler and carries its effects out. Used from one event loop only."""

    def __init__(
        self,
        scheduler: Scheduler,
        journal: Journal | None,
        on_reclaim: Callable[[str], None] | None = None,
        on_prepare: Callable[[str], None] | None = None,
        *,
        time_scale: float = 1.0,
    ) -> None:
        self.time_scale = time_scale
        """Seconds on the wall that a second of the scheduler's clock takes; 1 unless workers are emulated."""
        self._journal = journal
        self._on_reclaim = on_reclaim
        self._on_prepare = on_prepare
        self._held: dict[str, HeldCall] = {}
        self._in_flight = 0
        self._ahead = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._closed = False
        self._tokens_per_byte = 0.3
        self.spectators: tuple[Spectator, ...] = ()
        """Told of what happens from now on; a journal that is replayed is none of their business."""
        self.begin(scheduler)

    def begin(self, scheduler: Scheduler) -> None:
        """Empty books, and a scheduler that knows nobody. Only while no call is on its way."""
        self.scheduler = scheduler
        self.tally = Tally()
        self.stories = Stories()
        self.decisions = Decisions()
        self._serial = 0
        self._sizes: dict[str, tuple[int, int]] = {}
        self._answered: dict[str, deque[str]] = {}

    def now(self) -> float:
        """The scheduler's clock, in seconds from an arbitrary start."""
        return time.monotonic() / self.time_scale + self._ahead

    @property
    def held_calls(self) -> int:
        """Calls that wait for admission."""
        return len(self._held) - self._in_flight

    @property
    def in_flight_calls(self) -> int:
        return self._in_flight

    # ------------------------------------------------------------------ calls

    def would_hold(self, program: str) -> bool:
        """Whether a call of this program would wait behind others, as far as can be told before it arrives."""
        known = self.scheduler.programs.get(program)
        return known is None or known.status is not Status.ACTIVE

    def arrive(
        self,
        program: str,
        body_bytes: int,
        group: str | None = None,
        key: str = "",
        *,
        prompt_ids: int | None = None,
    ) -> HeldCall:
        """A call of ``program`` came in. Await ``admission`` of the result; end it with exactly one ``end_…``.

        ``key``: the client's own name for the call, the same for every attempt to get it answered. ``prompt_ids``:
        tokens of the prompt, if the client sent ids.
        """
        self._serial += 1
        name = f"c{self._serial}:{key}" if key else f"c{self._serial}"
        call = HeldCall(name, program, asyncio.get_running_loop().create_future())
        call.repeated = bool(key) and key in self._answered.get(program, ())
        self._held[call.id] = call
        tokens = self._estimate(program, body_bytes) if prompt_ids is None else prompt_ids
        self.submit(ev.CallArrived(call.id, program, tokens, group))
        return call

    def _estimate(self, program: str, body_bytes: int) -> int:
        """Prompt tokens of a body: what the last usage of this program said, plus what was added since."""
        tokens, size = self._sizes.get(program, (0, 0))
        return max(1, tokens + round((body_bytes - size) * self._tokens_per_byte))

    def bounce(self, call: HeldCall) -> None:
        """The worker failed before its first byte: wait for another admission on the same ``call``."""
        call.admission = asyncio.get_running_loop().create_future()
        self._landed(call)
        self.submit(ev.CallBounced(call.id))

    def end_finished(self, call: HeldCall, body_bytes: int, prompt: int, cached: int, output: int) -> None:
        self._forget(call)
        if prompt and body_bytes:
            self._tokens_per_byte += 0.05 * (prompt / body_bytes - self._tokens_per_byte)
            if call.program in self.scheduler.programs:
                self._sizes[call.program] = (prompt, body_bytes)
        if call.repeated:
            self.submit(ev.CallCancelled(call.id))
        else:
            self.submit(ev.CallFinished(call.id, prompt, cached, output))
        if self._journal is not None:
            self._journal.flush()  # whoever has an answer may rely on it: a daemon that is killed now knows the step

    def end_failed(self, call: HeldCall) -> None:
        self._forget(call)
        self.submit(ev.CallFailed(call.id))

    def end_cancelled(self, call: HeldCall) -> None:
        self._forget(call)
        self.submit(ev.CallCancelled(call.id))

    def _forget(self, call: HeldCall) -> None:
        self._held.pop(call.id, None)
        self._landed(call)

    def _landed(self, call: HeldCall) -> None:
        self._in_flight -= call.in_flight
        call.in_flight = False

    def register_containers(self, program: str, containers: list[str]) -> None:
        """Containers that the agent made for itself; they are kept in the program's story, over a restart too."""
        story = self.stories.of(program, time.time())
        for container in containers:
            if container not in story.docker_ids:
                story.docker_ids.append(container)
                if self._journal is not None:
                    self._journal.note_container(program, container)

    def forget_containers(self, program: str) -> None:
        """They are being collected: should the program come back, it has to register what it has then."""
        story = self.stories.find(program)
        if story is not None:
            story.docker_ids.clear()

    # ------------------------------------------------------------------ the scheduler

    def submit(self, event: ev.Event) -> None:
        """Hand ``event`` to the scheduler now and carry out what it decides."""
        now = self.now()
        if self._journal is not None:
            self._journal.append(event, now)
        # The scheduler is about to forget a call that ends; one that bounced goes on.
        call = self.scheduler.calls.get(event.call) if isinstance(event, _OUTCOMES) else None
        for effect in self._take_in(event, now, time.time()):
            if isinstance(effect, fx.Admit | fx.Reject):
                self._tell(effect)
            elif isinstance(effect, fx.ReclaimEnvironment) and self._on_reclaim is not None:
                self._on_reclaim(effect.program)
            elif isinstance(effect, fx.PrepareEnvironment) and self._on_prepare is not None:
                self._on_prepare(effect.program)
        self._set_timer()
        for spectator in self.spectators:
            spectator(event, call, self.scheduler.now)

    def _take_in(self, event: ev.Event, now: float, at: float) -> list[fx.Effect]:
        """What every event does to the scheduler and the books, live or replayed. ``at`` is ``now`` on the wall."""
        if isinstance(event, _ENDS):
            call = self.scheduler.calls.get(event.call)
            if call is not None:
                self.tally.count_event(event)
                self.stories.call_ended(event, call, now, at)
                key = event.call.partition(":")[2]
                if key and isinstance(event, ev.CallFinished):
                    self._answered.setdefault(call.program, deque(maxlen=ANSWERED_KEPT)).append(key)
        elif isinstance(event, ev.CallArrived):
            self.tally.count_event(event)
        elif isinstance(event, ev.ToolFinished):
            self.stories.tool_finished(event, at)
        effects = self.scheduler.handle(event, now)
        for effect in effects:
            self.tally.count_effect(effect)
            if isinstance(effect, fx.Admit):
                continue  # too many to list, and its Restored says why
            if isinstance(effect, fx.ReclaimEnvironment):
                self._sizes.pop(effect.program, None)
                self._answered.pop(effect.program, None)
            self.stories.decided(effect, at)
            self.decisions.add(effect, at)
        return effects

    def _tell(self, effect: fx.Admit | fx.Reject) -> None:
        call = self._held.get(effect.call)
        if call is None:
            return
        if isinstance(effect, fx.Reject):
            self._forget(call)
        elif not call.in_flight:
            call.in_flight = True
            self._in_flight += 1
        if not call.admission.done():
            call.admission.set_result(effect)

    def _set_timer(self) -> None:
        deadline = None if self._closed else self.scheduler.next_deadline()
        if deadline is None or (self._timer is not None and self._timer_at <= deadline):
            return  # one that rings too early looks again: most events put the deadline off
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        wait_s = max(SHORTEST_TIMER_S, (deadline - self.now()) * self.time_scale)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        deadline = self.scheduler.next_deadline()
        if deadline is not None and deadline <= self.now():
            self.submit(ev.Timer())
        else:
            self._set_timer()

    # ------------------------------------------------------------------ beginning and end

    def resume(self, history: Iterable[tuple[float, ev.Event]]) -> int:
        """Become what an earlier daemon was after ``history``, whose calls nobody waits for any more.

        Returns the number of events. What the scheduler decides here was carried out then; nothing is done again.
        """
        wall = time.time() - time.monotonic()
        last, count, using_tools = 0.0, 0, dict[str, None]()
        for at, event in history:
            self._take_in(event, at, min(time.time(), wall + at * self.time_scale))
            last, count = at, count + 1
            if isinstance(event, ev.CallArrived):
                self._serial = max(self._serial, int(event.call.partition(":")[0].removeprefix("c")))
            elif isinstance(event, ev.ToolStarted):
                using_tools[event.program] = None
            elif isinstance(event, ev.ToolFinished):
                using_tools.pop(event.program, None)
        # Across a restart of the machine its clock begins again; the scheduler's must not step back.
        self._ahead = max(0.0, last - self.now())
        for call in list(self.scheduler.calls):
            self.submit(ev.CallCancelled(call))
        for program in using_tools:
            self.submit(ev.ToolFinished(program, 0.0))
        return count

    def close(self) -> None:
        """Stop the timer and answer every call that is still held with a refusal to come back later."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for call in list(self._held.values()):
            if not call.admission.done():
                self.tally.rejected += 1
                call.admission.set_result(fx.Reject(call.id, call.program, 503, 5.0, "the daemon is stopping"))
