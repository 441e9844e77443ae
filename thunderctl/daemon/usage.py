"""Token counts as engines state them: in whole answers and in streams of the four model APIs.

What differs between the APIs is where ``usage`` lies and how it names its counts; both are read by one decoder
(vLLM: entrypoints/openai/*/protocol.py, entrypoints/anthropic/serving.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer. ``prompt_tokens`` includes ``cached_tokens``."""

    prompt_tokens: int
    cached_tokens: int
    output_tokens: int


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Said(msgspec.Struct):
    """``usage`` in any of the APIs' words."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None

    def usage(self) -> Usage:
        details = self.prompt_tokens_details or self.input_tokens_details
        read = self.cache_read_input_tokens or 0
        # /v1/messages counts cached tokens beside ``input_tokens``, the others within.
        beside = read + (self.cache_creation_input_tokens or 0)
        return Usage(
            prompt_tokens=(self.prompt_tokens or self.input_tokens or 0) + beside,
            cached_tokens=(details.cached_tokens if details else 0) or read,
            output_tokens=self.completion_tokens or self.output_tokens or 0,
        )


class _Inside(msgspec.Struct):
    usage: _Said | None = None


class _Answer(msgspec.Struct):
    """A whole answer, or one event of a stream. ``response``: an event of ``/v1/responses`` carries the answer."""

    usage: _Said | None = None
    response: _Inside | None = None
    choices: list[msgspec.Raw] | None = None


_decoder = msgspec.json.Decoder(_Answer)


def usage_of(answer: bytes) -> Usage | None:
    """The ``usage`` of a JSON answer; ``None`` if it has none or is no such JSON."""
    try:
        said = _decoder.decode(answer).usage
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return said.usage() if said is not None else None


_LAST = (b"data: [DONE]", b"event: message_stop", b"event: response.completed")
"""How the last event of a stream begins, by API. No content can hold that at the start of a line."""


class StreamReader:
    """Reads token counts out of a server-sent event stream, and takes the usage event out if nobody asked for it.

    Bytes pass through unchanged otherwise. Whole events are looked at only when they contain ``"usage"``.
    """

    def __init__(self, *, keep: bool) -> None:
        self.usage: Usage | None = None
        self.tokens = 0
        """Content events so far: the engine sends about one for each token."""
        self.ended = False
        """The last event has come: clients hang up as soon as they have it."""
        self._keep = keep
        self._tail = b""

    def feed(self, chunk: bytes) -> bytes:
        """What to pass on of the stream so far.

        An unfinished event is kept back until it is whole, if it might have to be taken out.
        """
        data = self._tail + chunk if self._tail else chunk
        end = _end_of_events(data)
        if not end:
            self._tail = data
            return chunk if self._keep else b""
        whole = data
        if end < len(data):
            whole, self._tail = data[:end], data[end:]
        else:
            self._tail = b""
        self.tokens += whole.count(b'"delta"') or whole.count(b'"text":"')
        if b"[DONE]" in whole or b"event: " in whole:
            self.ended = self.ended or any(whole.startswith(last) or b"\n" + last in whole for last in _LAST)
        passed = self._look_at(whole) if b'"usage"' in whole else whole
        return chunk if self._keep else passed

    def _look_at(self, whole: bytes) -> bytes:
        mark = b"\r\n\r\n" if whole.endswith(b"\r\n\r\n") else b"\n\n"
        events = whole.split(mark)[:-1]
        return b"".join(event + mark for event in events if not (b'"usage"' in event and self._take(event)))

    def _take(self, event: bytes) -> bool:
        """Read the event's usage; true if it is to be left out."""
        data = event[event.find(b"data:") + 5 :]
        try:
            answer = _decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return False
        said = answer.usage or (answer.response.usage if answer.response else None)
        if said is None:
            return False
        self.usage = said.usage()
        return not self._keep and answer.choices == []

    def rest(self) -> bytes:
        """An event that the stream left unfinished and that was not passed on."""
        return b"" if self._keep else self._tail


def _end_of_events(data: bytes) -> int:
    """Bytes up to the end of the last whole event."""
    end = data.rfind(b"\n\n")
    if end >= 0:
        return end + 2
    end = data.rfind(b"\r\n\r\n")
    return end + 4 if end >= 0 else 0
