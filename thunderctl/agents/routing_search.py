"""Searches a corpus by BM25. The index is made once in a process for each corpus and shared by all agents."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thunderctl.errors import WorkloadError


@dataclass(frozen=True, slots=True)
class Passage:
    id: str
    title: str
    text: str


class Corpus:
    """Passages and their index."""

    def __init__(self, passages: list[Passage]) -> None:
        # A third of a second and NumPy: only those who search pay for it.
        import bm25s

        self.passages = passages
        self._bm25: Any = bm25s.BM25()
        self._tokens = functools.partial(bm25s.tokenize, stopwords="en", show_progress=False)
        tokens = self._tokens([f"{p.title} {p.text}" for p in passages], return_ids=False)
        if not any(tokens):
            raise WorkloadError("the corpus has no words to search for")
        self._bm25.index(tokens, show_progress=False)

    def search(self, query: str, count: int) -> list[Passage]:
        """The ``count`` best passages, best first; none that shares no word with the query."""
        words = self._tokens([query], return_ids=False)
        if not words[0]:
            return []
        found, scores = self._bm25.retrieve(words, k=min(count, len(self.passages)), show_progress=False, n_threads=0)
        return [self.passages[int(place)] for place, score in zip(found[0], scores[0], strict=True) if score > 0]


@functools.lru_cache(maxsize=4)
def load_corpus(path: Path) -> Corpus:
    """A corpus from JSON lines; ``WorkloadError`` names the line that cannot be used."""
    passages: dict[str, Passage] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as failure:
        raise WorkloadError(f"{path} cannot be read: {failure}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            passage = Passage(str(row["id"]), str(row.get("title", "")), str(row["text"]))
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise WorkloadError(f'{path} line {number}: wanted {{"id": "…", "title": "…", "text": "…"}}') from None
        if passage.id in passages:
            raise WorkloadError(f"{path} line {number}: there is a passage {passage.id!r} above")
        passages[passage.id] = passage
    if not passages:
        raise WorkloadError(f"{path} has no passages")
    return Corpus(list(passages.values()))
