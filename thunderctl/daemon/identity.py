"""Which program a request belongs to, and the few facts of its body that matter. The body is parsed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

LONGEST_ID = 256
"""Characters of a program's id at most."""


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class Named(msgspec.Struct):
    """The keys that name a program, wherever in the body they may stand. Everything beside them is skipped unread."""

    program_id: str | int | None = None
    group_id: str | int | None = None
    docker_ids: list[str] | str | None = None
    """Containers that the agent made for itself and wants collected with its program (ThunderAgent's key)."""


class Xargs(msgspec.Struct):
    agentic_context: str | int | Named | None = None


class CallBody(Named):
    """The fields of a request that the gateway looks at; everything else passes through unread."""

    extra_body: Named | None = None
    metadata: Named | None = None
    """Where ``/v1/messages`` and ``/v1/responses`` let a client put keys of its own."""
    stream: bool | None = False
    return_token_ids: bool | None = False
    stream_options: StreamOptions | None = None
    vllm_xargs: Xargs | None = None
    prompt: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    def prompt_ids(self) -> int | None:
        """Length of the prompt where it is one list of token ids, which needs no estimate; else ``None``."""
        if self.prompt is msgspec.UNSET:
            return None
        raw = bytes(self.prompt)
        if not raw.startswith(b"[") or not raw[1:].lstrip()[:1].isdigit():
            return None
        return raw.count(b",") + 1


class BadBody(ValueError):
    """The body is no JSON object, or one of the fields that are looked at has the wrong type."""


_decoder = msgspec.json.Decoder(CallBody)


def parse_body(body: bytes) -> CallBody:
    """Parse once; ``BadBody`` says in words what is wrong."""
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadBody(f"the request body is not usable: {error}") from None


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose call it is. ``program`` is ``None`` for a request that names none."""

    program: str | None
    group: str | None
    docker_ids: list[str]


def identify(body: CallBody, headers: Mapping[str, str]) -> Identity:
    """The program and what the client says beside it, looked for in the body first, then in ``headers``.

    ``group``: of roll-outs, say. ``docker_ids``: containers that the client says belong to the program.
    """
    places = [place for place in (body, body.extra_body, body.metadata) if place is not None]
    group = next((str(place.group_id) for place in places if place.group_id is not None), None)
    containers = next((place.docker_ids for place in places if place.docker_ids), [])
    program = _program_of(body, places, headers)
    return Identity(program, group, [containers] if isinstance(containers, str) else containers)


def _program_of(body: CallBody, places: list[Named], headers: Mapping[str, str]) -> str | None:
    """The program's id, first match wins: body, ``extra_body``, ``metadata``, headers, ``vllm_xargs.agentic_context``.

    ``None``: the request names no program; it is passed on unscheduled and counted apart.
    """
    context = body.vllm_xargs.agentic_context if body.vllm_xargs is not None else None
    for named in (
        *(place.program_id for place in places),
        headers.get("X-Program-Id"),
        headers.get("X-Session-ID"),
        context.program_id if isinstance(context, Named) else context,
    ):
        if named is None or named == "":
            continue
        if len(str(named)) > LONGEST_ID:
            raise BadBody(f"program_id is longer than {LONGEST_ID} characters")
        return str(named)
    return None


def ask_for_usage(raw: bytes, body: CallBody) -> tuple[bytes, bool]:
    """Make a streamed completion report its token counts. Returns the body to send, and whether the client asked.

    The usual case adds one key behind the opening brace: nothing is re-serialised.
    """
    if not body.stream:
        return raw, True
    if body.stream_options is None:
        start = raw.index(b"{") + 1
        rest = raw[start : start + 64].lstrip()
        comma = b"" if rest.startswith(b"}") else b","
        if b'"stream_options"' not in raw:
            return b'{"stream_options":{"include_usage":true}' + comma + raw[start:], False
    elif body.stream_options.include_usage:
        return raw, True
    fields = msgspec.json.decode(raw)
    fields["stream_options"] = {**(fields.get("stream_options") or {}), "include_usage": True}
    return msgspec.json.encode(fields), False
