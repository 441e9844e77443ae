"""``bench``: what the commands print and refuse. Small settings; the figures themselves are nobody's promise here."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from thunderctl.cli.bench import app
from thunderctl.cli.experiment import (
    AT_ONCE,
    LOADS,
    NEWCOMERS,
    SHARED_TOKENS,
    Load,
    Trial,
    run_trial,
    saturation,
    trace_of,
)
from thunderctl.cli.simulated import Future
from thunderctl.errors import UsageError
from thunderctl.report.experiment import Outcome, cells, interval
from thunderctl.sim.worker import SimWorker
from thunderctl.traces.load import find_trace, load_trace, make_trace
from thunderctl.traces.trace import Work
from thunderctl.workers.inside.thunderctl_timing import Measured

runner = CliRunner()
CODING = load_trace(find_trace("coding"))
WORKER = SimWorker(Measured(fixed_s=0.02, token_s=0.00005, pair_s=0.0, context_s=0.0), 120_000)


def test_scheduler_says_for_each_setting_how_many_events_a_second_it_handled() -> None:
    done = runner.invoke(
        app,
        ["scheduler", "--programs", "10,50", "--workers", "1,2", "--policies", "thunder,paper", "--events", "1000"]
        + ["--json"],
    )
    speeds = json.loads(done.stdout)["speeds"]
    asked = [(policy, n, w) for policy in ("thunder", "paper") for w in (1, 2) for n in (10, 50)]
    assert [(s["policy"], s["programs"], s["workers"]) for s in speeds] == asked
    for s in speeds:
        assert s["events"] == 1000 and s["decisions"] > 0
        assert s["events_per_s"] * s["mean_us"] == pytest.approx(1e6)


def test_policies_prints_every_load_with_every_policy_and_writes_the_figures(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    options = ["--loads", "3× on 1; long tails", "--policies", "baseline,thunder,oracle", "--seeds", "2"]
    done = runner.invoke(app, ["policies", *options, "--duration", "60", "--out", str(file)], env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    assert "long tails" in done.stdout and "thunder" in done.stdout
    found = json.loads(file.read_text())
    assert [(c["load"], c["policy"]) for c in found["cells"]] == [
        (load, policy) for load in ("3× on 1", "long tails") for policy in ("baseline", "thunder", "oracle")
    ]
    assert len(found["outcomes"]) == 12
    for cell in found["cells"]:
        assert cell["of_ceiling"] == pytest.approx(1.0) or cell["policy"] != "oracle"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["policies", "--loads", "nothing"], "there is no load 'nothing'"),
        (["policies", "--policies", "thundr"], "did you mean 'thunder'"),
        (["scheduler", "--programs", "0"], "not '0'"),
        (["scheduler", "--policies", "oracle"], "unknown policy 'oracle'"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(arguments: list[str], said: str) -> None:
    done = runner.invoke(app, arguments)
    assert isinstance(done.exception, UsageError)
    assert said in done.exception.message


def test_every_load_has_a_name_of_its_own_and_a_trace_that_does_as_its_name_says() -> None:
    assert len({load.name for load in LOADS}) == len(LOADS)
    by_name = {load.name: trace_of(load, CODING) for load in LOADS}
    assert max(s.tool_s for p in by_name["short tools"].programs for s in p.steps) <= 0.4
    steps = [s for p in by_name["long tails"].programs for s in p.steps]
    assert 0.08 < sum(s.tool_s >= 60 for s in steps) / len(steps) < 0.12
    assert {p.shared_prefix for p in by_name["shared 90%"].programs} == {SHARED_TOKENS}
    members = [p.group for p in by_name["groups of 8"].programs]
    assert all(members.count(group) == 8 for group in set(members))
    assert {p.samples for p in by_name["best of 4"].programs} == {AT_ONCE}
    assert {p.branches for p in by_name["sub-agents"].programs} == {AT_ONCE}
    held = [p.prompt_at(n) for p in by_name["shared 50%"].programs for n in range(len(p.steps))]
    assert 0.4 < SHARED_TOKENS * len(held) / sum(held) < 0.6
    sizes = [p.first_prompt for p in by_name["newcomers"].programs]
    assert NEWCOMERS[0] <= min(sizes) < 2000 and 7000 < max(sizes) <= NEWCOMERS[1]
    assert by_name["3× on 1"] is CODING


def test_a_load_at_saturation_fills_the_workers() -> None:
    outcome = run_trial(Trial(Load("full", 1.0, 2), "baseline", 0, 1.0, CODING, WORKER))
    held = [p.prompt_at(n) + s.output for p in CODING.programs for n, s in enumerate(p.steps)]
    assert outcome.agents * sum(held) / len(held) == pytest.approx(2 * WORKER.kv_tokens, rel=0.1)
    assert outcome.agents == round(2 * saturation(CODING, WORKER))


def test_a_programs_parallel_calls_fill_the_workers_too() -> None:
    whole = saturation(CODING, WORKER)
    for branches in (2, 4):
        many = make_trace("many", [replace(p, branches=branches) for p in CODING.programs])
        assert saturation(many, WORKER) == pytest.approx(whole / branches)
    sampled = make_trace("sampled", [replace(p, samples=4) for p in CODING.programs])
    assert whole / 1.3 < saturation(sampled, WORKER) < whole  # one prompt, and three more answers


def test_small_newcomers_are_not_served_before_larger_ones_and_that_costs_no_throughput() -> None:
    load = next(load for load in LOADS if load.name == "newcomers")
    fair, unfair = (
        run_trial(Trial(load, policy, 0, 600.0, CODING, WORKER)) for policy in ("thunder", "thunder:newcomers=0")
    )
    assert fair.size_and_wait is not None and unfair.size_and_wait is not None
    assert fair.size_and_wait < 0.3 < unfair.size_and_wait
    assert fair.steps_per_min > 0.9 * unfair.steps_per_min


def test_a_trial_gives_the_same_outcome_each_time_but_for_its_cost() -> None:
    for policy in ("thunder", "oracle"):
        trial = Trial(Load("x", 3.0), policy, 1, 120.0, CODING, WORKER)
        first, second = run_trial(trial), run_trial(trial)
        assert (first.steps_per_min, first.hit_rate, first.pauses) == (
            second.steps_per_min,
            second.hit_rate,
            second.pauses,
        )


def test_the_future_is_that_of_the_programs_as_agents_take_them() -> None:
    future = Future(Work(CODING, 3, start="steady", seed=5))
    work = Work(CODING, 3, start="steady", seed=5)
    taken = [work.take() for _ in range(6)]
    for assignment in reversed(taken):
        assert assignment is not None
        known = assignment.program.steps[assignment.first_step :]
        assert [a.gap_s for a in future[assignment.id]] == [s.tool_s for s in known]


@given(st.lists(st.floats(0, 1000), min_size=2, max_size=20), st.floats(-100, 100))
def test_an_interval_moves_with_its_values_and_does_not_change_its_width(values: list[float], shift: float) -> None:
    mean, half = interval(values)
    moved_mean, moved_half = interval([v + shift for v in values])
    assert moved_mean == pytest.approx(mean + shift, abs=1e-6)
    assert moved_half == pytest.approx(half, abs=1e-6)


def test_an_interval_is_students_and_unknown_for_a_single_value() -> None:
    assert interval([1.0, 2.0, 3.0]) == (2.0, pytest.approx(4.30 / math.sqrt(3)))
    assert interval([7.0]) == (7.0, math.inf)


def test_a_cell_is_the_mean_over_its_seeds_and_a_share_of_the_oracle() -> None:
    def outcome(policy: str, seed: int, steps: float) -> Outcome:
        return Outcome("load", policy, seed, 10, steps, 0.5, 4, 0.1)

    found = [("thunder", 90), ("thunder", 110), ("oracle", 120), ("oracle:horizon=3", 125), ("baseline", 50)]
    made = cells([outcome(policy, seed, steps) for seed, (policy, steps) in enumerate(found)])
    assert (made[0].of_baseline, made[0].of_paper) == (2.0, None)
    made = [cell for cell in made if cell.policy in ("thunder", "oracle:horizon=3")]
    assert [(c.steps_per_min, c.of_ceiling) for c in made] == [(100, 0.8), (125, 1.0)]
    assert cells([outcome("thunder", 0, 90)])[0].of_ceiling is None
