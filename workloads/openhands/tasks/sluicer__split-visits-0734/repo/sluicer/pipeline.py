"""From events to results: panes for each key, a watermark, and who is told when."""

from collections import namedtuple

Result = namedtuple("Result", "key start end count values")
"""What is known of a window when it is complete; ``values`` by the names of the aggregates."""


class Pane:
    """A window of one key that is still open."""

    def __init__(self, start, end, aggregates):
        self.start = start
        self.end = end
        self.count = 0
        self.aggregates = {name: make() for name, make in aggregates.items()}

    def add(self, event, order):
        self.count += 1
        for aggregate in self.aggregates.values():
            aggregate.add(event, order)


    def result(self, key):
        values = {name: aggregate.result() for name, aggregate in self.aggregates.items()}
        return Result(key, self.start, self.end, self.count, values)


class _State:
    """What is open for one key."""

    def __init__(self):
        self.panes = []


def _ignore(event):
    pass


class Pipeline:
    """Feed events, get results.

    ``windows`` is one of the kinds in ``windows.py``; ``aggregates`` maps names to classes; ``emit`` is called with
    each :class:`Result`, ``on_late`` with each event that came too late.
    """

    def __init__(self, windows, aggregates=None, allowed_lateness=0, emit=print, on_late=_ignore):
        if allowed_lateness < 0:
            raise ValueError("allowed_lateness must not be negative")
        self._windows = windows
        self._aggregates = dict(aggregates or {})
        self._lateness = allowed_lateness
        self._emit = emit
        self._on_late = on_late
        self._states = {}
        self._watermark = float("-inf")
        self._order = 0

    @property
    def watermark(self):
        """Everything that closes before it has been emitted."""
        return self._watermark

    def feed(self, event):
        """Take one event in, then emit what it completes."""
        state = self._states.setdefault(event.key, _State())
        self._order += 1
        placed = False
        if self._windows.own_end(event) < self._watermark:
            self._on_late(event)
            return
        for placement in self._windows.place(event, state.panes):
            if not placement.panes and self._is_closed(placement.end):
                continue
            placed = True
            self._add(state, placement, event)
        if not placed:
            self._on_late(event)
        if event.at - self._lateness > self._watermark:
            self._watermark = event.at - self._lateness
            self._emit_complete()

    def feed_all(self, events):
        for event in events:
            self.feed(event)

    def close(self):
        """Emit whatever is still open."""
        self._watermark = float("inf")
        self._emit_complete()

    def open_windows(self):
        """``(key, start, end, count)`` of each window that is not emitted yet, by key and start."""
        return sorted((key, pane.start, pane.end, pane.count)
                      for key, state in self._states.items() for pane in state.panes)

    def _is_closed(self, end):
        return self._windows.closes_at(end) < self._watermark

    def _add(self, state, placement, event):
        """Put ``event`` into the pane of the placement, or into a new one."""
        if placement.panes:
            pane = placement.panes[0]
            pane.start, pane.end = placement.start, placement.end
        else:
            pane = Pane(placement.start, placement.end, self._aggregates)
            state.panes.append(pane)
        pane.add(event, self._order)

    def _emit_complete(self):
        """Emit all windows behind the watermark, the earliest first, then by key."""
        done = []
        for key, state in self._states.items():
            for pane in [pane for pane in state.panes if self._is_closed(pane.end)]:
                state.panes.remove(pane)
                done.append((pane.end, str(key), pane.start, key, pane))
        for _end, _name, _start, key, pane in sorted(done, key=lambda each: each[:3]):
            self._emit(pane.result(key))
        for key in [key for key, state in self._states.items() if not state.panes]:
            del self._states[key]
