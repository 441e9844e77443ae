"""What a roll-out is made of, as a trainer gets it and as it is stored. Plain data, one version for both.

A *group* is the samples of one task. A *sample* is one agent's work on it, from start to end. Its tokens come in
*segments*: within one, the prompt of each step is exactly the tokens so far and whatever came between, so that all of a
segment can be trained on as one sequence. A new segment begins where a prompt does not extend what was there (its
history was rewritten, compacted or cut), and ``breaks`` says why.

``ids``, ``mask``, ``versions`` and ``logprobs`` of a segment are of one length.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

SCHEMA = 1
"""Version of this layout; a reader refuses what is newer."""
NOT_THE_MODEL = -1
"""The weights' version of a token that no weights made: prompts and tools' output."""
BREAKS = ("rewritten", "compacted", "truncated", "template")
"""Why a prompt does not extend what was there: the agent sent other messages, put a summary in their place, cut their
beginning off; or the model's chat template cannot put messages behind an answer as it was said."""
STATUSES = (
    "submitted", "step limit", "context full", "format errors", "trajectory ended", "finished", "failed", "cut off",
)  # fmt: skip
"""How a sample's agent may have ended."""


def digest_of(ids: Sequence[int]) -> str:
    """Short hash of token ids, the same on every machine."""
    return prefix_digests(ids, [len(ids)])[0]


def prefix_digests(ids: Sequence[int], ends: Sequence[int]) -> list[str]:
    """:func:`digest_of` ``ids[:end]`` for each of ``ends``, which go upward, in one pass."""
    found, begun, running = [], 0, hashlib.blake2b(digest_size=8)
    for end in ends:
        words = array("i", ids[begun:end])
        if sys.byteorder == "big":
            words.byteswap()
        running.update(words.tobytes())
        found.append(running.hexdigest())
        begun = end
    return found


def _as_dict(record: Any) -> dict[str, Any]:
    """The fields of a dataclass, not copied: lists of a hundred thousand tokens are shared with it."""
    return {each.name: getattr(record, each.name) for each in fields(record)}


@dataclass(frozen=True, slots=True)
class Turn:
    """One model call of a segment, as places in ``ids``: the prompt is all before ``start``, the answer
    ``ids[start:end]``."""

    step: int
    """Which step of the sample it is, from 1."""
    start: int
    end: int
    cached_tokens: int
    """Tokens of the prompt that the engine had in its cache."""
    finish_reason: str
    prompt_digest: str = ""
    """:func:`digest_of` the prompt's ids as the engine gave them back: so a check can tell from the file alone that it
    had exactly ``ids[:start]`` before it. Empty if it gave none back."""


@dataclass(slots=True)
class Segment:
    """Tokens that are one sequence."""

    ids: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    """1 where the model made the token, 0 elsewhere."""
    versions: list[int] = field(default_factory=list)
    """Version of the weights that made the token; ``NOT_THE_MODEL`` where ``mask`` is 0."""
    logprobs: list[float] | None = None
    """Natural logarithm of the probability that the engine gave to the token, 0.0 where ``mask`` is 0; ``None`` if it
    computed none (an emulated engine)."""
    turns: list[Turn] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; its lists are the segment's own."""
        return {**_as_dict(self), "turns": [asdict(turn) for turn in self.turns]}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Segment:
        """Inverse of :meth:`as_dict`."""
        known = {each.name: record[each.name] for each in fields(cls) if each.name in record}
        names = {each.name for each in fields(Turn)}
        turns = [Turn(**{name: turn[name] for name in turn if name in names}) for turn in record["turns"]]
        return cls(**{**known, "turns": turns})


@dataclass(slots=True)
class Sample:
    """One agent's work on a task. Times in seconds since the roll-out began."""

    task: str
    """Its instance id."""
    group: str
    """The group's name; unique within a roll-out."""
    index: int
    """Which sample of its group it is, from 0."""
    attempt: int
    """1, or more if it took the place of one that failed."""
    program: str
    """Its name to the daemon."""
    kind: str
    """``live``, ``replay`` or ``trace``."""
    status: str
    """How its agent ended: ``submitted``, ``step limit``, ``context full``, ``format errors``, ``trajectory ended``,
    ``finished`` (a trace), ``failed``; or ``cut off`` by the group's time-out or because the group had enough."""
    reward: float | None = None
    """What the workload's scoring gives: 1 resolved, 0 not; ``None`` if it was not judged."""
    parts: dict[str, float] = field(default_factory=dict)
    """What the reward is made of: tests, checks, scores."""
    segments: list[Segment] = field(default_factory=list)
    breaks: list[str] = field(default_factory=list)
    """Why each segment after the first begins: of ``BREAKS``."""
    steps: int = 0
    started: float = 0.0
    ended: float = 0.0
    submission: str = ""
    """What it handed in: a patch, an answer, a program."""
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; its lists are the sample's own."""
        return {**_as_dict(self), "segments": [segment.as_dict() for segment in self.segments]}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Sample:
        """Inverse of :meth:`as_dict`."""
        known = {each.name: record[each.name] for each in fields(cls) if each.name in record}
        return cls(**{**known, "segments": [Segment.from_dict(segment) for segment in record["segments"]]})


@dataclass(slots=True)
class Group:
    """The samples of one task, complete: what a trainer gets at once."""

    name: str
    task: str
    samples: list[Sample] = field(default_factory=list)
    """Those that are kept, by index. A sample that failed for good is among them, with its error."""
    dropped: int = 0
    """Samples that were begun and not kept: over-sampled, replaced, or too late."""
    started: float = 0.0
    """When the first call of its first sample was sent."""
    ended: float = 0.0
    timed_out: bool = False

    @property
    def blocking_s(self) -> float:
        """How long samples that were done waited for the last of their group, on average over the kept ones."""
        if not self.samples:
            return 0.0
        last = max(sample.ended for sample in self.samples)
        return sum(last - sample.ended for sample in self.samples) / len(self.samples)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; its lists are the group's own."""
        samples = [sample.as_dict() for sample in self.samples]
        return {"schema": SCHEMA, **_as_dict(self), "samples": samples, "blocking_s": self.blocking_s}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Group:
        """Inverse of :meth:`as_dict`."""
        known = {each.name: record[each.name] for each in fields(cls) if each.name in record}
        return cls(**{**known, "samples": [Sample.from_dict(sample) for sample in record["samples"]]})
