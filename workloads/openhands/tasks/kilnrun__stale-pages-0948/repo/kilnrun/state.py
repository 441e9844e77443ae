"""What is remembered from one build to the next."""

import json

NAME = ".kilnrun.json"
VERSION = 1


class State:
    """What was made from what, by target. A file that cannot be used counts as none."""

    def __init__(self, tree):
        self._tree = tree
        self._made = {}
        if tree.exists(NAME):
            try:
                known = json.loads(tree.read(NAME))
                if known["version"] == VERSION:
                    self._made = dict(known["made"])
            except (ValueError, KeyError, TypeError):
                pass

    def record(self, target):
        """What is known of a target, or ``None``."""
        return self._made.get(target)

    def remember(self, target, rule, inputs, output):
        """``target`` was made just now by ``rule`` from inputs with these digests, and has this one itself."""
        self._made[target] = {"inputs": dict(inputs), "output": output}

    def save(self):
        self._tree.write(NAME, json.dumps({"version": VERSION, "made": self._made}, indent=1) + "\n")
