"""Answers questions by the rules of a policy."""

from .parser import parse
from .patterns import path_parts
from .rules import EVERYONE


class Policy:
    """Rules, and who is a member of which group."""

    def __init__(self, rules, members):
        self._rules = list(rules)
        self._members = {group: set(names) for group, names in members.items()}

    @classmethod
    def read(cls, text):
        """The policy of a text; ``PolicyError`` names the line that cannot be used."""
        rules, members = parse(text)
        return cls(rules, members)

    def may(self, user, action, path):
        """Whether ``user`` may do ``action`` with ``path``."""
        distances = self.distances(user)
        parts = path_parts(path)
        return any(rule.subject in distances and rule.fits(action, parts) for rule in self._rules)

    def distances(self, user):
        """How far subjects of rules are from a user: 0 for the user, 1 for a group of theirs, and so on."""
        found, level, distance = {user: 0}, {user}, 0
        while level:
            distance += 1
            level = {group for group, names in self._members.items() if names & level and group not in found}
            found.update(dict.fromkeys(level, distance))
        found[EVERYONE] = distance + 1
        return found

    def groups_of(self, user):
        """Every group that a user is in, directly or over others, the nearest ones first."""
        distances = self.distances(user)
        return sorted((name for name in distances if name in self._members and name != user),
                      key=lambda name: (distances[name], name))

    def users(self):
        """Everybody whom the policy mentions."""
        names = {name for members in self._members.values() for name in members}
        names |= {rule.subject for rule in self._rules}
        return sorted(names - set(self._members) - {EVERYONE})

    def table(self, action, paths):
        """Who may do ``action`` with which of ``paths``: lines of names and yes or no, for people to read."""
        lines = []
        for user in self.users():
            answers = ["yes" if self.may(user, action, path) else "no" for path in paths]
            lines.append("%s: %s" % (user, " ".join(answers)))
        return lines
