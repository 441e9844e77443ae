"""A folder with files and rules, for tests."""

import os
import tempfile
import unittest

from kilnrun import Builder, Tree, parse_rules

RULES = """
page: list head.txt
    join
list: a.txt b.txt
    sort
"""


class TreeTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tree = Tree(folder.name)
        for name, text in (("a.txt", "pear\napple\n"), ("b.txt", "fig\n"), ("head.txt", "the end\n")):
            self.tree.write(name, text)
        self.set_time(-100, "a.txt", "b.txt", "head.txt")

    def set_time(self, seconds, *names):
        """Set times of files, in seconds from some moment."""
        for name in names:
            os.utime(self.tree.folder / name, (1_600_000_000 + seconds,) * 2)

    def build(self, *goals, rules=RULES):
        """Build with a builder of its own, as the next run of the program would."""
        return Builder(self.tree, parse_rules(rules)).build(*goals)

    def plan(self, *goals, rules=RULES):
        return [target for target, _reason in Builder(self.tree, parse_rules(rules)).plan(*goals)]
