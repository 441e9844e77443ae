"""Which program a request belongs to, and the few facts of its body that matter. The body is parsed once."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class CallBody(msgspec.Struct):
    """The fields of an OpenAI-style request that the gateway looks at; everything else passes through unread."""

    program_id: str | int | None = None
    extra_body: dict[str, object] | None = None
    group_id: str | int | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    vllm_xargs: dict[str, object] | None = None


class BadBody(ValueError):
    """The body is no JSON object, or one of the fields that are looked at has the wrong type."""


_decoder = msgspec.json.Decoder(CallBody)


def parse_body(body: bytes) -> CallBody:
    """Parse once; ``BadBody`` says in words what is wrong."""
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise BadBody(f"the request body is not usable: {error}") from None


def program_of(body: CallBody, headers: Mapping[str, str]) -> str | None:
    """The program's id, first match wins: body, ``extra_body``, ``X-Program-Id``, ``X-Session-ID``, agentic context.

    ``None``: the request names no program; it is passed on unscheduled and counted apart.
    """
    named: object = body.program_id
    if named is None and body.extra_body:
        named = body.extra_body.get("program_id")
    if named is None:
        named = headers.get("X-Program-Id") or headers.get("X-Session-ID")
    if named is None and body.vllm_xargs:
        context = body.vllm_xargs.get("agentic_context")
        named = context.get("program_id") if isinstance(context, dict) else context
    if named is None or named == "":
        return None
    if not isinstance(named, str | int):
        raise BadBody(f"program_id must be a string, not {type(named).__name__}")
    if len(str(named)) > 256:
        raise BadBody("program_id is longer than 256 characters")
    return str(named)


def group_of(body: CallBody) -> str | None:
    """The group (of roll-outs, say) that the program belongs to, if the client names one."""
    named: object = body.group_id
    if named is None and body.extra_body:
        named = body.extra_body.get("group_id")
    return str(named) if isinstance(named, str | int) else None


def ask_for_usage(raw: bytes, body: CallBody) -> tuple[bytes, bool]:
    """Make a streamed request report its token counts. Returns the body to send and whether the client asked itself.

    The usual case adds one key behind the opening brace: nothing is re-serialised.
    """
    if not body.stream:
        return raw, True
    if body.stream_options is None:
        start = raw.index(b"{") + 1
        rest = raw[start:].lstrip()
        comma = b"" if rest.startswith(b"}") else b","
        if b'"stream_options"' not in raw:
            return b'{"stream_options":{"include_usage":true}' + comma + raw[start:], False
    elif body.stream_options.include_usage:
        return raw, True
    fields = msgspec.json.decode(raw)
    fields["stream_options"] = {**(fields.get("stream_options") or {}), "include_usage": True}
    return msgspec.json.encode(fields), False
