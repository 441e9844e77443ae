"""What a roll-out came to: a line for each complete group, and the figures that follow from the lines and the run.

Definitions, beside those of ``report/stats.py``:

- *kept*: samples that complete groups hold; *dropped*: begun and not kept, because the group had enough, because
  another took their place, or because they came too late;
- *model tokens*: tokens of kept samples that the model made, so what can be trained on; a second is one of the run's
  window;
- *blocking*: how long samples that had ended waited for the last one of their group, on average; mean and worst over
  groups;
- *staleness*: the version of the weights in force when a group was complete, less the version that made the token;
- *nothing to judge*: samples that got to their own end without handing anything in, or whose task has no tests here;
- *mixed*: groups whose rewards are not all the same: the others teach a method that compares within groups nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from thunderctl.report.stats import ratio
from thunderctl.rollouts.groups import NOT_DONE
from thunderctl.rollouts.schema import Group


def line_of(group: Group, version: int) -> dict[str, Any]:
    """A complete group as the run's ``groups.jsonl`` has it. ``version``: of the weights in force now."""
    segments = [segment for sample in group.samples for segment in sample.segments]
    ages = [
        version - made
        for segment in segments
        for made, ours in zip(segment.versions, segment.mask, strict=True)
        if ours
    ]
    return {
        "group": group.name,
        "task": group.task,
        "started": group.started,
        "ended": group.ended,
        "timed_out": group.timed_out,
        "dropped": group.dropped,
        "blocking_s": group.blocking_s,
        "statuses": dict(Counter(sample.status for sample in group.samples)),
        "replaced": sum(sample.attempt - 1 for sample in group.samples),
        "rewards": [sample.reward for sample in group.samples],
        "steps": sum(sample.steps for sample in group.samples),
        "segments": len(segments),
        "breaks": dict(Counter(reason for sample in group.samples for reason in sample.breaks)),
        "tokens": sum(len(segment.ids) for segment in segments),
        "model_tokens": len(ages),
        "with_logprobs": sum(sum(s.mask) for s in segments if s.logprobs is not None),
        "version": version,
        "age_sum": sum(ages),
        "age_max": max(ages, default=0),
    }


def newest_in(group: Group) -> int:
    """The newest version of the weights that made a token of it."""
    made = (max(s.versions, default=0) for sample in group.samples for s in sample.segments)
    return max(0, max(made, default=0))


def figures(run: Mapping[str, Any], asked: Mapping[str, Any], lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """``run``: the run's summary; ``asked``: the manifest's ``rollout``; ``lines``: of ``groups.jsonl``."""
    groups = list({line["group"]: line for line in lines}.values())
    rewards = [reward for group in groups for reward in group["rewards"] if reward is not None]
    statuses = _sum(group["statuses"] for group in groups)
    done = sum(count for status, count in statuses.items() if status not in NOT_DONE)
    tokens = sum(group["model_tokens"] for group in groups)
    blocking = [float(group["blocking_s"]) for group in groups]
    return {
        "groups": {
            "asked": asked["groups"],
            "complete": len(groups),
            "timed_out": sum(group["timed_out"] for group in groups),
            "mixed": sum(len({r for r in group["rewards"] if r is not None}) > 1 for group in groups),
        },
        "samples": {
            "per_task": asked["samples_per_task"],
            "keep": asked["keep"],
            "kept": sum(statuses.values()),
            "done": done,
            "by_status": statuses,
            "dropped": sum(group["dropped"] for group in groups),
            "replaced": sum(group["replaced"] for group in groups),
        },
        "rewards": {"judged": len(rewards), "mean": _mean(rewards), "nothing_to_judge": done - len(rewards)},
        "tokens": {
            "model": tokens,
            "all": sum(group["tokens"] for group in groups),
            "with_logprobs": sum(group["with_logprobs"] for group in groups),
            "model_per_s": ratio(tokens, run["window_s"]),
        },
        "segments": {
            "count": sum(group["segments"] for group in groups),
            "breaks": _sum(group["breaks"] for group in groups),
        },
        "blocking_s": {"mean": _mean(blocking), "worst": max(blocking, default=None)},
        "staleness": {
            "mean": ratio(sum(group["age_sum"] for group in groups), tokens),
            "worst": max((group["age_max"] for group in groups), default=0),
        },
        "steps_per_min": run["throughput"]["steps_per_min"],
        "hit_rate": run["hit_rate"],
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    found = Counter[str]()
    for each in counts:
        found.update(each)
    return dict(found)
