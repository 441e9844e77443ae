"""A printable list of what runs when, in wall times."""

from heapq import merge
from itertools import repeat

from .schedule import runs_between


def agenda(jobs, start, end):
    """Lines such as '2025-03-30 04:30 +02:00  backup', in order of time."""
    streams = [zip(runs_between(job.expr, job.zone, start, end), repeat(job.name),
                   repeat(job.zone)) for job in jobs]
    return ["%s  %s" % (stamp(zone, instant), name) for instant, name, zone
            in merge(*streams, key=lambda item: item[:2])]


def stamp(zone, instant):
    """The wall time and the offset at an instant."""
    offset = zone.segment_at(instant).offset
    minutes = int(offset.total_seconds()) // 60
    sign = "-" if minutes < 0 else "+"
    return "%s %s%02d:%02d" % ((zone.to_local(instant).strftime("%Y-%m-%d %H:%M"),
                                sign) + divmod(abs(minutes), 60))
