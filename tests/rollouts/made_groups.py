"""Groups as the schema promises them, drawn by Hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from thunderctl.rollouts.schema import BREAKS, NOT_THE_MODEL, Group, Sample, Segment, Turn, digest_of

ENDED_BY_ITSELF = ("submitted", "step limit", "format errors", "trajectory ended")


@st.composite
def segments(draw: st.DrawFn, first_step: int, version: int, *, logprobs: bool) -> Segment:
    """A prompt, then answers with what came between, and perhaps something after the last."""
    segment = Segment(logprobs=[] if logprobs else None)

    def add(count: int, mask: int, by: int) -> None:
        segment.ids += draw(st.lists(st.integers(0, 2**31 - 1), min_size=count, max_size=count))
        segment.mask += [mask] * count
        segment.versions += [by] * count
        if segment.logprobs is not None:
            given_out = st.floats(-9999.0, 0.0, allow_nan=False)
            segment.logprobs += draw(st.lists(given_out, min_size=count, max_size=count)) if mask else [0.0] * count

    add(draw(st.integers(1, 6)), 0, NOT_THE_MODEL)
    for step in range(first_step, first_step + draw(st.integers(1, 3))):
        start, version = len(segment.ids), version + draw(st.integers(0, 1))
        digest, cached = digest_of(segment.ids), draw(st.integers(0, start))
        add(draw(st.integers(1, 5)), 1, version)
        reason = draw(st.sampled_from(("stop", "length")))
        segment.turns.append(Turn(step, start, len(segment.ids), cached, reason, digest))
        add(draw(st.integers(0, 4)), 0, NOT_THE_MODEL)
    return segment


@st.composite
def samples(draw: st.DrawFn, group: str, index: int, *, logprobs: bool, judged: bool) -> Sample:
    sample = Sample(
        task=f"task of {group}", group=group, index=index, attempt=draw(st.integers(1, 3)), program=f"run/{index}",
        kind=draw(st.sampled_from(("live", "replay"))), status=draw(st.sampled_from(ENDED_BY_ITSELF)),
        submission=draw(st.text(max_size=20)), started=draw(st.floats(0, 1e6)),
    )  # fmt: skip
    sample.ended = sample.started + draw(st.floats(0, 1e6))
    if draw(st.integers(0, 5)) == 0:
        sample.status, sample.error = "failed", draw(st.text(min_size=1, max_size=20))
        if draw(st.booleans()):
            return sample
    elif judged or draw(st.booleans()):
        sample.reward = draw(st.sampled_from((0.0, 0.25, 1.0)))
        sample.parts = draw(st.dictionaries(st.text(max_size=8), st.floats(-1e9, 1e9), max_size=3))
    for _ in range(draw(st.integers(1, 3))):
        version = max((max(s.versions) for s in sample.segments), default=0)
        sample.segments.append(draw(segments(sample.steps + 1, version, logprobs=logprobs)))
        sample.steps = sample.segments[-1].turns[-1].step
    sample.breaks = [draw(st.sampled_from(BREAKS)) for _ in sample.segments[1:]]
    return sample


@st.composite
def groups(
    draw: st.DrawFn, name: str | None = None, *, logprobs: bool | None = None, judged: bool = False, least: int = 0
) -> Group:
    name = name if name is not None else draw(st.text(min_size=1, max_size=12))
    has = logprobs if logprobs is not None else draw(st.booleans())
    found = [draw(samples(name, i, logprobs=has, judged=judged)) for i in range(draw(st.integers(least, 3)))]
    group = Group(name, f"task of {name}", found, dropped=draw(st.integers(0, 4)), timed_out=draw(st.booleans()))
    group.ended = max((sample.ended for sample in found), default=0.0)
    return group


def many_groups(**how: Any) -> st.SearchStrategy[list[Group]]:
    """One to three groups, of names of their own."""
    return st.integers(1, 3).flatmap(lambda n: st.tuples(*(groups(f"g{i}", **how) for i in range(n))).map(list))
