"""``python -m quillfind QUERY FILE …``: which files are found, with a snippet each."""

import sys
from pathlib import Path

from .index import Index
from .snippets import snippet

STOP_WORDS = frozenset("a an and are as at be by for from in is it of on or that the this to was with".split())


def main(arguments, out):
    """Exit code 0 if something was found, 1 if nothing was, 2 with a line about how to call it."""
    if len(arguments) < 2:
        out.write("usage: quillfind QUERY FILE ...\n")
        return 2
    query, *files = arguments
    index, texts = Index(STOP_WORDS), {}
    for name in files:
        texts[name] = Path(name).read_text(encoding="utf-8", errors="replace")
        index.add(name, texts[name])
    found = index.search(query)
    for name, score in found:
        out.write("%.3f %s: %s\n" % (score, name, snippet(texts[name], query, stop_words=STOP_WORDS)))
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdout))
