"""What a program is, and every state change it may go through.

Two rules: each transition of status and phase is a row of ``TRANSITIONS``; and nothing here knows of workers'
capacity, policies or queues.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Phase(StrEnum):
    """What the agent is doing (ThunderAgent, arXiv 2602.13692, section 4.1)."""

    REASONING = "reasoning"
    """A model call is in flight or waits for admission."""
    ACTING = "acting"
    """A tool runs, or the agent thinks by itself: no call exists."""


class Status(StrEnum):
    """What the scheduler decided about the program (same section)."""

    ACTIVE = "active"
    """It holds KV capacity on its worker; its calls are admitted at once."""
    PAUSED = "paused"
    """It holds none; its calls are held until it is restored."""
    TERMINATED = "terminated"


class Verb(StrEnum):
    CALL = "call"
    REST = "rest"
    PAUSE = "pause"
    RESTORE = "restore"
    RELEASE = "release"


ACTIVE, PAUSED, TERMINATED = Status
REASONING, ACTING = Phase
"""Their members by themselves: looking one up in its class takes longer than half of what is decided with it."""

State = tuple[Status, Phase]

NEW: State = (Status.PAUSED, Phase.ACTING)
"""A program nobody heard of: it holds nothing. Its first call moves it on."""

TRANSITIONS: dict[tuple[State, Verb], State] = {
    ((Status.ACTIVE, Phase.ACTING), Verb.CALL): (Status.ACTIVE, Phase.REASONING),
    ((Status.PAUSED, Phase.ACTING), Verb.CALL): (Status.PAUSED, Phase.REASONING),
    ((Status.ACTIVE, Phase.REASONING), Verb.REST): (Status.ACTIVE, Phase.ACTING),
    ((Status.PAUSED, Phase.REASONING), Verb.REST): (Status.PAUSED, Phase.ACTING),
    ((Status.ACTIVE, Phase.ACTING), Verb.PAUSE): (Status.PAUSED, Phase.ACTING),
    ((Status.ACTIVE, Phase.REASONING), Verb.PAUSE): (Status.PAUSED, Phase.REASONING),
    ((Status.PAUSED, Phase.ACTING), Verb.RESTORE): (Status.ACTIVE, Phase.ACTING),
    ((Status.PAUSED, Phase.REASONING), Verb.RESTORE): (Status.ACTIVE, Phase.REASONING),
    ((Status.ACTIVE, Phase.ACTING), Verb.RELEASE): (Status.TERMINATED, Phase.ACTING),
    ((Status.PAUSED, Phase.ACTING), Verb.RELEASE): (Status.TERMINATED, Phase.ACTING),
}
"""Every legal change. A program that still reasons is released by ending its calls first (REST), then RELEASE."""


class IllegalTransition(ValueError):
    """A state change that ``TRANSITIONS`` does not list; nothing was changed."""


@dataclass(slots=True)
class Call:
    """One model call of a program, from its arrival until its one outcome."""

    id: str
    program: str
    prompt_tokens: int
    """Estimate until the engine's ``usage`` says the truth."""
    arrived: float
    worker: str | None = None
    """Where it was admitted; ``None`` while it is held."""
    admitted: float | None = None
    first_token: float | None = None
    output_tokens: int = 0

    @property
    def tokens(self) -> int:
        """KV tokens this call occupies on its worker once prefilled."""
        return self.prompt_tokens + self.output_tokens


