"""What one line of a policy says."""

EVERYONE = "everyone"


class Rule:
    """A line by its number and text; ``first`` and ``last`` are dates or ``None``."""

    __slots__ = ("line", "text", "allows", "subject", "actions", "pattern", "first", "last")

    def __init__(self, line, text, allows, subject, actions, pattern, first=None, last=None):
        self.line = line
        self.text = text
        self.allows = allows
        self.subject = subject
        self.actions = frozenset(actions)
        self.pattern = pattern
        self.first = first
        self.last = last

    def fits(self, action, path):
        """Whether the rule is about an action and a path's parts."""
        return ("*" in self.actions or action in self.actions) and self.pattern.fits(path)

    def __repr__(self):
        return "Rule(line %d: %s)" % (self.line, self.text)
