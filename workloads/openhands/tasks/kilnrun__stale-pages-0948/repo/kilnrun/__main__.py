"""``python -m kilnrun FOLDER [TARGET …]``: builds by the rules in ``FOLDER/Kilnfile``; ``-n`` first only plans."""

import sys
from pathlib import Path

from .builder import Builder
from .errors import BuildError
from .rules import parse_rules
from .tree import Tree


def main(arguments, out):
    """Exit code 0, 1 if something cannot be built, 2 with a line about how to call it."""
    dry = "-n" in arguments
    words = [word for word in arguments if word != "-n"]
    if not words:
        out.write("usage: kilnrun [-n] FOLDER [TARGET ...]\n")
        return 2
    try:
        rules = parse_rules((Path(words[0]) / "Kilnfile").read_text(encoding="utf-8"))
        builder = Builder(Tree(words[0]), rules)
        if dry:
            for target, reason in builder.plan(*words[1:]):
                out.write("%s: %s\n" % (target, reason))
        else:
            for target in builder.build(*words[1:]):
                out.write("made %s\n" % target)
    except (BuildError, OSError) as problem:
        out.write("%s\n" % problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdout))
