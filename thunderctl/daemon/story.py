"""What happened to each program, for people who ask why: calls, tools, pauses, restores. Decides nothing.

Memory is bounded: a program keeps its latest ``KEPT_ENTRIES`` entries (about 150 bytes each), and of the programs that
ended the latest ``KEPT_ENDED`` are remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import msgspec

from thunderctl.core import effects as fx
from thunderctl.core import events as ev
from thunderctl.core.program import Call

KEPT_ENTRIES = 64
KEPT_ENDED = 1000

_OUTCOMES: dict[type[ev.Event], str] = {
    ev.CallFinished: "answered",
    ev.CallFailed: "failed",
    ev.CallCancelled: "cancelled",
    ev.CallBounced: "bounced",
}


@dataclass(slots=True)
class Story:
    """One program's. ``at`` of an entry is seconds since the epoch, its other times the scheduler's seconds."""

    began: float
    entries: list[bytes] = field(default_factory=list)
    """JSON objects, oldest first."""
    left_out: int = 0
    docker_ids: list[str] = field(default_factory=list)
    """Containers that the agent registered as its own: whoever reclaims the program's environments finds them here."""
    ended: bool = False

    def add(self, at: float, what: str, **facts: object) -> None:
        self.entries.append(msgspec.json.encode({"at": round(at, 3), "what": what, **facts}))
        if len(self.entries) > KEPT_ENTRIES:
            del self.entries[0]
            self.left_out += 1

    def timeline(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(entry) for entry in self.entries]


class Stories:
    """Every program's story. ``call_ended`` comes before the scheduler forgets the call, the rest after."""

    def __init__(self) -> None:
        self._running: dict[str, Story] = {}
        self._ended: OrderedDict[str, Story] = OrderedDict()

    def find(self, program: str) -> Story | None:
        return self._running.get(program) or self._ended.get(program)

    def of(self, program: str, at: float) -> Story:
        """The program's story, begun if there is none yet; one that had ended goes on."""
        story = self._running.get(program)
        if story is None:
            story = self._ended.pop(program, None) or Story(at)
            story.ended = False
            self._running[program] = story
        return story

    def call_ended(self, event: ev.Event, call: Call, now: float, at: float) -> None:
        """``now`` is the scheduler's time, ``at`` the same on the wall."""
        facts: dict[str, object] = {
            "call": call.id,
            "outcome": _OUTCOMES[type(event)],
            "worker": call.worker,
            "held_s": round((now if call.admitted is None else call.admitted) - call.arrived, 3),
            "seconds": round(now - call.arrived, 3),
        }
        if call.first_token is not None and call.admitted is not None:
            facts["prefill_s"] = round(call.first_token - call.admitted, 3)
        if isinstance(event, ev.CallFinished):
            facts |= {
                "prompt_tokens": event.prompt_tokens,
                "cached_tokens": event.cached_tokens,
                "output_tokens": event.output_tokens,
            }
        self.of(call.program, at).add(at, "call", **facts)

    def tool_finished(self, event: ev.ToolFinished, at: float) -> None:
        if event.program in self._running:
            self._running[event.program].add(at, "tool", seconds=round(event.seconds, 3))

    def decided(self, effect: fx.Effect, at: float) -> None:
        if isinstance(effect, fx.Restored):
            self.of(effect.program, at).add(
                at, "restored", worker=effect.worker, tokens=effect.tokens, waited_s=round(effect.waited_s, 3),
                forced=effect.forced, moved=effect.moved, reason=effect.reason,
            )  # fmt: skip
        elif isinstance(effect, fx.Paused):
            self.of(effect.program, at).add(
                at, "paused", worker=effect.worker, tokens=effect.tokens, reason=effect.reason
            )
        elif isinstance(effect, fx.PrepareEnvironment):
            self.of(effect.program, at).add(at, "environment ordered", early=effect.early)
        elif isinstance(effect, fx.Reject):
            if effect.program in self._running:
                self._running[effect.program].add(at, "refused", status=effect.status, reason=effect.reason)
        elif isinstance(effect, fx.ReclaimEnvironment):
            self._end(effect.program, at)

    def _end(self, program: str, at: float) -> None:
        story = self._running.pop(program, None)
        if story is None:
            return
        story.add(at, "ended")
        story.ended = True
        self._ended[program] = story
        if len(self._ended) > KEPT_ENDED:
            self._ended.popitem(last=False)
