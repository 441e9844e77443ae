"""Answers are held against their rules: what is right in another dress passes, and what is nearly right does not."""

from __future__ import annotations

import pytest

from thunderctl.agents.routing_matching import verdict
from thunderctl.workload.routing import ChoiceRule, ListRule, NumberRule, TextRule

WEIGHT = NumberRule(kind="number", value=1131.43, absolute=0.01, units={"kg": 1, "kilograms": 1, "g": 0.001})
NAME = TextRule(kind="text", accept=["Lantern Hill", "Ram'"])
PAIR = ListRule(kind="list", ordered=True, items=[NAME, WEIGHT])


@pytest.mark.parametrize(
    "answer",
    ["1131.43", "1,131.43 kg", "about 1131.435 kilograms", "mass = 1131.43 kg.", "1.13143e3", "1131430 g", "$1131.43$",
     "1.13143 \\times 10^{3} kg", "≈ 1131.43 kg", "113143/100"],
)  # fmt: skip
def test_a_number_may_be_written_in_many_ways(answer: str) -> None:
    assert verdict(WEIGHT, answer) == (True, {"right": True})


@pytest.mark.parametrize(
    "answer", ["", "1131.45", "-1131.43", "1131.43 g", "1131.43 or 1131.44", "1131.43 crowns", "kg", "1/0", "one"]
)
def test_a_number_that_is_off_or_of_another_unit_is_wrong(answer: str) -> None:
    assert not verdict(WEIGHT, answer)[0]


def test_a_number_without_tolerance_has_to_be_equal() -> None:
    exact = NumberRule(kind="number", value=0.3)
    assert verdict(exact, "0.3")[0] and verdict(exact, "3/10")[0] and not verdict(exact, "0.3001")[0]
    assert verdict(NumberRule(kind="number", value=200, relative=0.01), "201.9")[0]


@pytest.mark.parametrize("answer", ["Lantern Hill", " the lantern  hill. ", "LANTERN HILL", "$\\text{Lantern Hill}$"])
def test_words_are_compared_without_case_articles_and_marks(answer: str) -> None:
    assert verdict(NAME, answer)[0]


@pytest.mark.parametrize("answer", ["", "Lantern", "Lantern Hills", "Lantern Hill or Mew Sands", "Ram"])
def test_other_words_are_wrong(answer: str) -> None:
    assert not verdict(NAME, answer)[0]


def test_an_apostrophe_matters_in_whichever_form_it_comes() -> None:
    assert verdict(NAME, "Ram′")[0] and verdict(NAME, "ram’")[0]


@pytest.mark.parametrize(
    "answer", ["Lantern Hill, 1,131.43 kg", "Lantern Hill; 1131.43", "Lantern Hill and 1131.43 kg"]
)
def test_a_list_is_divided_by_commas_semicolons_or_and(answer: str) -> None:
    assert verdict(PAIR, answer) == (True, {"right": True, "share of items right": 1.0})


@pytest.mark.parametrize("answer", ["", "Lantern Hill", "1131.43, Lantern Hill", "Lantern Hill, 1131.43, Mew Sands"])
def test_a_list_with_too_little_too_much_or_in_another_order_is_wrong(answer: str) -> None:
    assert not verdict(PAIR, answer)[0]


def test_a_list_tells_how_much_of_it_is_right() -> None:
    assert verdict(PAIR, "Lantern Hill, 7 kg") == (False, {"right": False, "share of items right": 0.5})


def test_a_list_without_order_takes_any_order_but_no_repeats() -> None:
    loose = PAIR.model_copy(update={"ordered": False})
    assert verdict(loose, "1131.43 kg, Lantern Hill")[0]
    assert not verdict(loose, "Lantern Hill, Lantern Hill")[0]


def test_a_choice_is_its_letter_with_or_without_words() -> None:
    rule = ChoiceRule(kind="choice", letter="B")
    assert all(verdict(rule, said)[0] for said in ("B", "(B)", "B. Because", "B) yes", "B: no"))
    assert not any(verdict(rule, said)[0] for said in ("", "A", "Because", "AB", "b or c"))
