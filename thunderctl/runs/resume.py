"""Going on with a run that did not come to its end: what of it is done, and its folder made ready for the rest.

A rollout is done when its last record says that it ended by itself; one that failed, was cut off, or has no record is
done again, under a program name of its own (``….2`` in the second sitting), and everything that it left is moved out of
the way into ``superseded.jsonl``. So a figure never counts a step twice, and nothing is lost. The run's clock stands
still between two sittings.
"""

from __future__ import annotations

import fcntl
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from thunderctl.errors import UsageError
from thunderctl.runs.store import RunFolder, write_whole

TO_BE_REDONE = ("failed", "cut off", "running")


@dataclass(frozen=True, slots=True)
class Earlier:
    """What the sittings before this one did."""

    sittings: int = 0
    clock_s: float = 0.0
    """What the run's clock said last."""
    steps_from: float = math.inf
    """When the first step began."""
    rollouts: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Last records of those that are done, by index."""

    @property
    def done(self) -> frozenset[int]:
        return frozenset(self.rollouts)

    def program(self, name: str) -> str:
        """A program's name in this sitting: the daemon may still know the one before."""
        return name if self.sittings == 0 else f"{name}.{self.sittings + 1}"


AT_FIRST = Earlier()


@contextmanager
def only_driver(store: RunFolder) -> Iterator[None]:
    """Hold the run's folder; ``UsageError`` if another process drives it. A killed one holds it no longer."""
    with (store.folder / ".driving").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"run {store.id} is being driven by another process") from None
        yield


def note_sitting(store: RunFolder, earlier: Earlier, health: dict[str, Any]) -> None:
    """The manifest tells that the run goes on, on which workers, and no longer how it ended."""
    said = store.read("manifest.json")
    sitting = {
        "resumed": time.time(),
        "clock_s": earlier.clock_s,
        "kept": len(earlier.done),
        "ended": said.pop("ended", "killed"),
        "driver": said.pop("driver", None),
        "workers": said["workers"],
    }
    said.pop("window", None)
    said |= {"workers": health["workers"], "environments": health["environments"]}
    store.write("manifest.json", {**said, "sittings": [*said.get("sittings", []), sitting]})


def ended_by_itself(record: Mapping[str, Any]) -> bool:
    """Whether a rollout's last record says that it is done."""
    return record["status"] not in TO_BE_REDONE


def look_back(store: RunFolder, is_done: Callable[[Mapping[str, Any]], bool] = ended_by_itself) -> Earlier:
    """What is done in a run's folder. Torn last lines are taken as not written."""
    last: dict[int, dict[str, Any]] = {}
    for record in store.lines("rollouts"):
        if "index" not in record:
            raise UsageError(f"run {store.id} was stored by an older thunderctl: it cannot be resumed")
        last[int(record["index"])] = record
    done = {index: record for index, record in last.items() if is_done(record)}
    clock = 0.0
    for name, key in (("steps", "ended"), ("rollouts", "ended"), ("driver", "at"), ("disk", "at")):
        clock = max([clock, *(float(record.get(key) or 0.0) for record in store.lines(name))])
    steps_from = min((float(record["at"]) for record in store.lines("steps")), default=math.inf)
    sittings = 1 + len(store.read("manifest.json").get("sittings", []))
    return Earlier(sittings, clock, steps_from, done)


def make_ready(store: RunFolder, earlier: Earlier) -> None:
    """Leave in the folder what is done, and whole lines only; the rest goes to ``superseded.jsonl``."""
    kept = {str(record["program"]) for record in earlier.rollouts.values()}
    for name in ("steps", "rollouts"):
        records = list(store.lines(name))
        gone = [record for record in records if str(record["program"]) not in kept]
        for record in gone:
            store.append("superseded", {"of": name, "sitting": earlier.sittings, **record})
        _rewrite(store, name, (record for record in records if str(record["program"]) in kept))
    for name in ("decisions", "disk", "driver", "groups"):
        _rewrite(store, name, store.lines(name))
    # An engine's counters begin anew with its node, so samples of two sittings make no common series.
    samples = store.folder / "samples.jsonl"
    if samples.exists():
        samples.replace(store.folder / f"samples-{earlier.sittings}.jsonl")
    (store.folder / "summary.json").unlink(missing_ok=True)


def _rewrite(store: RunFolder, name: str, records: Iterable[dict[str, Any]]) -> None:
    path = store.folder / f"{name}.jsonl"
    if path.exists():
        write_whole(path, "".join(json.dumps(r, ensure_ascii=False, separators=(",", ":")) + "\n" for r in records))


def refuse_if_nothing_is_left(manifest: dict[str, Any], earlier: Earlier, run: str) -> None:
    """``UsageError`` if the run cannot be resumed, or need not be."""
    if manifest.get("duration_s") is not None:
        raise UsageError(
            f"run {run} was to end by the clock (--duration): the rest of it would not be the same load",
            hint="run it anew",
        )
    if len(earlier.done) >= int(manifest["due"]) and not any(to_judge(manifest, r) for r in earlier.rollouts.values()):
        raise UsageError(f"run {run} is complete: nothing is missing and nothing failed")


def to_judge(manifest: dict[str, Any], record: dict[str, Any]) -> bool:
    """Whether a rollout that is done still waits to be judged."""
    return bool(manifest.get("judging")) and record["status"] == "submitted" and record.get("resolved") is None


def refuse_another_plan(before: dict[str, Any], now: dict[str, Any], run: str) -> None:
    """``UsageError`` naming the first thing in which what would be run now differs from what was begun."""
    now = json.loads(json.dumps(now))  # as a manifest has it
    for key in now:
        if before.get(key) != now[key]:
            raise UsageError(
                f"run {run} cannot be resumed: its {key.replace('_', ' ')} would not be the same",
                hint="workloads, traces and profiles must be as they were when it began",
                details=[f"then: {_short(before.get(key))}", f"now:  {_short(now[key])}"],
            )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:200] + "…"
