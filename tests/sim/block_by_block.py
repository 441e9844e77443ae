"""vLLM's block pool and engine loop written out naively: real token lists, one object a block, one loop a request.

It shares no code with ``thunderctl/sim``, so an error in one of the two shows.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from thunderctl.traces.trace import TraceProgram

Token = Hashable


def tokens_of(name: str, program: TraceProgram, step: int) -> tuple[list[Token], list[Token]]:
    """The prompt of a call and the answer to it, token by token; equal tokens in equal places can share KV."""
    prompt: list[Token] = []
    for i in range(program.first_prompt):
        if i < program.shared_prefix:
            prompt.append(("everybody", i))
        else:
            prompt.append((program.group or name, i))
    for n, former in enumerate(program.steps[:step]):
        prompt += [(name, "said", n, i) for i in range(former.output)]
        prompt += [(name, "seen", n, i) for i in range(former.observation)]
    this = program.steps[step]
    thoughts = this.reasoning if this.reasoning + this.output else 1
    answer = [(name, "thought", step, i) for i in range(thoughts)] + [
        (name, "said", step, i) for i in range(this.output)
    ]
    if program.context_limit is not None and len(prompt) > program.context_limit:
        prompt = [(name, "cut", step, i) for i in range(program.context_limit)]
    return prompt, list(answer)


def blocks_of(tokens: list[Token], size: int) -> list[Hashable]:
    """What each full block caches: its tokens and all that come before."""
    return [tuple(tokens[: end + size]) for end in range(0, len(tokens) - size + 1, size)]


class NaivePool:
    """One entry a block; the queue is a list."""

    def __init__(self, blocks: int) -> None:
        self.queue = list(range(1, blocks))
        self.users = [0] * blocks
        self.content: list[Hashable | None] = [None] * blocks
        self.known: dict[Hashable, list[int]] = {}
        self.evicted = 0

    @property
    def free(self) -> int:
        return len(self.queue)

    @property
    def blank(self) -> int:
        return sum(self.content[block] is None for block in self.queue)

    def hit(self, contents: list[Hashable], limit: int) -> list[int]:
        found = []
        for content in contents[:limit]:
            if content not in self.known:
                break
            found.append(self.known[content][0])
        return found

    def price(self, hit: list[int], total: int) -> int:
        return total - len(hit) + sum(self.users[block] == 0 for block in hit)

    def touch(self, blocks: list[int]) -> None:
        for block in blocks:
            if self.users[block] == 0:
                self.queue.remove(block)
            self.users[block] += 1

    def take(self, count: int) -> list[int]:
        taken = [self.queue.pop(0) for _ in range(count)]
        for block in taken:
            self.users[block] = 1
            content = self.content[block]
            if content is not None:
                self.evicted += 1
                self.known[content].remove(block)
                if not self.known[content]:
                    del self.known[content]
                self.content[block] = None
        return taken

    def cache(self, block: int, content: Hashable) -> None:
        if self.content[block] is None:
            self.content[block] = content
            self.known.setdefault(content, []).append(block)

    def give_back(self, blocks: list[int]) -> None:
        blank: list[int] = []
        cached: list[int] = []
        for block in reversed(blocks):
            self.users[block] -= 1
            if self.users[block] == 0:
                (blank if self.content[block] is None else cached).append(block)
        self.queue = blank + self.queue + cached


@dataclass
class NaiveRequest:
    name: str
    step: int
    prompt: list[Token]
    answer: list[Token]
    said: int = 0
    computed: int = 0
    cached: int | None = None
    blocks: list[int] = field(default_factory=list)

    @property
    def tokens(self) -> list[Token]:
        return self.prompt + self.answer[: self.said]


@dataclass
class NaiveEngine:
    """``schedule`` and ``finish_step`` in turn."""

    size: int
    max_seqs: int
    budget: int
    pool: NaivePool
    waiting: list[NaiveRequest] = field(default_factory=list)
    running: list[NaiveRequest] = field(default_factory=list)
    scheduled: list[tuple[NaiveRequest, int]] = field(default_factory=list)
    preemptions: int = 0

    def schedule(self) -> tuple[int, int, int, int]:
        """Tokens, context and attention pairs of the step, and requests that it samples."""
        left = self.budget
        self.scheduled = []
        preempted = False
        position = 0
        while position < len(self.running) and left > 0:
            request = self.running[position]
            new = min(len(request.tokens) - request.computed, left)
            while self.needs(request, request.computed + new) > self.pool.free:
                victim = self.running.pop()
                self.pool.give_back(victim.blocks)
                victim.blocks, victim.computed = [], 0
                self.waiting.insert(0, victim)
                self.preemptions += 1
                preempted = True
                if victim is request:
                    break
            if request not in self.running:
                break
            self.allocate(request, new)
            left -= new
            position += 1
        while not preempted and self.waiting and left > 0 and len(self.running) < self.max_seqs:
            request = self.waiting[0]
            length = len(request.tokens)
            hit = self.pool.hit(blocks_of(request.tokens, self.size), (length - 1) // self.size)
            if self.pool.price(hit, -(-length // self.size)) > self.pool.free:
                break
            self.waiting.pop(0)
            self.running.append(request)
            self.pool.touch(hit)
            request.blocks = list(hit)
            request.computed = len(hit) * self.size
            if request.cached is None:
                request.cached = request.computed
            new = min(length - request.computed, left)
            self.allocate(request, new)
            left -= new
        contexts = [(r.computed, new) for r, new in self.scheduled]
        return (
            sum(new for _, new in contexts),
            sum(before + new for before, new in contexts),
            sum(before + i for before, new in contexts for i in range(1, new + 1)),
            sum(request.computed + new == len(request.tokens) for request, new in self.scheduled),
        )

    def needs(self, request: NaiveRequest, tokens: int) -> int:
        return -(-tokens // self.size) - len(request.blocks)

    def allocate(self, request: NaiveRequest, new: int) -> None:
        request.blocks += self.pool.take(self.needs(request, request.computed + new))
        contents = blocks_of(request.tokens[: request.computed + new], self.size)
        for block, content in zip(request.blocks, contents, strict=False):
            self.pool.cache(block, content)
        self.scheduled.append((request, new))

    def finish_step(self) -> list[tuple[str, NaiveRequest, int, int]]:
        """What clients see: first tokens and ends, in order, with the blocks that were free and blank then."""
        seen = []
        for request, new in self.scheduled:
            request.computed += new
            if request.computed < len(request.tokens):
                continue
            request.said += 1
            if request.said == 1:
                seen.append(("first token", request, self.pool.free, self.pool.blank))
            if request.said == len(request.answer):
                self.running.remove(request)
                self.pool.give_back(request.blocks)
                seen.append(("end", request, self.pool.free, self.pool.blank))
        return seen