@dataclass(slots=True)
class Program:
    """⟨id, context tokens, worker, phase, status⟩ (section 4.1), plus one record for each call in flight."""

    id: str
    arrived: float
    group: str | None = None
    parent: str | None = None
    status: Status = NEW[0]
    phase: Phase = NEW[1]
    worker: str | None = None
    """Where it is ACTIVE; ``None`` while it is PAUSED."""
    origin: str | None = None
    """The worker that most likely still caches its context."""
    weights: int = 0
    """Version of the weights for which ``origin`` holds."""
    context_tokens: int = 0
    """Length of its context after the last finished call."""
    side_tokens: int = 0
    """Tokens of the other contexts that its last parallel calls left behind."""
    prompt_tokens: int = 0
    """Prompt of the last finished call."""
    rewrites: bool = False
    """Its last prompt was no longer than the one before, so it did not continue that: keeping its context is no use."""
    parallel: dict[int, int] = field(default_factory=dict)
    """Contexts of calls that finished beside others since it rested, by the length of their prompt, the latest last."""
    most_calls: int = 0
    """Calls in flight at once, at most, of those that finished since it rested."""
    rested_tokens: int = 0
    """Tokens that it needed when it rested last."""
    calls: dict[str, Call] = field(default_factory=dict)
    since: float = 0.0
    """Start of the present phase, or the end of the last tool if that is later."""
    rested: float = 0.0
    """When its last call ended: the engine's cache has not seen it since."""
    tool: str = ""
    """Name of the tool that runs, or ran last since the last call; ``""`` if it was not told."""
    tool_ended: bool = False
    """Its tool is known to have ended, so the next call is near."""
    paused_since: float | None = None
    """Start of the present pause while a call of it waits; ``None`` when nobody waits."""
    pause_when_rested: bool = False
    steps: int = 0
    pauses: int = 0
    waited_s: float = 0.0
    """Seconds its calls spent held, over its whole life."""

    def apply(self, verb: Verb) -> None:
        """Change state by ``verb``; ``IllegalTransition`` if the table has no such row."""
        target = TRANSITIONS.get(((self.status, self.phase), verb))
        if target is None:
            raise IllegalTransition(f"program {self.id}: {verb} while {self.status} and {self.phase}")
        self.status, self.phase = target

    @property
    def tokens(self) -> int:
        """KV tokens it needs: its resting contexts, or those of its calls, which run in parallel.

        Prompts of the very same length are taken for one prompt, which the engine holds once: samples of one answer.
        """
        calls = self.calls
        if not calls:
            return self.context_tokens + self.side_tokens
        if len(calls) == 1:
            for call in calls.values():
                total = call.prompt_tokens + call.output_tokens
        else:
            total = sum({call.prompt_tokens for call in calls.values()})
            total += sum(call.output_tokens for call in calls.values())
        # While some of them are answered already, and until the next ones have begun, the others' contexts stay.
        return max(total, self.context_tokens + self.side_tokens) if self.side_tokens else total

    def finish(self, call: Call, prompt_tokens: int, context: int) -> None:
        """Take in the length of a finished call's prompt and ``context`` as the engine counted them."""
        self.most_calls = max(self.most_calls, len(self.calls))
        if self.most_calls > 1:
            self.parallel.pop(prompt_tokens, None)
            self.parallel[prompt_tokens] = context
            if len(self.parallel) > self.most_calls:  # a later call of one of them: it continues the oldest context
                del self.parallel[next(iter(self.parallel))]
        self.rewrites = self.most_calls == 1 and self.steps > 0 and prompt_tokens <= self.prompt_tokens
        self.steps += 1
        self.prompt_tokens, self.context_tokens = prompt_tokens, context

    def settle(self) -> int | None:
        """No call is left. Tokens by which its contexts grew since it rested; ``None`` if nothing tells."""
        if not self.most_calls:
            return None
        if self.parallel:
            self.side_tokens = max(0, sum(self.parallel.values()) - self.context_tokens)
            self.parallel.clear()
        else:
            self.side_tokens = 0
        self.most_calls = 0
        before, self.rested_tokens = self.rested_tokens, self.tokens
        return max(0, self.rested_tokens - before) if before else None

    @property
    def in_flight(self) -> int:
        """Calls that a worker is answering."""
        return sum(1 for call in self.calls.values() if call.worker is not None)
