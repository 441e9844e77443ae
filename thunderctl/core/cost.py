"""Where a worker's KV space went: token·seconds split by use (arXiv 2602.13692, section 4.2).

A worker of C tokens offers C token·seconds each second. Finished calls and rests book what they used; what nobody
booked was unused. When the first token was not seen (answers that were not streamed), prefill time is derived from
the worker's measured prefill rate.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class CostModel:
    """Token·seconds on one worker since it came up."""

    decode: float = 0.0
    prefill: float = 0.0
    """Computing tokens for the first time."""
    recompute: float = 0.0
    """Computing tokens again that this program had had cached before."""
    caching: float = 0.0
    """Keeping an acting program's context."""
    recomputed_tokens: int = 0
    """Tokens (not token·seconds) computed again."""

    def book_call(
        self,
        *,
        prompt_tokens: int,
        cached_tokens: int,
        output_tokens: int,
        known_tokens: int,
        prefill_s: float,
        decode_s: float,
    ) -> None:
        """Book one finished call. ``known_tokens``: context length of the program before it."""
        computed = max(0, prompt_tokens - cached_tokens)
        again = min(computed, max(0, min(known_tokens, prompt_tokens) - cached_tokens))
        space_time = prompt_tokens * prefill_s
        share = again / computed if computed else 0.0
        self.recompute += space_time * share
        self.prefill += space_time * (1 - share)
        self.recomputed_tokens += again
        self.decode += (prompt_tokens + output_tokens / 2) * decode_s

    def book_rest(self, tokens: int, seconds: float) -> None:
        self.caching += tokens * max(0.0, seconds)

    def as_dict(self) -> dict[str, float]:
        return {
            "decode": self.decode,
            "prefill": self.prefill,
            "recompute": self.recompute,
            "caching": self.caching,
            "recomputed_tokens": float(self.recomputed_tokens),
        }
