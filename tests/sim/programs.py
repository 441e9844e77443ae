"""Small random programs: every rule about what contexts have in common occurs in them often."""

from __future__ import annotations

import random

from thunderctl.traces.trace import TraceProgram, TraceStep

SIZE = 4
"""Tokens in a block."""
COUNTS = (0, 0, 1, 2, 3, 4, 4, 5, 7, 8, 8, 11, 12, 18)
"""Small counts, and often whole blocks, where the rules have their corners."""


def random_programs(dice: random.Random, *, most: int = 6) -> list[TraceProgram]:
    """One to ``most`` programs with shared prefixes, groups, dropped reasoning and contexts cut on the left."""
    shared = dice.choice([0, 3, 8, 12])
    first_prompts = {group: dice.choice([8, 12, 13, 24]) for group in ("g", "h")}
    found = []
    for n in range(dice.randint(1, most)):
        group = dice.choice([None, "g", "g", "h"])
        first = first_prompts[group] if group else dice.choice([shared or 1, dice.randint(1, 24)])
        steps = tuple(
            TraceStep(dice.choice(COUNTS), dice.choice((0, *COUNTS)), dice.choice(COUNTS), dice.uniform(0.001, 0.4))
            for _ in range(dice.randint(1, 6))
        )
        limit = dice.choice([None, None, None, 16, 23])
        found.append(TraceProgram(f"t{n}", first, steps, "", group, min(shared, first), limit))
    return found
