"""A group as it is being done: which of its samples comes next, what an end means for the others, and what is kept.

No clock, no agents, no files: whoever drives it says what happened. A sample that failed is begun again as long as it
may be. The group is *enough* once as many samples are done as are kept; those that still run are then cut off, as they
are when its time is up. It is *settled* when nothing of it runs and nothing of it will begin.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from thunderctl.errors import UsageError
from thunderctl.rollouts.schema import Group, Sample

NOT_DONE = ("failed", "cut off", "running")
"""How an agent ends that did not get to its own end."""
MOST_SAMPLES = 1024
NEVER_BEGAN = "the group's time was up before this sample could begin"


@dataclass(frozen=True, slots=True)
class Rules:
    """How groups are made. ``UsageError`` for what makes no sense."""

    samples: int = 8
    """Of each task that are begun."""
    keep: int | None = None
    """Once so many are done the group is; ``None``: all of them."""
    timeout_s: float | None = None
    """Seconds of the node after which what still runs is cut off."""
    retries: int = 0
    """How often a sample that failed is begun again."""
    ahead: int | None = None
    """While more complete groups than this wait for the trainer, no new group begins; ``None``: nobody waits."""

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= MOST_SAMPLES:
            raise UsageError(f"a group has 1 to {MOST_SAMPLES:,} samples, not {self.samples}")
        if self.keep is not None and not 1 <= self.keep <= self.samples:
            raise UsageError(f"{self.keep} of {self.samples} samples cannot be kept")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise UsageError(f"a group's time-out is more than 0 seconds, not {self.timeout_s:g}")
        if self.retries < 0 or (self.ahead is not None and self.ahead < 0):
            raise UsageError("retries and groups ahead are counted from 0")

    @property
    def kept(self) -> int:
        """Samples that a complete group has."""
        return self.samples if self.keep is None else self.keep


def parse_keep(text: str) -> int:
    """``first:K`` → K."""
    name, _, number = text.partition(":")
    if name != "first" or not number.isdecimal():
        raise UsageError(
            f"--keep {text!r} is not understood", hint="first:K, as in --samples-per-task 8 --keep first:6"
        )
    return int(number)


@dataclass(slots=True)
class OpenGroup:
    """One group until it is complete."""

    number: int
    """Which of the roll-out's groups it is, from 0."""
    name: str
    task: str
    rules: Rules
    running: set[int] = field(default_factory=set)
    timed_out: bool = False
    dropped: int = 0
    _waiting: deque[tuple[int, int]] = field(default_factory=deque)
    """(index, attempt) of samples that are still to begin."""
    _done: list[Sample] = field(default_factory=list)
    """In the order in which they ended."""
    _marked: list[Sample] = field(default_factory=list)
    """Those that failed for good, or were cut off."""

    def __post_init__(self) -> None:
        self._waiting.extend((index, 1) for index in range(self.rules.samples))

    @property
    def enough(self) -> bool:
        return len(self._done) >= self.rules.kept

    @property
    def wants_more(self) -> bool:
        """Whether a sample of it is still to begin."""
        return bool(self._waiting)

    @property
    def settled(self) -> bool:
        return not self.running and not self._waiting

    def begin_next(self) -> tuple[int, int]:
        """Index and attempt of the sample that begins now."""
        index, attempt = self._waiting.popleft()
        self.running.add(index)
        return index, attempt

    def never_began(self, sample: Sample) -> None:
        """A sample that was to begin does not: it was prepared for, and the group closed."""
        self.running.discard(sample.index)
        self._mark_unbegun(sample)

    def ended(self, sample: Sample) -> bool:
        """A sample ended in whichever way; whether it is among those that are kept as done."""
        self.running.discard(sample.index)
        closed = self.enough or self.timed_out
        if sample.status not in NOT_DONE:
            if self.enough:
                self.dropped += 1  # it was done as the last one of the others was
                return False
            self._done.append(sample)
            if self.enough:
                self._waiting.clear()
            return True
        if sample.status == "failed" and not closed and sample.attempt <= self.rules.retries:
            self.dropped += 1
            self._waiting.appendleft((sample.index, sample.attempt + 1))
        else:
            self._marked.append(sample)
        return False

    def time_is_up(self) -> None:
        """Nothing of it begins any more; whoever drives it cuts off what runs."""
        self.timed_out = True
        while self._waiting:
            index, attempt = self._waiting.popleft()
            self._mark_unbegun(Sample(self.task, self.name, index, attempt, "", "", "cut off"))

    def _mark_unbegun(self, sample: Sample) -> None:
        if self.timed_out:
            sample.status, sample.error = "cut off", NEVER_BEGAN
            self._marked.append(sample)

    def complete(self, began: float) -> Group:
        """What a trainer gets of it: those that were done first, then marked ones where these are too few."""
        lacking = self.rules.kept - len(self._done)
        marked = sorted(self._marked, key=lambda sample: sample.index)
        # Of the marked ones those that have something to show come first.
        marked.sort(key=lambda sample: sample.steps == 0)
        kept = [*self._done, *marked[:lacking]]
        last = max((sample.ended for sample in kept), default=began)
        for sample in kept:
            if sample.error == NEVER_BEGAN:  # it waited for nobody
                sample.started = sample.ended = max(began, last)
        begun = [sample for sample in marked[lacking:] if sample.error != NEVER_BEGAN]
        return Group(
            self.name,
            self.task,
            sorted(kept, key=lambda sample: sample.index),
            dropped=self.dropped + len(begun),
            started=began,
            ended=max((sample.ended for sample in kept), default=began),
            timed_out=self.timed_out,
        )
