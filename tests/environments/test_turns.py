"""Turns hold among threads and processes, end with their holder, and can be called off."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from thunderctl.environments.turns import held, nobody_has, turn
from thunderctl.errors import EnvironmentFailure

HOLDER = """
import sys
from thunderctl.environments.turns import turn
with turn("image a"):
    print("has it", flush=True)
    sys.stdin.read()
"""


def holder() -> subprocess.Popen[str]:
    """A process that has the turn until its input ends or it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], env=dict(os.environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "has it\n"
    return process


def test_another_process_is_waited_for_and_a_killed_one_holds_nothing() -> None:
    with holder() as process:
        assert nobody_has("image a") is None
        with turn("image b"):
            pass
        told = threading.Event()
        got = threading.Event()

        def wait() -> None:
            with turn("image a", waiting=told.set):
                got.set()

        waiter = threading.Thread(target=wait)
        waiter.start()
        assert told.wait(10)
        assert not got.is_set()
        process.kill()
        assert got.wait(10)
        waiter.join()


def test_waiting_ends_with_an_error_once_it_is_called_off() -> None:
    stop = threading.Event()
    with turn("a"), pytest.raises(EnvironmentFailure, match="called off"), turn("a", stop=stop, waiting=stop.set):
        raise AssertionError("two have the turn")


def test_of_several_slots_the_free_one_is_taken() -> None:
    with turn("slot 0", "slot 1"), turn("slot 0", "slot 1"):
        assert nobody_has("slot 0") is None
        assert nobody_has("slot 1") is None
    free = nobody_has("slot 0")
    assert free is not None
    with free:
        pass


def test_any_number_may_hold_and_nobody_has_the_turn_meanwhile() -> None:
    with held("a"):
        with held("a"):
            assert nobody_has("a") is None
        assert nobody_has("a") is None
    lock = nobody_has("a")
    assert lock is not None
    with lock:
        pass
