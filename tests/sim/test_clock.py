"""Virtual time."""

from __future__ import annotations

from thunderctl.sim.clock import Clock


def test_things_happen_in_the_order_of_time_and_at_one_moment_in_the_order_of_asking() -> None:
    clock, seen = Clock(), list[tuple[str, float]]()
    for name, when in (("c", 2.0), ("a", 1.0), ("d", 2.0), ("b", 1.0)):
        clock.call_at(when, lambda n: seen.append((n, clock.now)), name)
    clock.run()
    assert seen == [("a", 1.0), ("b", 1.0), ("c", 2.0), ("d", 2.0)]


def test_what_is_asked_for_the_past_happens_now() -> None:
    clock, seen = Clock(), list[float]()
    clock.call_at(5.0, lambda: clock.call_at(1.0, lambda: seen.append(clock.now)))
    clock.run()
    assert seen == [5.0]


def test_a_run_ends_at_its_limit_and_leaves_what_comes_later() -> None:
    clock, seen = Clock(), list[float]()
    for when in (1.0, 3.0, 4.0):
        clock.call_at(when, lambda: seen.append(clock.now))
    clock.run(until=3.0)
    assert (seen, clock.now, clock.idle) == ([1.0, 3.0], 3.0, False)
    clock.run()
    assert seen == [1.0, 3.0, 4.0] and clock.idle


def test_a_stopped_clock_stands_still() -> None:
    clock, seen = Clock(), list[float]()
    clock.call_at(1.0, clock.stop)
    clock.call_at(1.0, lambda: seen.append(clock.now))
    clock.run(until=9.0)
    assert seen == [] and clock.now == 1.0
