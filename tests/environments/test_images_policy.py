"""What goes: any record, any sharing of layers, any users; the rules hold for all of them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from thunderctl.environments.image_policy import ImageLayers, what_goes
from thunderctl.environments.image_store import Brought

NAMES = [f"image{number}" for number in range(7)]
MARKS = st.integers(0, 25)


@st.composite
def situations(draw: st.DrawFn) -> tuple[dict[str, Brought], ImageLayers, set[str]]:
    """Images that grow out of each other, some of which are not in the record, some in use, some gone."""
    layers: dict[str, tuple[tuple[str, ...], ...]] = {}
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=3, unique=True)):
        below = draw(st.sampled_from([(), *layers.values()]))
        own = draw(st.sampled_from([0, 1, 1, 2]))
        chain = list(below)
        for number in range(own):
            chain.append((*(chain[-1] if chain else ()), f"{name}-{number}"))
        layers[name] = tuple(chain)
    every = sorted({layer for chain in layers.values() for layer in chain})
    sizes = {layer: draw(st.integers(0, 5)) for layer in every}
    others = set()
    for layer in every:  # somebody's image has a layer and so everything below it
        if draw(st.integers(0, 15)) == 0:
            others |= {lower for lower in every if layer[: len(lower)] == lower}
    record = {
        name: Brought(name, f"id-{name}", "pulled", 0, draw(st.sampled_from(["", "r1", "r2"])), draw(st.integers(0, 9)))
        for name in NAMES
        if draw(st.integers(0, 5))
    }
    ours = {name: chain for name, chain in layers.items() if name in record}
    in_use = {name for name in NAMES if draw(st.integers(0, 3)) == 0}
    return record, ImageLayers(ours, sizes, frozenset(others)), in_use


def is_below(images: ImageLayers, lower: str, upper: str) -> bool:
    one, other = images.layers[lower], images.layers[upper]
    return len(one) < len(other) and other[: len(one)] == one and one != ()


@settings(max_examples=400, deadline=None)
@given(situations(), st.sampled_from(["keep", "run", "run", "budget"]), MARKS, MARKS)
def test_only_ours_goes_and_nothing_that_is_in_use_or_below_what_stays(
    situation: tuple[dict[str, Brought], ImageLayers, set[str]], policy: str, one: int, other: int
) -> None:
    record, images, in_use = situation
    gone = what_goes(record, images, in_use, policy, run="r1", high_bytes=max(one, other), low_bytes=min(one, other))  # type: ignore[arg-type]
    assert len(gone) == len(set(gone))
    assert set(gone) <= record.keys() & images.layers.keys() - in_use
    for place, name in enumerate(gone):
        for upper in images.layers:
            if is_below(images, name, upper):
                assert upper in gone[:place], "a parent goes after all of its children, or stays"
        top = images.layers[name][-1:]
        assert not top or top[0] not in images.others, "what others need anyway frees nothing"
    if policy == "keep":
        assert gone == []


@settings(max_examples=400, deadline=None)
@given(situations(), MARKS, MARKS)
def test_a_budget_removes_down_to_the_low_mark_the_least_recently_used_and_no_more(
    situation: tuple[dict[str, Brought], ImageLayers, set[str]], one: int, other: int
) -> None:
    record, images, in_use = situation
    high, low = max(one, other), min(one, other)
    gone = what_goes(record, images, in_use, "budget", run="", high_bytes=high, low_bytes=low)
    held = images.bytes(images.layers)
    everything = what_goes(record, images, in_use, "budget", run="", high_bytes=-1, low_bytes=-1)
    if held <= high:
        assert gone == []
        return
    left = images.bytes(images.layers.keys() - set(gone))
    assert left <= low or gone == everything
    if gone:
        assert images.bytes(images.layers.keys() - set(gone[:-1])) > low, "the last one had to go"
    assert gone == everything[: len(gone)]

    def last_use(name: str) -> float:
        above = [
            upper
            for upper in everything
            if is_below(images, name, upper) or images.layers[upper] == images.layers[name]
        ]
        return max(record[each].last_used for each in {name, *above})

    uses = [last_use(name) if images.layers[name] else record[name].last_used for name in everything]
    assert uses == sorted(uses)


@settings(max_examples=400, deadline=None)
@given(situations())
def test_the_run_policy_takes_all_that_the_run_brought_and_that_nobody_needs(
    situation: tuple[dict[str, Brought], ImageLayers, set[str]],
) -> None:
    record, images, in_use = situation
    gone = what_goes(record, images, in_use, "run", run="r1", high_bytes=10**9, low_bytes=0)
    assert all(record[name].run == "r1" for name in gone)
    for name in images.layers:
        if name not in gone and record[name].run == "r1" and name not in in_use:
            top = images.layers[name][-1]
            stays = [images.layers[other] for other in images.layers if other not in gone and other != name]
            needed = top in images.others or any(top in chain for chain in stays)
            assert needed, "it stays only for somebody's sake"
    assert what_goes(record, images, in_use, "run", run="", high_bytes=0, low_bytes=0) == []


def test_what_a_run_brought_stays_while_another_runs_image_stands_on_it() -> None:
    base, child = ("a",), ("a", "b")
    images = ImageLayers({"base": (base,), "child": (base, child)}, {base: 100, child: 5})
    record = {"base": Brought("base", "1", "pulled", 0, "r1"), "child": Brought("child", "2", "prepared", 0, "r2")}
    assert what_goes(record, images, set(), "run", run="r1", high_bytes=0, low_bytes=0) == []
    assert what_goes(record, images, set(), "run", run="r2", high_bytes=0, low_bytes=0) == ["child"]


def test_shared_bytes_are_counted_once() -> None:
    base, mine, yours = ("a",), ("a", "b"), ("a", "c")
    images = ImageLayers(
        {"base": (base,), "mine": (base, mine), "yours": (base, yours)}, {base: 100, mine: 5, yours: 7}
    )
    assert images.bytes(images.layers) == 112
    assert (images.unique("mine"), images.shared("mine")) == (5, 100)
    assert (images.freed(["mine", "yours"]), images.freed(images.layers)) == (12, 112)
    assert (images.unique("base"), images.shared("base")) == (0, 100)
    theirs = ImageLayers(images.layers, images.sizes, frozenset({base}))
    assert theirs.bytes(theirs.layers) == 12
