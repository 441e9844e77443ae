"""``python -m boxwood list|check FILE``: what is in a container."""

import sys
from pathlib import Path

from .archive import Archive
from .errors import NotAContainer


def main(arguments, out):
    """Exit code 0; 1 if something is wrong with the container; 2 with a line about how to call it."""
    if len(arguments) != 2 or arguments[0] not in ("list", "check"):
        out.write("usage: boxwood list|check FILE\n")
        return 2
    try:
        box = Archive.load(Path(arguments[1]).read_bytes())
    except (OSError, NotAContainer) as problem:
        out.write("%s\n" % problem)
        return 1
    if arguments[0] == "list":
        for name in box.names():
            out.write("%06o %10d %s\n" % (box.mode(name), box.size(name), name))
        return 0
    problems = box.check()
    for problem in problems:
        out.write(problem + "\n")
    out.write("%d entries, %d bytes, %d problems\n" % (len(box), box.bytes_held(), len(problems)))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdout))
