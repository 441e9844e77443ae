"""``simulate`` and ``plan``: what is printed and written, and what is refused. Small traces, small workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from thunderctl.cli.plan import plan
from thunderctl.cli.simulate import simulate
from thunderctl.cli.simulated import parse_policy, policy_text
from thunderctl.errors import UsageError, WorkloadError
from thunderctl.profile_files import load_profile
from thunderctl.runs.store import SCHEMA, RunFolder
from thunderctl.sim.driver import simulate as run_simulation
from thunderctl.sim.result import SimResult
from thunderctl.sim.worker import SimWorker
from thunderctl.traces.load import load_trace
from thunderctl.traces.trace import Work
from thunderctl.workers.emulation import emulation_of
from thunderctl.workers.inside.thunderctl_timing import Measured, to_json

runner = CliRunner()
app = typer.Typer()
app.command("simulate")(simulate)
app.command("plan")(plan)

PROFILE = """
name: small-card
engine: {kind: emulated}
model: {source: small, max_model_len: 8192}
emulation: {gpu: rtx-5090, model: qwen3-8b}
workers: {kv_tokens: 24000, max_num_seqs: 16, max_num_batched_tokens: 2048}
"""
PRESSURE = ["--agents", "4,16", "--policies", "baseline,thunder", "--duration", "120"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("THUNDERCTL_HOME", str(folder))
    monkeypatch.setenv("COLUMNS", "120")
    return folder


@pytest.fixture
def card(tmp_path: Path) -> str:
    """An emulated worker with room for about ten contexts of the trace."""
    file = tmp_path / "small-card.yaml"
    file.write_text(PROFILE)
    return str(file)


@pytest.fixture
def trace(tmp_path: Path) -> str:
    """Twelve programs of 24 steps; contexts grow from 1,000 to about 4,500 tokens."""
    file = tmp_path / "small.jsonl"
    steps = [[60, 0, 70 + n, 0.5] for n in range(24)]
    lines = [{"id": f"p{n}", "first_prompt": 1000 + 20 * n, "gap": "tool", "steps": steps} for n in range(12)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(file)


def said(*args: str) -> Any:
    """A command's ``--json`` output."""
    result = runner.invoke(app, [*args, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*args: str, as_: type[Exception] = UsageError) -> Any:
    result = runner.invoke(app, [*args])
    assert isinstance(result.exception, as_), result.output
    return result.exception


def figures(sweep: dict[str, Any]) -> list[Any]:
    """What must not depend on the machine."""
    return [{k: v for k, v in outcome.items() if k != "wall_s"} for outcome in sweep["outcomes"]]


# ------------------------------------------------------------------ simulate


def test_a_sweep_prints_its_table_and_writes_data_and_a_page(card: str, trace: str, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    result = runner.invoke(app, ["simulate", "-p", card, "-t", trace, *PRESSURE, "--out", str(folder)])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Simulated · small-card · 1 worker of 24,000 KV tokens · trace small · 120 s")
    assert "simulated 4 of 4: 16 agents under thunder" in result.stderr
    data = json.loads((folder / "simulate.json").read_text())
    assert [(o["agents"], o["policy"]) for o in data["outcomes"]] == [
        (4, "baseline"), (4, "thunder"), (16, "baseline"), (16, "thunder"),
    ]  # fmt: skip
    for outcome in data["outcomes"]:
        assert f"{outcome['summary']['throughput']['steps_per_min']:.1f}" in result.stdout
    assert "Simulated" in (folder / "report.html").read_text()[:20_000]


def test_too_many_agents_cost_the_baseline_its_cache_and_thunder_not(card: str, trace: str) -> None:
    """The paper's Figures 4a and 5a in small."""
    found = {(o["agents"], o["policy"]): o for o in said("simulate", "-p", card, "-t", trace, *PRESSURE)["outcomes"]}
    hits = {key: o["summary"]["hit_rate"] for key, o in found.items()}
    assert hits[4, "baseline"] > 0.8
    assert hits[16, "baseline"] < 0.4
    assert hits[16, "thunder"] > 0.7
    assert found[16, "thunder"]["ratio"] > 1.3
    assert found[4, "thunder"]["ratio"] == pytest.approx(1, abs=0.02)


def test_the_oracle_is_told_the_future_of_the_very_programs_that_run(card: str, trace: str) -> None:
    args = ["-n", "4,16", "--policies", "baseline,oracle", "--duration", "120"]
    found = {(o["agents"], o["policy"]): o for o in said("simulate", "-p", card, "-t", trace, *args)["outcomes"]}
    assert found[16, "oracle"]["summary"]["hit_rate"] > 0.7
    assert found[16, "oracle"]["ratio"] > 1.3


def test_the_same_command_gives_the_same_figures_with_any_number_of_jobs(card: str, trace: str) -> None:
    command = ["simulate", "-p", card, "-t", trace, *PRESSURE]
    first = figures(said(*command))
    assert figures(said(*command)) == first
    assert figures(said(*command, "--jobs", "2")) == first
    assert figures(said(*command, "--seed", "1")) != first


def test_without_a_folder_results_go_into_the_home(card: str, trace: str, home: Path) -> None:
    folder = Path(said("simulate", "-p", card, "-t", trace, "--agents", "2", "--policies", "thunder")["folder"])
    assert folder.parent == home / "simulations"
    assert {file.name for file in folder.iterdir()} == {"simulate.json", "report.html"}


def test_a_number_of_programs_is_run_to_the_end(card: str, trace: str) -> None:
    sweep = said(
        "simulate", "-p", card, "-t", trace, "-n", "5", "--policies", "paper", "--programs", "9", "--start", "fresh"
    )
    (outcome,) = sweep["outcomes"]
    assert outcome["summary"]["agents"]["by_status"] == {"finished": 9}
    assert outcome["summary"]["throughput"]["steps"] == 9 * 24


def test_more_workers_do_more_and_show_their_imbalance(card: str, trace: str) -> None:
    one, two = (
        said("simulate", "-p", card, "-t", trace, "-n", "16", "--policies", "baseline", "--workers", count)
        for count in ("1", "2")
    )
    assert two["workers"] == 2
    assert set(two["outcomes"][0]["memory"]) == {"w0", "w1"}
    rates = [s["outcomes"][0]["summary"]["throughput"]["steps_per_min"] for s in (one, two)]
    assert rates[1] > 1.5 * rates[0]


def test_the_kv_capacity_can_be_overridden(card: str, trace: str) -> None:
    sweep = said("simulate", "-p", card, "-t", trace, *PRESSURE, "--kv-tokens", "200000")
    assert sweep["kv_tokens"] == 200_000
    assert all(o["summary"]["hit_rate"] > 0.8 for o in sweep["outcomes"])


def test_contexts_that_no_worker_takes_are_counted(card: str, tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    file.write_text('{"id": "long", "first_prompt": 9000, "steps": [[10, 0, 0, 1]], "gap": "tool"}\n')
    result = runner.invoke(
        app, ["simulate", "-p", card, "-t", str(file), "-n", "1", "--policies", "thunder", "--programs", "1"]
    )
    assert result.exit_code == 0, result.output
    assert "up to 1 programs of a setting failed" in result.stdout


def test_the_bundled_glm_profile_and_trace_print_the_papers_ratio(tmp_path: Path) -> None:
    result = runner.invoke(
        app,
        ["simulate", "--agents", "96", "--policies", "baseline,thunder", "--duration", "60", "--out", str(tmp_path)],
    )
    assert result.exit_code == 0, result.output
    assert "2.65×" in result.stdout
    assert "2.65×" in (tmp_path / "report.html").read_text()


def test_measured_costs_bring_their_sizes_and_the_overhead_of_a_call(trace: str, tmp_path: Path) -> None:
    costs = tmp_path / "costs.json"
    cost = json.loads(to_json(Measured(fixed_s=0.004, token_s=2e-4, pair_s=0.0, context_s=1e-7)))
    data = {"cost": cost, "kv_tokens": 32768, "block_size": 32, "call_overhead_s": 0.5}
    command = [
        "simulate",
        "-p",
        "laptop",
        "-c",
        "workers.kv_tokens=null",
        "-t",
        trace,
        "-n",
        "1",
        "--policies",
        "paper",
    ]
    command += ["--costs", str(costs)]
    costs.write_text(json.dumps(data))
    slow = said(*command)
    costs.write_text(json.dumps(data | {"call_overhead_s": 0}))
    fast = said(*command)
    assert slow["kv_tokens"] == 32768
    medians = [s["outcomes"][0]["summary"]["latency_s"]["p50"] for s in (slow, fast)]
    assert medians[0] - medians[1] == pytest.approx(0.5, abs=0.1)


def test_a_profile_of_a_real_engine_wants_measured_costs(trace: str) -> None:
    error = refused("simulate", "-p", "laptop", "-t", trace)
    assert "how long its steps take is not known" in str(error)
    assert "calibrate" in error.hint


def test_speculation_is_not_simulated(card: str, trace: str) -> None:
    error = refused("simulate", "-p", card, "-t", trace, "-c", "emulation.draft_tokens=3")
    assert "does not speculate" in str(error)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--policies", "baseline,thudner"], "did you mean 'thunder'"),
        (["--policies", "paper:decay=1"], "did you mean 'decay_base'"),
        (["--policies", "paper:decay_base"], "'decay_base' is no option"),
        (["--policies", "paper:decay_base=0.5"], "decay_base ≥ 1"),
        (["--policies", "baseline:route=nearest"], "must be one of session"),
        (["--policies", "thunder,paper,thunder"], "says 'thunder' twice"),
        (["--policies", "thunder,"], "unknown policy ''"),
        (["--agents", "4,many"], "wants numbers"),
        (["--agents", "0"], "wants numbers"),
        (["--agents", "4,,8"], "wants numbers"),
        (["--duration", "10", "--programs", "3"], "exclude each other"),
        (["--start", "warm"], "fresh or steady"),
        (["--kv-tokens", "10"], "at least two KV blocks"),
        (["surplus"], "'surplus' is unexpected"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_runs(
    options: list[str], complaint: str, card: str, trace: str, home: Path
) -> None:
    assert complaint in str(refused("simulate", "-p", card, "-t", trace, *options))
    assert not (home / "simulations").exists()


def test_a_trace_that_is_not_there_is_named(card: str) -> None:
    assert "no trace 'codign'" in str(refused("simulate", "-p", card, "-t", "codign", as_=WorkloadError))


def test_a_folder_that_cannot_be_made_is_refused(card: str, trace: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be made" in str(refused("simulate", "-p", card, "-t", trace, "--out", str(tmp_path / "file" / "x")))


names = st.sampled_from(["baseline:route=round-robin", "paper:decay_base=1", "paper:delta_t_s=2.5:lambda_max=1.1"])


@given(names)
def test_a_policy_with_options_can_be_written_and_read(text: str) -> None:
    name, *options = text.split(":")
    values = {key: getattr(parse_policy(text), key) for key in (option.partition("=")[0] for option in options)}
    assert policy_text(name, values) == text
    assert parse_policy(policy_text(name, values)) == parse_policy(text)


# ------------------------------------------------------------------ simulate --like


def store(result: SimResult, folder: Path, profile: str, overrides: list[str], manifest: dict[str, Any]) -> RunFolder:
    """``result`` as the folder of a stored run."""
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    resolved = load_profile(profile, overrides)
    run.write("profile.json", {"profile": resolved.profile.model_dump(mode="json"), "sources": resolved.sources})
    run.write("manifest.json", {**result.manifest, "schema": SCHEMA, **manifest})
    for name, records in result.records.items():
        for record in records:
            run.append(name, record)
    run.close()
    return run


def a_trace_run(folder: Path, card: str, trace: str, policy: str, agents: int, seconds: float = 90.0) -> RunFolder:
    """A run of a trace whose engine was as the simulator has it."""
    found, overrides = load_trace(Path(trace)), [f"scheduler.policy={policy}"]
    e = emulation_of(load_profile(card).profile)
    worker = SimWorker(e.cost, e.kv_tokens, e.block_size, e.max_num_seqs, e.max_num_batched_tokens, 8192)
    work = Work(found, agents, start="steady", seed=5)
    result = run_simulation(work, [worker], parse_policy(policy), agents=agents, duration_s=seconds)
    about = {
        "name": found.name, "digest": found.digest, "file": trace, "programs": None, "duration_s": seconds,
        "start": "steady", "seed": 5,
    }  # fmt: skip
    manifest = {"kind": "trace", "workload": found.name, "agents": agents, "trace": about, "window": [0.0, seconds]}
    return store(result, folder, card, overrides, manifest)


def test_runs_of_traces_are_simulated_beside_what_was_measured(card: str, trace: str, tmp_path: Path) -> None:
    """Same programs, seed, start, length, policy and workers: here the simulator meets itself, so nothing differs."""
    runs = [
        a_trace_run(tmp_path / f"run-{policy}", card, trace, policy, agents)
        for policy, agents in (("baseline", 4), ("thunder", 12))
    ]
    found = said("simulate", "--like", str(runs[0].folder), str(runs[1].folder))["runs"]
    assert [(a["run"], a["policy"], a["agents"]) for a in found] == [
        ("run-baseline", "baseline", 4), ("run-thunder", "thunder", 12),
    ]  # fmt: skip
    for a in found:
        assert (a["steps_apart"], a["hit_rate_apart"], a["agrees"]) == (0.0, 0.0, True)
        assert a["simulated"]["throughput"] == a["measured"]["throughput"]


def test_the_table_of_agreement_is_printed_and_written(card: str, trace: str, tmp_path: Path) -> None:
    run = a_trace_run(tmp_path / "run", card, trace, "thunder", 8)
    result = runner.invoke(app, ["simulate", "--like", str(run.folder), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "1 of 1 runs agree" in result.stdout
    assert json.loads((tmp_path / "out" / "like.json").read_text())["runs"][0]["agrees"] is True


def test_options_of_the_runs_policy_are_kept(card: str, trace: str, tmp_path: Path) -> None:
    run = a_trace_run(tmp_path / "run", card, trace, "paper", 12)
    stored = run.read("profile.json")
    stored["profile"]["scheduler"]["options"] = {"decay_base": 1, "delta_t_s": 2.5}
    run.write("profile.json", stored)
    (a,) = said("simulate", "--like", str(run.folder))["runs"]
    assert a["policy"] == "paper:decay_base=1:delta_t_s=2.5"
    assert a["simulated"]["throughput"] != a["measured"]["throughput"]


def test_a_replay_run_is_simulated_from_its_own_steps_with_measured_costs(trace: str, tmp_path: Path) -> None:
    found, cost = load_trace(Path(trace)), Measured(fixed_s=0.004, token_s=2e-4, pair_s=0.0, context_s=1e-7)
    worker = SimWorker(cost, 20480, 32, 128, 2048, 16384)
    work = Work(found, 12, programs=12)
    result = run_simulation(work, [worker], parse_policy("thunder"), agents=12)
    for rollout in result.records["rollouts"]:
        rollout |= {"prepare_s": 0.0, "resolved": None}
    run = store(
        result,
        tmp_path / "run",
        "laptop",
        ["workers.kv_tokens=20480", "model.max_model_len=16384"],
        {"kind": "replay", "workload": "swebench", "agents": 12},
    )
    costs = tmp_path / "costs.json"
    costs.write_text(json.dumps({"cost": json.loads(to_json(cost)), "kv_tokens": 99}))
    (a,) = said("simulate", "--like", str(run.folder), "--costs", str(costs))["runs"]
    assert a["kind"] == "replay"
    assert a["simulated"]["throughput"]["steps"] == a["measured"]["throughput"]["steps"] == 12 * 24
    assert a["agrees"] is True


def test_a_run_whose_trace_has_changed_is_refused(card: str, trace: str, tmp_path: Path) -> None:
    run = a_trace_run(tmp_path / "run", card, trace, "thunder", 2, seconds=10)
    lines = Path(trace).read_text().splitlines()
    Path(trace).write_text("\n".join(lines[1:]) + "\n")
    assert "is not the trace any more" in str(refused("simulate", "--like", str(run.folder)))


def test_a_live_run_is_refused_since_nobody_knew_its_work_beforehand(card: str, trace: str, tmp_path: Path) -> None:
    run = a_trace_run(tmp_path / "run", card, trace, "thunder", 2, seconds=10)
    run.write("manifest.json", {**run.read("manifest.json"), "kind": "live"})
    assert "of kind live" in str(refused("simulate", "--like", str(run.folder)))


# ------------------------------------------------------------------ plan

CODER = ["--model", "qwen3-coder-30b-a3b-fp8", "--duration", "60"]


def test_a_plan_reaches_its_target_by_simulation_with_all_its_workers(trace: str) -> None:
    found = said("plan", "-t", trace, "--target-steps-per-min", "800", "--gpus", "l40s:1,rtx-5090:2", *CODER)
    assert {kind["kind"] for kind in found["kinds"]} == {"1 × l40s", "2 × rtx-5090"}
    for kind in found["kinds"]:
        assert kind["reached"] is True
        assert kind["steps_per_min"] >= 800
        assert kind["cards"] == kind["workers"] * kind["cards_per_worker"]
        assert kind["agents_per_worker"] in [agents for agents, _, _ in kind["tried"]]
    cards = [kind["cards"] for kind in found["kinds"]]
    assert cards == sorted(cards)
    assert f"the fewest cards for 800 steps/min with {CODER[1]} on trace small are {cards[0]}" in found["answer"]


def test_a_plan_for_agents_runs_just_so_many(trace: str) -> None:
    found = said("plan", "-t", trace, "--target-agents", "50", "--gpus", "l40s:1", *CODER)
    (kind,) = found["kinds"]
    assert kind["agents"] == 50
    assert kind["reached"] is True
    assert "for 50 agents" in found["answer"]


def test_a_plan_says_what_does_not_fit_and_why(trace: str) -> None:
    result = runner.invoke(
        app, ["plan", "-t", trace, "--target-agents", "5", "--gpus", "rtx-5090,l40s:3,rtx-5090:1", *CODER]
    )
    assert result.exit_code == 0, result.output
    assert "1 × rtx-5090: qwen3-coder-30b-a3b-fp8 does not fit" in result.stdout
    assert "3 × l40s: Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8 cannot be split over 3 GPUs" in result.stdout
    assert "of 2 × rtx-5090 with" in " ".join(result.stdout.split())


def test_a_plan_without_any_fitting_worker_says_so(trace: str) -> None:
    found = said("plan", "-t", trace, "--target-agents", "5", "--gpus", "rtx-5090:1,l40s:1", "--model", "llama-3.3-70b")
    assert found["kinds"] == []
    assert set(found["does_not_fit"]) == {"1 × rtx-5090", "1 × l40s"}
    assert "no kind of worker holds the model" in found["answer"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "either --target-steps-per-min or --target-agents"),
        (["--target-agents", "5", "--target-steps-per-min", "5"], "either --target-steps-per-min or --target-agents"),
        (["--target-agents", "5", "--gpus", "h100:8"], "did you mean 'h100-sxm'"),
        (["--target-agents", "5", "--gpus", "h200:some"], "is no GPU:CARDS"),
        (["--target-agents", "5", "--gpus", "h200:0"], "is no GPU:CARDS"),
        (["--target-agents", "5", "--model", "glm-4.6"], "did you mean 'glm-4.6-fp8'"),
        (["--target-agents", "5", "--policy", "thunderr"], "did you mean 'thunder'"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(options: list[str], complaint: str, trace: str) -> None:
    assert complaint in str(refused("plan", "-t", trace, *options))
