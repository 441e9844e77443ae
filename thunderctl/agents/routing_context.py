"""What a routing agent has found so far, as one text that only grows at its end.

Each call of the agent is a chat of two messages that begins with this text, so the engine finds all of it in its cache
except for the last finding. The published loop (ToolOrchestra) puts documents before results and cuts the text on the
left at a limit, so that nearly every call there begins with something else. Here findings stand in the order in which
they came, and when they must make room, half of them goes at once: the prefix breaks then, and not again for long.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from thunderctl.agents.routing_search import Passage


@dataclass(slots=True)
class Findings:
    """``limit``: most characters; ``left_out``: what stands in place of findings that went."""

    limit: int
    left_out: str
    made_room: int = 0
    """How often findings had to go."""
    _texts: list[str] = field(default_factory=list)
    _shown: list[frozenset[str]] = field(default_factory=list)
    """Ids of the passages in each finding."""
    _went: bool = False

    def __str__(self) -> str:
        return (self.left_out if self._went else "") + "".join(self._texts)

    def unknown(self, passages: list[Passage]) -> list[Passage]:
        """Those that do not stand here yet."""
        known: frozenset[str] = frozenset().union(*self._shown)
        return [passage for passage in passages if passage.id not in known]

    def add(self, text: str, passages: list[Passage] | None = None) -> None:
        self._texts.append(text)
        self._shown.append(frozenset(passage.id for passage in passages or ()))
        size = sum(map(len, self._texts))
        if size <= self.limit:
            return
        while len(self._texts) > 1 and size > self.limit // 2:
            size -= len(self._texts.pop(0))
            self._shown.pop(0)
        self._went = True
        self.made_room += 1
