"""What is kept of an output: head, tail and an honest count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thunderctl.environments.output import HeadTail


@given(chunks=st.lists(st.binary(max_size=40)), limit=st.integers(2, 100))
def test_an_output_within_the_limit_is_kept_whole_and_a_longer_one_loses_its_middle_only(
    chunks: list[bytes], limit: int
) -> None:
    chunks = [chunk.replace(b"\n", b"n").translate(bytes(i & 0x7F for i in range(256))) for chunk in chunks]
    everything = b"".join(chunks)
    kept = HeadTail(limit)
    for chunk in chunks:
        kept.feed(chunk)
    text, cut = kept.text()
    if len(everything) <= limit:
        assert (text, cut) == (everything.decode(), 0)
        return
    head, tail = everything[: limit // 2].decode(), everything[len(everything) - (limit - limit // 2) :].decode()
    assert cut == len(everything) - limit
    assert text == f"{head}\n[... {cut} bytes cut ...]\n{tail}"


def test_memory_stays_bounded_however_much_is_fed() -> None:
    kept = HeadTail(1000)
    for _ in range(10_000):
        kept.feed(b"x" * 1000)
    assert len(kept._head) + sum(map(len, kept._tail)) <= 1000 + 1000
    assert kept.text()[1] == 10_000_000 - 1000


def test_a_character_cut_in_half_does_not_break_the_text() -> None:
    kept = HeadTail(5)
    kept.feed("ääääää".encode())
    assert "bytes cut" in kept.text()[0]
