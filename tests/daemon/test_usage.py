"""Token counts in the answers of all four APIs, as vLLM 0.32 words them; streams cut anywhere."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderctl.daemon.usage import StreamReader, Usage, usage_of

COMPLETION = {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 60}}
RESPONSE = {"input_tokens": 100, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 60}}
MESSAGE = {"input_tokens": 40, "output_tokens": 5, "cache_read_input_tokens": 60}
SAID = Usage(prompt_tokens=100, cached_tokens=60, output_tokens=5)


@pytest.mark.parametrize("usage", [COMPLETION, RESPONSE, MESSAGE])
def test_every_api_says_the_same_in_its_own_words(usage: dict[str, object]) -> None:
    assert usage_of(json.dumps({"id": "x", "usage": usage}).encode()) == SAID


def test_without_details_nothing_counts_as_cached() -> None:
    assert usage_of(b'{"usage": {"prompt_tokens": 7, "completion_tokens": null}}') == Usage(7, 0, 0)
    assert usage_of(b'{"usage": {"input_tokens": 7, "output_tokens": 2}}') == Usage(7, 0, 2)


@pytest.mark.parametrize("answer", [b"", b"[]", b"\xff", b'{"usage": null}', b'{"usage": 3}', b'{"choices": []}'])
def test_an_answer_without_usage_has_none(answer: bytes) -> None:
    assert usage_of(answer) is None


def data(event: object, name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(event, separators=(',', ':'))}\n\n".encode()


CHAT = [
    data({"choices": [{"delta": {"role": "assistant", "content": ""}}]}),
    data({"choices": [{"delta": {"content": 'he said "usage"'}}]}),
    data({"choices": [], "usage": COMPLETION}),
    b"data: [DONE]\n\n",
]
MESSAGES = [
    data({"type": "message_start", "message": {"usage": {"input_tokens": 100, "output_tokens": 0}}}, "message_start"),
    data({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}}, "content_block_delta"),
    data({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "b"}}, "content_block_delta"),
    data({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": MESSAGE}, "message_delta"),
    data({"type": "message_stop"}, "message_stop"),
]
RESPONSES = [
    data({"type": "response.created", "response": {"text": {"format": None}, "usage": None}}, "response.created"),
    data({"type": "response.output_text.delta", "delta": "a"}, "response.output_text.delta"),
    data({"type": "response.completed", "response": {"usage": RESPONSE}}, "response.completed"),
]
streams = st.sampled_from([CHAT, MESSAGES, RESPONSES])


def cut(text: bytes, at: list[int]) -> list[bytes]:
    ends = [0, *sorted({a % (len(text) + 1) for a in at}), len(text)]
    return [text[a:b] for a, b in zip(ends, ends[1:], strict=False)]


@given(streams, st.lists(st.integers(0, 2000), max_size=12))
def test_a_stream_passes_unchanged_and_is_counted_wherever_it_is_cut(events: list[bytes], at: list[int]) -> None:
    text = b"".join(events)
    reader = StreamReader(keep=True)
    passed = [reader.feed(piece) for piece in cut(text, at)]
    assert b"".join(passed) + reader.rest() == text
    assert passed == cut(text, at)  # and nothing is kept back
    assert reader.usage == SAID


@given(st.lists(st.integers(0, 2000), max_size=12))
def test_only_the_usage_event_that_nobody_asked_for_is_taken_out(at: list[int]) -> None:
    reader = StreamReader(keep=False)
    passed = b"".join(reader.feed(piece) for piece in cut(b"".join(CHAT), at)) + reader.rest()
    assert passed == CHAT[0] + CHAT[1] + CHAT[3]
    assert reader.usage == SAID


@given(st.lists(st.integers(0, 2000), max_size=12))
def test_other_line_ends_are_understood_as_well(at: list[int]) -> None:
    events = [event.replace(b"\n\n", b"\r\n\r\n") for event in CHAT]
    reader = StreamReader(keep=False)
    passed = b"".join(reader.feed(piece) for piece in cut(b"".join(events), at)) + reader.rest()
    assert passed == events[0] + events[1] + events[3]
    assert reader.usage == SAID


@pytest.mark.parametrize(("events", "tokens"), [(CHAT, 2), (RESPONSES, 1), (MESSAGES, 3)])
def test_events_with_content_are_counted_and_others_are_not(events: list[bytes], tokens: int) -> None:
    reader = StreamReader(keep=True)
    reader.feed(events[0])
    if events is not CHAT:
        assert reader.tokens == 0  # what comes before the first token says nothing of prefill
    reader.feed(b"".join(events[1:]))
    assert reader.tokens == tokens


def test_what_a_message_says_at_its_start_is_not_its_usage() -> None:
    reader = StreamReader(keep=True)
    reader.feed(b"".join(MESSAGES[:3]))
    assert reader.usage is None


def test_the_last_of_several_usages_counts() -> None:
    reader = StreamReader(keep=True)
    early = {**COMPLETION, "completion_tokens": 1}
    reader.feed(data({"choices": [{"delta": {}}], "usage": early}) + data({"choices": [], "usage": COMPLETION}))
    assert reader.usage == SAID
