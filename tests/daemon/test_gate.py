"""The gate by itself: who is let in, who is cut off, who is made again, and what version each one had."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderctl.daemon.gate import Gate, Mode, Passage


async def test_calls_wait_in_front_of_a_closed_gate_and_get_the_version_that_it_opens_with() -> None:
    gate = Gate()
    inside = await gate.enter(continues=False)
    gate.close("finish")
    waiting = [asyncio.create_task(gate.enter(continues=False)) for _ in range(3)]
    gone = asyncio.create_task(gate.enter(continues=False))
    await asyncio.sleep(0.01)
    assert (gate.waiting, gate.inside, gate.must_end()) == (4, 1, 1)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert gate.waiting == 3
    gate.leave(inside)
    gate.leave(inside)
    assert gate.inside == 0 and not any(task.done() for task in waiting)
    gate.open(7)
    passages = await asyncio.gather(*waiting)
    assert inside.version == 0 and {passage.version for passage in passages} == {7}
    assert all(passage.waited_s > 0 for passage in passages) and gate.waiting == 0


async def test_a_gate_that_closes_again_before_they_woke_keeps_them_waiting() -> None:
    gate = Gate()
    gate.close("finish")
    waiting = asyncio.create_task(gate.enter(continues=False))
    await asyncio.sleep(0)
    gate.open(1)
    gate.close("finish")
    await asyncio.sleep(0.01)
    assert not waiting.done()
    gate.open(2)
    assert (await waiting).version == 2


@pytest.mark.parametrize(
    ("mode", "continues", "begun", "ends_by_itself", "made_again"),
    [
        ("finish", False, False, True, False),
        ("finish", True, True, True, False),
        ("keep", False, False, False, True),
        ("keep", False, True, True, True),
        ("keep", True, False, False, False),
        ("keep", True, True, False, False),
        ("restart", False, False, False, True),
        ("restart", True, False, False, True),
        ("restart", True, True, True, True),
    ],
)
async def test_what_becomes_of_a_call_is_a_matter_of_mode_caller_and_whether_it_began(
    mode: Mode, continues: bool, begun: bool, ends_by_itself: bool, made_again: bool
) -> None:
    gate = Gate()
    passage = await gate.enter(continues=continues)
    if begun:
        assert gate.begin(passage)
    assert not gate.unfinished(passage, 0)  # it fails by itself: that is no matter of the gate
    gate.close(mode)
    assert gate.must_end() == ends_by_itself
    gate.cut()
    gate.cut()
    assert gate.cut_off == 1
    assert gate.unfinished(passage, 5) == made_again
    if mode == "keep" and continues:
        assert gate.unfinished(passage, 0)  # nobody goes on from nothing
    gate.open(0)  # the update failed
    assert gate.unfinished(passage, 5) == made_again, "an answer that was cut off is no whole one, whatever came then"


@given(
    mode=st.sampled_from(["finish", "keep", "restart"]),
    calls=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_a_stream_that_was_not_let_begin_is_never_one_that_has_to_end(
    mode: Mode, calls: list[tuple[bool, bool]]
) -> None:
    async def scene() -> None:
        gate = Gate()
        passages = [await gate.enter(continues=continues) for continues, _ in calls]
        for passage, (_, begun) in zip(passages, calls, strict=True):
            assert not begun or gate.begin(passage)
        gate.close(mode)
        ending = gate.must_end()
        late = [passage for passage in passages if not passage.begun and not gate.begin(passage)]
        # Nobody who comes to the first piece now makes the update wait for longer.
        assert gate.must_end() == ending
        assert all(_made_again(mode, passage) for passage in late)

    asyncio.run(scene())


def _made_again(mode: Mode, passage: Passage) -> bool:
    return mode == "restart" or (mode == "keep" and not passage.continues)
