"""Groups as the schema promises them, the same for the same seed."""

from __future__ import annotations

import random

from thunderctl.rollouts.schema import NOT_THE_MODEL, Group, Sample, Segment, Turn, digest_of


def seeded_group(name: str, seed: int, samples_of: int = 4, tokens: int = 400) -> Group:
    """A group of about ``samples_of * tokens`` tokens, the same for the same seed."""
    rng = random.Random(seed)
    group = Group(name, f"task of {name}")
    for index in range(samples_of):
        segment = Segment(logprobs=[])
        assert segment.logprobs is not None
        for step in range(1, 6):
            for count, mask in ((tokens // 10, 0), (tokens // 10, 1)):
                if mask:
                    start = len(segment.ids)
                    segment.turns.append(Turn(step, start, start + count, 0, "stop", digest_of(segment.ids)))
                segment.ids += [rng.randrange(8000) for _ in range(count)]
                segment.mask += [mask] * count
                segment.versions += [0 if mask else NOT_THE_MODEL] * count
                segment.logprobs += [-rng.expovariate(1.0) if mask else 0.0 for _ in range(count)]
        reward = float(rng.random() < 0.5)
        group.samples.append(
            Sample(group.task, name, index, 1, f"run/{name}/{index}", "live", "submitted", reward, {"tests": reward},
                   [segment], [], 5, 0.0, 1.0 + index)
        )  # fmt: skip
    group.ended = 1.0 + samples_of
    return group
