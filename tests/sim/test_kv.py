"""The KV pool against a pool that keeps every block by itself."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim.block_by_block import NaivePool, Token, blocks_of, tokens_of
from tests.sim.programs import SIZE, random_programs
from thunderctl.sim.context import Commons, Context
from thunderctl.sim.kv import BlockPool, Lease, Path
from thunderctl.traces.trace import TraceProgram


@dataclass
class Held:
    """A request in both pools."""

    path: Path
    lease: Lease
    blocks: list[int]
    prompt: list[Token]
    answer: list[Token]
    computed: int


class Pair:
    """The pool and the naive one, made to do the same."""

    def __init__(self, blocks: int, programs: list[TraceProgram]) -> None:
        self.pool = BlockPool(blocks)
        self.naive = NaivePool(blocks)
        self.programs = programs
        self.commons = Commons(SIZE)
        self.contexts = [Context(program, self.commons) for program in programs]
        self.names = [f"p{n}" for n in range(len(programs))]
        self.step = [0] * len(programs)
        self.held: dict[int, Held] = {}
        self.preempted: dict[int, tuple[Path, list[Token], list[Token], int]] = {}

    def begin(self, n: int) -> None:
        """Program ``n`` once more, as another agent would take it up: only what is common can be found again."""
        self.contexts[n] = Context(self.programs[n], self.commons)
        self.names[n] += "'"
        self.step[n] = 0

    def enter(self, n: int) -> None:
        """The next call of program ``n``, or its preempted one again, with its whole prompt at once."""
        if n in self.preempted:
            path, prompt, answer, said = self.preempted.pop(n)
        else:
            if self.step[n] == len(self.programs[n].steps):
                self.begin(n)
            prompt, answer = tokens_of(self.names[n], self.programs[n], self.step[n])
            this = self.programs[n].steps[self.step[n]]
            length, path = self.contexts[n].call(
                self.programs[n].prompt_at(self.step[n]), drops_answer=len(answer) != this.output
            )
            assert length == len(prompt)
            self.step[n] += 1
            said = 0
        tokens = prompt + answer[:said]
        limit, total = (len(tokens) - 1) // SIZE, -(-len(tokens) // SIZE)
        hit = self.pool.lookup(path, limit)
        blocks = self.naive.hit(blocks_of(tokens, SIZE), limit)
        assert hit == len(blocks)
        assert self.pool.price(path, hit, total) == self.naive.price(blocks, total)
        if self.naive.price(blocks, total) > self.naive.free:
            self.preempted[n] = (path, prompt, answer, said)
            return
        lease = self.pool.lease(path, hit)
        self.naive.touch(blocks)
        self.held[n] = Held(path, lease, blocks, prompt, answer, len(tokens))
        self.fill(n, total)
        self.pool.register(lease, len(tokens) // SIZE)

    def grow(self, n: int, tokens: int) -> None:
        """Generate some tokens more, as far as there are blocks."""
        held = self.held[n]
        target = min(held.computed + tokens, len(held.prompt) + len(held.answer) - 1)
        if -(-target // SIZE) - len(held.blocks) <= self.naive.free:
            held.computed = max(held.computed, target)
            self.fill(n, -(-held.computed // SIZE))

    def fill(self, n: int, total: int) -> None:
        held = self.held[n]
        self.pool.take(total - len(held.blocks))
        held.blocks += self.naive.take(total - len(held.blocks))
        contents = blocks_of((held.prompt + held.answer)[: held.computed], SIZE)
        for block, content in zip(held.blocks, contents, strict=False):
            self.naive.cache(block, content)

    def leave(self, n: int, *, preempted: bool) -> None:
        """The end of the call, or a preemption: then the last token that was said is not computed yet."""
        held = self.held.pop(n)
        said = held.computed - len(held.prompt) + 1
        self.pool.release(held.lease, len(held.blocks), held.computed // SIZE)
        self.naive.give_back(held.blocks)
        if preempted and said < len(held.answer):
            self.preempted[n] = (held.path, held.prompt, held.answer, said)

    def compare(self) -> None:
        assert (self.pool.free, self.pool.blank) == (self.naive.free, self.naive.blank)
        assert self.pool.evicted == self.naive.evicted
        self.pool.check((held.lease, len(held.blocks)) for held in self.held.values())
        for n, held in self.held.items():
            tokens = (held.prompt + held.answer)[: held.computed]
            found = self.pool.lookup(held.path, held.lease.full)
            assert found == len(self.naive.hit(blocks_of(tokens, SIZE), held.lease.full)), f"p{n}"


@given(seed=st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_hits_evictions_and_free_blocks_are_those_of_a_pool_that_keeps_every_block_by_itself(seed: int) -> None:
    dice = random.Random(seed)
    blocks = dice.randint(8, 40)
    pair = Pair(blocks, random_programs(dice))
    for _ in range(120):
        n = dice.randrange(len(pair.programs))
        if n not in pair.held:
            pair.enter(n)
        elif dice.random() < 0.5:
            pair.grow(n, dice.randint(1, 20))
        else:
            pair.leave(n, preempted=dice.random() < 0.4)
        pair.compare()
    for n in list(pair.held):
        pair.leave(n, preempted=False)
        pair.compare()
    assert pair.pool.free == pair.pool.usable == blocks - 1
