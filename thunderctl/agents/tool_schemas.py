"""The tools of heavy coding agents as a model is told of them: OpenAI function schemas, and calls in a model's answer.

What the tools do stands in ``tools.py``; a word changed here is a word changed in every prompt.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

from thunderctl.agents.client import Answer, ToolCall

_CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)


def _tool(name: str, description: str, required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


SCHEMAS: list[dict[str, Any]] = [
    _tool(
        "bash",
        "Run a command line in bash, at the top of the repository. Every call has a shell of its own: directory "
        "changes, variables and background processes do not outlast it. Nothing can be typed into a running "
        "program, so start none that waits for keys, and keep pagers out of the way. Standard output and error "
        "come back together with the exit code; if they are long, the middle is left out, so narrow down what you"
        " print (head, grep -n, sed -n). A command that runs for too long is ended with everything it started. "
        "Use this tool to search, to run tests and to work with git; to look at files and change them, edit_file "
        "is the safer way.",
        ["command"],
        command={"type": "string", "description": "What to run; several lines and here-documents are fine."},
    ),
    _tool(
        "edit_file",
        "Look at files and change them. Paths are relative to the top of the repository, or absolute. Actions: "
        "`view` shows a file with numbered lines, all of it or only `lines`, or what is in a folder, two levels "
        "deep. `create` makes a new file out of `text`; it refuses if there is one already. `replace` puts `new` "
        "in the place of `old`, which must occur in the file exactly once, letter for letter with all blanks and "
        "line breaks: take in enough neighbouring lines to make it unique, and leave out the line numbers that "
        "view adds. `insert` puts `text` as lines of its own after line number `after`. `undo` takes back the "
        "last change that this tool made to the file, and may be called several times. After a change you are "
        "shown its surroundings: check indentation and neighbouring lines before you go on.",
        ["action", "path"],
        action={"type": "string", "enum": ["view", "create", "replace", "insert", "undo"]},
        path={"type": "string", "description": "File or folder."},
        lines={
            "type": "array",
            "items": {"type": "integer"},
            "description": "For view: first and last line, counted from 1; -1 as the last one means the end.",
        },
        text={"type": "string", "description": "For create: the whole file. For insert: the lines to put in."},
        old={"type": "string", "description": "For replace: what is there now."},
        new={"type": "string", "description": "For replace: what shall be there; empty to delete."},
        after={"type": "integer", "description": "For insert: the line to put it after; 0 for the top of the file."},
    ),
    _tool(
        "python",
        "Run a cell in a Python process that stays alive between calls: imports, variables and functions of "
        "earlier cells are still there. It starts at the top of the repository, whose packages can be imported. "
        "What the cell prints comes back, and the value of its last line if that is an expression; an exception "
        "comes back as a traceback and leaves the variables of the process as they are. Modules that are imported"
        " already are not read again when you change their files: use importlib.reload, or check the change with "
        "a fresh process in bash.",
        ["code"],
        code={"type": "string", "description": "Source of the cell."},
    ),
    _tool(
        "think",
        "Write down a longer thought: weigh explanations against what you have seen, plan a change, or list what "
        "is left to check. Nothing is run and nothing new is learnt by it; it only keeps the thought in view.",
        ["thought"],
        thought={"type": "string"},
    ),
    _tool(
        "finish",
        "Hand in the repository as it stands and end the task; nothing can be done afterwards. Call it only when "
        "the change is complete, the tests pass and files that you made for yourself are removed. The difference "
        "to the state that you found is what will be judged.",
        ["message"],
        message={"type": "string", "description": "What was wrong and what was changed, in a few sentences."},
    ),
]
"""``tools`` of every request."""

NAMES = [schema["function"]["name"] for schema in SCHEMAS]


class BadCall(Exception):
    """A call that no tool can carry out; the message is for the model."""


def calls_of(answer: Answer) -> list[ToolCall]:
    """The calls of an answer; those that the engine left in its text, as Hermes writes them, are found there."""
    if answer.tool_calls:
        return list(answer.tool_calls)
    found = []
    for text in _CALL.findall(answer.content):
        try:
            said = json.loads(text)
            name, arguments = said["name"], said.get("arguments", {})
        except (json.JSONDecodeError, TypeError, KeyError, AttributeError):
            name, arguments = "", text.strip()
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        found.append(ToolCall(f"call_{secrets.token_hex(8)}", str(name), written))
    return found


def said_before(answer: Answer) -> str:
    """What an answer says before its first call."""
    return answer.content.partition("<tool_call>")[0]


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """A call's arguments, checked against the tool's schema as far as names and plain types go.

    Raises:
        BadCall: there is no such tool, or the arguments do not fit.
    """
    schema = next((s["function"] for s in SCHEMAS if s["function"]["name"] == call.name), None)
    if schema is None:
        raise BadCall(f"There is no tool {call.name!r}. Tools: {', '.join(NAMES)}.")
    try:
        arguments = json.loads(call.arguments or "{}")
    except json.JSONDecodeError as error:
        raise BadCall(f"The arguments of {call.name} are not valid JSON: {error}.") from None
    if not isinstance(arguments, dict):
        raise BadCall(f"The arguments of {call.name} must be a JSON object.")
    parameters = schema["parameters"]
    for name in parameters["required"]:
        if name not in arguments:
            raise BadCall(f"{call.name} needs the argument `{name}`.")
    for name, value in arguments.items():
        if name not in parameters["properties"]:
            known = ", ".join(parameters["properties"])
            raise BadCall(f"{call.name} has no argument `{name}`; it has: {known}.")
        if parameters["properties"][name]["type"] == "string" and not isinstance(value, str):
            raise BadCall(f"The argument `{name}` of {call.name} must be a text.")
    return arguments
