"""The ledger: what may follow what, for any order of wishes, from any thread."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thunderctl.environments.lease import TRANSITIONS, LeaseLedger, State
from thunderctl.errors import EnvironmentFailure

STATES = st.sampled_from(get_args(State))


def test_a_lease_is_in_the_file_before_open_returns(tmp_path: Path) -> None:
    ledger = LeaseLedger(tmp_path / "state.db")
    lease = ledger.open("p", "r", "local")
    with sqlite3.connect(tmp_path / "state.db") as other:
        assert other.execute("SELECT id, state FROM leases").fetchall() == [(lease.id, "requested")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(wishes=st.lists(STATES, max_size=8))
def test_only_the_changes_of_the_table_happen_and_all_others_raise_and_change_nothing(
    tmp_path: Path, wishes: list[State]
) -> None:
    ledger = LeaseLedger(tmp_path / "state.db")
    lease = ledger.open("p", "r", "local")
    state: State = "requested"
    for wish in wishes:
        if wish in TRANSITIONS[state]:
            state = wish
            assert ledger.move(lease.id, wish).state == wish
        else:
            with pytest.raises(EnvironmentFailure, match=f"is {state} and cannot become {wish}"):
                ledger.move(lease.id, wish)
        assert ledger.get(lease.id).state == state
    ledger.close()


def test_no_state_is_left_once_reclaimed_and_every_state_leads_there() -> None:
    assert set(TRANSITIONS) == set(get_args(State))
    assert not TRANSITIONS["reclaimed"]
    assert all("reclaimed" in targets for state, targets in TRANSITIONS.items() if state != "reclaimed")


def test_of_many_threads_that_want_the_same_change_exactly_one_makes_it(tmp_path: Path) -> None:
    ledgers = [LeaseLedger(tmp_path / "state.db") for _ in range(2)]
    lease = ledgers[0].open("p", "r", "local")
    outcomes: list[bool] = []

    def try_it(ledger: LeaseLedger) -> None:
        try:
            ledger.move(lease.id, "preparing")
            outcomes.append(True)
        except EnvironmentFailure:
            outcomes.append(False)

    threads = [threading.Thread(target=try_it, args=(ledgers[n % 2],)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 15 + [True]


def test_an_unknown_lease_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="no lease nothing"):
        LeaseLedger(tmp_path / "state.db").move("nothing", "ready")


def test_leases_are_listed_by_program_and_by_whether_they_are_active(tmp_path: Path) -> None:
    ledger = LeaseLedger(tmp_path / "state.db")
    first, second = ledger.open("p", "r", "local"), ledger.open("q", "r", "docker", "an/image")
    ledger.move(first.id, "reclaimed")
    ledger.measured([(second.id, 77)])
    ledger.note_place(second.id, "c0ffee")
    assert [lease.id for lease in ledger.leases()] == [first.id, second.id]
    assert [lease.id for lease in ledger.leases(active=False)] == [first.id]
    (found,) = ledger.leases(active=True, program="q")
    assert (found.bytes, found.place, found.image) == (77, "c0ffee", "an/image")
    assert ledger.leases(program="nobody") == []
