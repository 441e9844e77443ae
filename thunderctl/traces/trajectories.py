"""mini-SWE-agent's trajectory files (``*.traj.json``): token counts and times out of the messages of one run.

A file holds ``messages``. An answer of the model carries its response in ``extra.response``, or is itself one (the
Responses API, ``"object": "response"``); ``usage`` in it counts tokens. Newer files stamp answers and observations with
``extra.timestamp``, so a tool's time is the difference; older ones only tell when a response was ``created``, which
gives the seconds from call to call, model included.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thunderctl.errors import WorkloadError
from thunderctl.traces.load import ProgramRecord, StepRecord

CHARACTERS_PER_TOKEN = 4
"""For files that do not state their usage: a common rule of thumb for English and code."""
_TEXTS = ("content", "text", "tool_calls", "function", "arguments", "output", "summary")
"""Keys of a message below which there is text that a model reads or wrote."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One file. ``estimated``: token counts are; ``untimed``: steps whose tool's time is unknown."""

    record: ProgramRecord
    estimated: bool
    untimed: int


@dataclass(slots=True)
class _Call:
    prompt: int
    output: int
    reasoning: int
    answered: float | None
    """When the answer was there."""
    created: float | None
    """When the server began with it."""
    tool_ended: float | None = None


def find_trajectories(path: Path) -> list[Path]:
    """The file itself, or every trajectory below a folder."""
    files = sorted(path.rglob("*.traj.json")) if path.is_dir() else [path]
    if not files:
        raise WorkloadError(f"{path} holds no trajectories (*.traj.json)")
    return files


def read_trajectory(file: Path) -> Trajectory | None:
    """The program of one file; ``None`` if it made no model call. ``ValueError`` says what is wrong with it."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as failure:
        raise ValueError(f"cannot be read: {failure}") from None
    messages = said.get("messages") if isinstance(said, dict) else None
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise ValueError("messages: wanted a list of objects")
    info = said.get("instance_id")
    name = info if isinstance(info, str) and info else file.name.removesuffix(".json").removesuffix(".traj")
    answers = [message for message in messages if _is_answer(message)]
    if not answers:
        return None
    stated = all(_usage(message) is not None for message in answers)
    calls = _calls(messages, stated)
    steps = [_step(call, after) for call, after in zip(calls, [*calls[1:], None], strict=True)]
    record = ProgramRecord(
        id=name,
        first_prompt=max(1, calls[0].prompt),
        steps=steps,
        label=name.split("__")[0] if "__" in name else "",
    )
    untimed = sum(_seconds(call, after) is None for call, after in zip(calls, calls[1:], strict=False))
    return Trajectory(record, estimated=not stated, untimed=untimed)


def _is_answer(message: dict[str, Any]) -> bool:
    return message.get("role") == "assistant" or message.get("object") == "response"


def _calls(messages: list[dict[str, Any]], stated: bool) -> list[_Call]:
    calls: list[_Call] = []
    characters = 0
    for message in messages:
        stamped = _time(_object(message.get("extra")), "timestamp")
        if message.get("role") == "exit":
            continue  # the run's result, not something a model reads
        if _is_answer(message):
            usage = _usage(message) if stated else None
            prompt, output, reasoning = usage or (_tokens(characters), max(1, _tokens(_length(message))), 0)
            calls.append(_Call(prompt, output, reasoning, stamped, _time(_response(message), "created")))
        elif calls:
            calls[-1].tool_ended = stamped or calls[-1].tool_ended
        characters += _length(message)
    return calls


def _step(call: _Call, after: _Call | None) -> StepRecord:
    """A call and what followed it. If the next prompt is shorter than prompt and answer, the rest was reasoning."""
    kept, observation = call.output - call.reasoning, 0
    if after is not None:
        grown = max(0, after.prompt - call.prompt)
        kept = min(kept, grown)
        observation = grown - kept
    seconds = _seconds(call, after)
    tokens = {"output": kept, "reasoning": call.output - kept, "observation": observation}
    if call.answered is None and seconds is not None:
        return StepRecord(**tokens, gap_s=seconds)
    return StepRecord(**tokens, tool_s=seconds or 0.0)


def _seconds(call: _Call, after: _Call | None) -> float | None:
    """Of the tool alone where answers are stamped, from call to call otherwise; ``None`` if nothing tells."""
    if call.answered is not None:
        return None if call.tool_ended is None else max(0.0, round(call.tool_ended - call.answered, 3))
    if after is None or call.created is None or after.created is None:
        return None
    return max(0.0, after.created - call.created)


def _response(message: dict[str, Any]) -> dict[str, Any]:
    """The API's response that an answer came in."""
    return _object(_object(message.get("extra")).get("response")) or message


def _object(value: Any) -> dict[str, Any]:
    """``value`` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def _usage(message: dict[str, Any]) -> tuple[int, int, int] | None:
    """Tokens of prompt, answer, and reasoning within the answer, as the API counted them."""
    usage = _object(_response(message).get("usage"))
    prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
    output = usage.get("completion_tokens", usage.get("output_tokens"))
    details = _object(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    reasoning = details.get("reasoning_tokens")
    if type(prompt) is not int or type(output) is not int or prompt < 1 or output < 1:
        return None
    return prompt, output, min(output, reasoning) if type(reasoning) is int and reasoning > 0 else 0


def _time(record: dict[str, Any], key: str) -> float | None:
    """Seconds since the epoch under ``key``."""
    value = record.get(key)
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _tokens(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)


def _length(message: dict[str, Any]) -> int:
    return sum(len(text) for key in _TEXTS for text in _texts(message.get(key)))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for key in _TEXTS:
            yield from _texts(value.get(key))
