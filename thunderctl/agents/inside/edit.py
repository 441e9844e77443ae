#!/usr/bin/env python3
"""The file editor of heavy coding agents. Runs inside a tool environment, never on the host; standard library only.

Usage: ``edit BASE64``, the call's arguments as JSON. Prints what the agent is to see; ends with 1 if nothing was done.
What it changed it can undo: texts as they were before stand in ``undo.json`` beside this file.
"""

# Any Python 3 of any image runs this, so it is written without what only newer ones have.
# mypy: ignore-errors
# ruff: noqa: PTH100, PTH103, PTH107, PTH110, PTH112, PTH118, PTH120, PTH123, T201, UP031

import base64
import json
import os
import sys

SHOWN_AROUND = 4
"""Lines shown before and after a change."""
LISTED = 400
"""Entries of a folder shown at most."""
REMEMBERED = 50
"""Changes that can be undone."""
HISTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "undo.json")


class Refused(Exception):
    """The call cannot be carried out; the message says why, and what to do."""


def read(path):
    if not os.path.exists(path):
        raise Refused("%s does not exist; use create to make it" % path)
    if os.path.isdir(path):
        raise Refused("%s is a folder; only view works on folders" % path)
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return file.read()


def write(path, text):
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(text)


def changed(path, before, after):
    """Remember ``before`` (None: there was no such file), then write ``after``."""
    history = past()
    history.append([os.path.abspath(path), before])
    write(path, after)
    write(HISTORY, json.dumps(history[-REMEMBERED:]))


def past():
    try:
        with open(HISTORY, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return []


def numbered(lines, first):
    return "".join("%6d  %s\n" % (number, line) for number, line in enumerate(lines, first))


def surroundings(text, first, count):
    """Lines ``first`` to ``first + count`` (from 1) of ``text`` with their neighbours."""
    lines = text.splitlines()
    start = max(1, first - SHOWN_AROUND)
    return numbered(lines[start - 1 : first + count - 1 + SHOWN_AROUND], start)


def wanted(call, name, kind):
    value = call.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise Refused("%s needs `%s` (%s)" % (call.get("action"), name, kind.__name__))
    return value


def view(path, call):
    if os.path.isdir(path):
        return listing(path)
    lines = read(path).splitlines()
    first, last = 1, len(lines)
    if call.get("lines") is not None:
        bounds = wanted(call, "lines", list)
        if len(bounds) != 2 or not all(isinstance(bound, int) for bound in bounds):
            raise Refused("`lines` is a pair of numbers: the first and the last line")
        first, last = bounds[0], len(lines) if bounds[1] == -1 else bounds[1]
        if not 1 <= first <= max(1, len(lines)) or last < first:
            raise Refused("%s has %d lines; lines %s are not among them" % (path, len(lines), bounds))
        last = min(last, len(lines))
    return "%s, lines %d to %d of %d:\n%s" % (path, first, last, len(lines), numbered(lines[first - 1 : last], first))


def listing(folder):
    found = []
    for where, folders, files in os.walk(folder):
        depth = os.path.relpath(where, folder).count(os.sep) + (where != folder)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if depth < 2 else []
        shown = [name + "/" for name in folders] + sorted(name for name in files if not name.startswith("."))
        found += [os.path.relpath(os.path.join(where, name), folder) + "/" * name.endswith("/") for name in shown]
    found.sort()
    more = "\n(%d more)" % (len(found) - LISTED) if len(found) > LISTED else ""
    return "%s, two levels deep:\n%s%s" % (folder, "\n".join(found[:LISTED]), more)


def create(path, call):
    text = wanted(call, "text", str)
    if os.path.exists(path):
        raise Refused("%s exists; change it with replace or insert" % path)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    changed(path, None, text)
    return "%s was created, %d lines." % (path, len(text.splitlines()))


def replace(path, call):
    text, old, new = read(path), wanted(call, "old", str), wanted(call, "new", str)
    count = text.count(old) if old else 0
    if count != 1:
        places = [i + 1 for i, line in enumerate(text.splitlines()) if old and old.splitlines()[0] in line]
        told = " (its first line stands in lines %s)" % ", ".join(map(str, places[:10])) if count > 1 else ""
        raise Refused("`old` stands %d times in %s; it must stand there exactly once%s" % (count, path, told))
    after = text.replace(old, new)
    changed(path, text, after)
    first = text[: text.index(old)].count("\n") + 1
    return "%s was changed:\n%s" % (path, surroundings(after, first, max(1, len(new.splitlines()))))


def insert(path, call):
    text, after_line, new = read(path), wanted(call, "after", int), wanted(call, "text", str)
    lines = text.splitlines(True)
    if not 0 <= after_line <= len(lines):
        raise Refused("%s has %d lines; `after` is a number from 0 to that" % (path, len(lines)))
    if after_line and not lines[after_line - 1].endswith("\n"):
        lines[after_line - 1] += "\n"
    new += "" if new.endswith("\n") else "\n"
    after = "".join(lines[:after_line] + [new] + lines[after_line:])
    changed(path, text, after)
    return "%s was changed:\n%s" % (path, surroundings(after, after_line + 1, len(new.splitlines())))


def undo(path, call):
    history = past()
    mine = [i for i, (where, _before) in enumerate(history) if where == os.path.abspath(path)]
    if not mine:
        raise Refused("the editor has not changed %s, so there is nothing to undo" % path)
    before = history.pop(mine[-1])[1]
    if before is None:
        os.remove(path)
    else:
        write(path, before)
    write(HISTORY, json.dumps(history))
    return "The last change of %s was undone%s." % (path, "" if before is not None else "; it is gone again")


ACTIONS = {"view": view, "create": create, "replace": replace, "insert": insert, "undo": undo}


def main():
    call = json.loads(base64.b64decode(sys.argv[1]).decode("utf-8", "surrogatepass"))
    try:
        if call.get("action") not in ACTIONS:
            raise Refused("`action` must be one of: %s" % ", ".join(ACTIONS))
        told = ACTIONS[call["action"]](wanted(call, "path", str), call)
    except (Refused, OSError, UnicodeError) as reason:
        print(reason)
        return 1
    sys.stdout.buffer.write((told.rstrip("\n") + "\n").encode("utf-8", "replace"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
