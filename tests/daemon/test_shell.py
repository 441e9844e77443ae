"""The shell's books: what is held, what a restart brings back, what a repeated call counts for, how much is kept."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderctl.core import effects as fx
from thunderctl.core import events as ev
from thunderctl.core.policies import make_policy
from thunderctl.core.program import Phase
from thunderctl.core.scheduler import Scheduler
from thunderctl.daemon import journal as journals
from thunderctl.daemon import story as stories
from thunderctl.daemon.journal import Journal
from thunderctl.daemon.shell import HeldCall, Shell


def scheduler(policy: str = "thunder", ttl_s: float = 1800.0) -> Scheduler:
    return Scheduler(make_policy(policy), program_ttl_s=ttl_s)


def a_shell(folder: Path | None = None, capacity: int = 2000, policy: str = "thunder") -> Shell:
    journal = None if folder is None else Journal(folder / "state.db", "b1", time.time(), {})
    shell = Shell(scheduler(policy), journal)
    for name in ("w0", "w1"):
        shell.submit(ev.WorkerUp(name, capacity, 1000.0))
    return shell


def state_of(shell: Shell) -> dict[str, object]:
    """Everything about programs that must survive, and what the workers' books say of them."""
    programs = {
        p.id: (p.status, p.phase, p.worker, p.origin, p.context_tokens, p.steps, p.pauses, p.group)
        for p in shell.scheduler.programs.values()
    }
    books = {w.name: (w.capacity, w.reasoning, w.acting, sorted(w.entries)) for w in shell.scheduler.workers.values()}
    return {"programs": programs, "books": books, "tally": replace(shell.tally, held_seconds=0)}


def decisions_of(shell: Shell) -> list[dict[str, object]]:
    """Without times: the two shells' clocks are microseconds apart when they cancel what nobody waits for."""
    return [{**decision, "at": 0, "waited_s": 0} for decision in shell.decisions.since(0)]


actions = st.lists(
    st.tuples(st.sampled_from(["arrive", "finish", "fail", "cancel", "bounce", "release", "tool"]), st.integers(0, 9)),
    max_size=60,
)


@settings(deadline=None, max_examples=150)
@given(actions, st.sampled_from(["thunder", "paper", "baseline"]))
def test_what_a_replay_brings_back_is_what_was_there(todo: list[tuple[str, int]], policy: str) -> None:
    """For any history: a daemon that was killed now, and one whose calls were all cancelled now, are the same."""

    async def live_and_resumed() -> tuple[Shell, Shell]:
        history: list[tuple[float, ev.Event]] = []
        live = Shell(scheduler(policy), Recorder(history))  # type: ignore[arg-type]
        live.submit(ev.WorkerUp("w0", 2000, 1000.0))
        live.submit(ev.WorkerUp("w1", 2000, 1000.0))
        calls: list[HeldCall] = []
        for what, n in todo:
            on_their_way = [c for c in calls if c.id in live.scheduler.calls]
            call = on_their_way[n % len(on_their_way)] if on_their_way else None
            if what == "arrive":
                calls.append(live.arrive(f"p{n}", 300 * n, group=f"g{n % 2}", key=f"k{len(calls)}"))
            elif what == "release":
                live.submit(ev.ProgramReleased(f"p{n}"))
            elif what == "tool":
                live.submit(ev.ToolStarted(f"p{n}"))
                live.submit(ev.ToolFinished(f"p{n}", 0.5))
            elif call is not None and what == "finish" and call.in_flight:
                live.end_finished(call, 300 * n, 100 * n + 1, 0, 7)
            elif call is not None and what == "fail" and call.in_flight:
                live.end_failed(call)
            elif call is not None and what == "bounce" and call.in_flight:
                live.bounce(call)
            elif call is not None and what == "cancel":
                live.end_cancelled(call)
        resumed = Shell(scheduler(policy), None)
        assert resumed.resume(list(history)) == len(history)
        for call in [c for c in calls if c.id in live.scheduler.calls]:
            live.end_cancelled(call)
        live.scheduler.check()
        resumed.scheduler.check()
        live.close()
        resumed.close()
        return live, resumed

    live, resumed = asyncio.run(live_and_resumed())
    assert not resumed.scheduler.calls
    assert state_of(resumed) == state_of(live)
    assert decisions_of(resumed) == decisions_of(live)


class Recorder:
    """A journal that is a list."""

    def __init__(self, history: list[tuple[float, ev.Event]]) -> None:
        self._history = history

    def append(self, event: ev.Event, at: float) -> None:
        self._history.append((at, event))

    def flush(self) -> None:
        """It is all in memory."""


async def test_events_are_on_disk_before_the_loop_turns_again(tmp_path: Path) -> None:
    shell = a_shell(tmp_path)
    call = shell.arrive("p", 400, key="k1")
    await asyncio.sleep(0)  # one turn: whoever waits for the admission runs after it
    other = sqlite3.connect(tmp_path / "state.db")
    kinds = [row[0] for row in other.execute("SELECT json_extract(record, '$.event') FROM events ORDER BY seq")]
    assert kinds == ["WorkerUp", "WorkerUp", "CallArrived"]
    shell.end_finished(call, 400, 100, 0, 5)
    await asyncio.sleep(0)
    read = list(journals.events(tmp_path / "state.db", "b1"))
    assert read[-1][1] == ev.CallFinished(call.id, 100, 0, 5)
    shell.close()


