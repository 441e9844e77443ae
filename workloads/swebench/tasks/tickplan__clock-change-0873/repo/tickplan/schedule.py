"""From expressions and zones to instants, and a planner for several jobs."""

import heapq
from dataclasses import dataclass

from .expr import CronExpr
from .zones import Zone


def next_run(expr, zone, after):
    """The first instant later than `after` at which the job runs, or None.

    Within a segment wall times and instants keep step, so the search goes
    from segment to segment and drops the wall times beyond the end of each.
    """
    segment, moment = zone.segment_at(after), after
    while segment is not None:
        wall = expr.next_after(moment + segment.offset)
        if wall is not None:
            run = wall - segment.offset
            if segment.end is None or run < segment.end:
                return run
        moment, segment = segment.end, zone.following(segment)
    return None


def prev_run(expr, zone, before):
    """The last instant earlier than `before` at which the job ran, or None."""
    segment, moment = zone.segment_at(before), before
    while segment is not None:
        wall = expr.last_before(moment + segment.offset)
        if wall is not None:
            run = wall - segment.offset
            if segment.start is None or run >= segment.start:
                return run
        moment, segment = segment.start, zone.preceding(segment)
    return None


def runs_between(expr, zone, start, end):
    """Yield the runs with start < run <= end."""
    run = next_run(expr, zone, start)
    while run is not None and run <= end:
        yield run
        run = next_run(expr, zone, run)


@dataclass(frozen=True)
class Job:
    """A name for an expression in a zone."""

    name: str
    expr: CronExpr
    zone: Zone


class Planner:
    """Hands out the runs of many jobs in order of time, then of name."""

    def __init__(self, now):
        self.now = now
        self._jobs = {}
        self._queue = []

    def add(self, job):
        """Plan a job from the planner's present on."""
        if job.name in self._jobs:
            raise ValueError("there is a job %r already" % job.name)
        self._jobs[job.name] = job
        self._push(job, self.now)

    def remove(self, name):
        """Forget a job; runs of it that are still queued are dropped."""
        del self._jobs[name]
        self._queue = [item for item in self._queue if item[1] != name]
        heapq.heapify(self._queue)

    def peek(self):
        """(instant, name) of the next run of all, or None."""
        return self._queue[0] if self._queue else None

    def advance(self, now):
        """Move the present to `now`; the runs that fell due on the way."""
        if now < self.now:
            raise ValueError("time does not run backwards")
        due = []
        while self._queue and self._queue[0][0] <= now:
            instant, name = heapq.heappop(self._queue)
            due.append((instant, name))
            self._push(self._jobs[name], instant)
        self.now = now
        return due

    def _push(self, job, after):
        run = next_run(job.expr, job.zone, after)
        if run is not None:
            heapq.heappush(self._queue, (run, job.name))
