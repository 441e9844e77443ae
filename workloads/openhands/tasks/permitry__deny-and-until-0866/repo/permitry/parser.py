"""From the text of a policy to rules and members of groups."""

import re

from .errors import PolicyError
from .patterns import pattern_of
from .rules import EVERYONE, Rule

_NAME = re.compile(r"[a-z][a-z0-9_.-]*")


def parse(text):
    """``(rules, members)``: rules in order, members by group."""
    rules, members, lines = [], {}, {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0]
        words = line.split()
        if not words:
            continue
        if words[0] == "group":
            name, names = _group(line, number)
            if name in members:
                raise PolicyError("there are two groups %s" % name, number)
            members[name] = names
            lines[name] = number
        elif words[0] == "allow":
            rules.append(_rule(words, line, number))
        else:
            raise PolicyError("unexpected word %s" % words[0], number)
    _refuse_circles(members, lines)
    return rules, members


def _rule(words, line, number):
    if len(words) < 4:
        raise PolicyError("wanted: %s WHO ACTIONS PATH" % words[0], number)
    _checked(words[1], number)
    if len(words) > 4:
        raise PolicyError("unexpected word %s" % words[4], number)
    actions = frozenset(words[2].split(","))
    if not all(actions):
        raise PolicyError("an action is empty", number)
    return Rule(number, line.strip(), True, words[1], actions, pattern_of(words[3], number), None, None)


def _group(line, number):
    head, colon, names = line.partition(":")
    words = head.split()
    if not colon or len(words) != 2:
        raise PolicyError("wanted: group NAME: MEMBERS", number)
    name = _checked(words[1], number)
    if name == EVERYONE:
        raise PolicyError("everyone is no group of its own", number)
    return name, [_checked(each, number) for each in names.split()]


def _checked(name, number):
    if not _NAME.fullmatch(name):
        raise PolicyError("not a name: %s" % name, number)
    return name


def _refuse_circles(members, lines):
    for start in members:
        pending, seen = [start], set()
        while pending:
            for name in members.get(pending.pop(), ()):
                if name == start:
                    raise PolicyError("the group %s contains itself" % start, lines[start])
                if name not in seen:
                    seen.add(name)
                    pending.append(name)