async def test_a_journal_on_a_full_disk_costs_the_journal_and_not_the_service(tmp_path: Path) -> None:
    shell = a_shell(tmp_path)
    await asyncio.sleep(0)
    other = sqlite3.connect(tmp_path / "state.db")
    other.execute("DROP TABLE events")
    other.commit()
    for n in range(3):
        call = shell.arrive(f"p{n}", 100)
        assert isinstance(await call.admission, fx.Admit)
        await asyncio.sleep(0)
    assert shell._journal is not None and shell._journal.lost == 3
    shell.close()


async def test_only_the_latest_lives_stay_in_the_journal(tmp_path: Path) -> None:
    for n in range(5):
        journal = Journal(tmp_path / "state.db", f"b{n}", float(n), {})
        journal.append(ev.Timer(), 1.0)
        await journal.close()
    assert [boot for boot, _, _ in journals.boots(tmp_path / "state.db")] == ["b3", "b4"]
    assert list(journals.events(tmp_path / "state.db", "b2")) == []
    assert list(journals.events(tmp_path / "state.db", "b4")) == [(1.0, ev.Timer())]


async def test_registered_containers_survive_a_restart_until_somebody_collected_them(tmp_path: Path) -> None:
    shell = a_shell(tmp_path)
    shell.register_containers("p", ["c1", "c2"])
    shell.register_containers("p", ["c2"])
    again = Journal(tmp_path / "state.db", "b1", 0.0, {})
    assert again.containers() == [("p", "c1"), ("p", "c2")]
    again.forget_containers("p", ["c1", "c2"])
    assert again.containers() == []
    shell.close()


async def test_a_worker_is_noted_until_it_was_stopped_ready_or_not(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state.db", "b1", 0.0, {})
    journal.note_worker("w0", 11, 1.5, 11, "/tmp/thunderctl-x")
    journal.note_worker("w1", 12, 1.5, 12, "")
    journal.note_ready(11, "http://127.0.0.1:1", {"model": "small"})
    found = {note.name: (note.url, note.facts) for note in journal.workers()}
    assert found == {"w0": ("http://127.0.0.1:1", {"model": "small"}), "w1": ("", None)}
    journal.forget_process(11)
    assert [note.name for note in journal.workers()] == ["w1"]


async def test_the_clock_never_steps_back_over_a_restart_of_the_machine() -> None:
    shell = Shell(scheduler(), None)
    later = time.monotonic() + 1_000_000
    shell.resume([(later, ev.WorkerUp("w0", 1000, 1.0)), (later + 5, ev.CallArrived("c7", "p", 10))])
    assert shell.now() >= later + 5
    assert shell.arrive("p", 10).id == "c8"  # and no call is named twice
    shell.close()


async def test_a_tool_whose_end_the_killed_daemon_never_saw_does_not_keep_its_program_for_ever() -> None:
    now = time.monotonic()
    shell = Shell(scheduler(ttl_s=60.0), None)
    shell.resume(
        [
            (now, ev.WorkerUp("w0", 1000, 1.0)),
            (now, ev.CallArrived("c1", "p", 10)),
            (now, ev.CallFinished("c1", 10, 0, 5)),
            (now, ev.ToolStarted("p")),
        ]
    )
    deadline = shell.scheduler.next_deadline()
    assert deadline is not None and deadline <= shell.now() + 60
    shell.close()


async def test_a_held_call_that_is_given_up_leaves_no_ghost_and_its_program_expires() -> None:
    shell = Shell(scheduler(ttl_s=100.0), None)
    shell.submit(ev.WorkerUp("w0", 100, 1000.0))
    first = shell.arrive("a", 300)
    held = shell.arrive("b", 300)
    assert (shell.held_calls, shell.in_flight_calls) == (1, 1)
    shell.end_cancelled(held)
    assert (shell.held_calls, shell.in_flight_calls) == (0, 1)
    assert shell.scheduler.programs["b"].phase is Phase.ACTING
    shell.end_finished(first, 300, 90, 0, 5)
    shell.scheduler.handle(ev.Timer(), shell.now() + 101)
    assert not shell.scheduler.programs
    shell.close()


async def test_calls_are_counted_once_whatever_ends_them() -> None:
    shell = a_shell(capacity=100_000)
    ends = [shell.end_failed, shell.end_cancelled, lambda c: shell.end_finished(c, 10, 5, 0, 1)]
    for n, end in enumerate(ends):
        call = shell.arrive(f"p{n}", 10)
        end(call)
        end(call)  # late and duplicate ends change nothing
    tally = shell.tally
    assert (tally.arrived, tally.finished, tally.failed, tally.cancelled) == (3, 1, 1, 1)
    assert (shell.held_calls, shell.in_flight_calls) == (0, 0)
    shell.close()


async def test_a_programs_story_is_bounded_and_so_is_the_number_of_ended_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stories, "KEPT_ENDED", 3)
    shell = a_shell(capacity=1_000_000, policy="baseline")
    for n in range(6):
        for _ in range(stories.KEPT_ENTRIES + 10):
            call = shell.arrive(f"p{n}", 10)
            shell.end_finished(call, 10, 5, 0, 1)
        story = shell.stories.find(f"p{n}")
        assert story is not None and len(story.entries) == stories.KEPT_ENTRIES and story.left_out >= 10
        shell.submit(ev.ProgramReleased(f"p{n}"))
    assert [shell.stories.find(f"p{n}") is not None for n in range(6)] == [False] * 3 + [True] * 3
    shell.close()


async def test_a_program_that_comes_back_after_its_end_goes_on_with_its_story() -> None:
    shell = a_shell()
    for _ in range(2):
        shell.end_finished(shell.arrive("p", 10), 10, 5, 0, 1)
        shell.submit(ev.ProgramReleased("p"))
    story = shell.stories.find("p")
    assert story is not None
    assert [e["what"] for e in story.timeline()] == ["restored", "call", "ended"] * 2
    shell.close()
