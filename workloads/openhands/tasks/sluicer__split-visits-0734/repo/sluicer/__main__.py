"""``python -m sluicer session 10 < events``: results of a stream as a table."""

import sys

from . import AGGREGATES, Fixed, Pipeline, Session, read_events, table

KINDS = {"fixed": Fixed, "session": Session}


def main(arguments, lines, out):
    """Exit code 0, or 2 with a line about how to call it."""
    if len(arguments) < 2 or arguments[0] not in KINDS:
        out.write("usage: sluicer fixed|session SECONDS [LATENESS] < events\n")
        return 2
    lateness = float(arguments[2]) if len(arguments) > 2 else 0.0
    results, late = [], []
    pipe = Pipeline(KINDS[arguments[0]](float(arguments[1])), AGGREGATES, lateness, results.append, late.append)
    pipe.feed_all(read_events(lines))
    pipe.close()
    out.write(table(results) + "\n")
    if late:
        out.write("%d late\n" % len(late))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdin, sys.stdout))
