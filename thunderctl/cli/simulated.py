"""One simulation as a value: made from a profile and a trace, or from a stored run; carried out here or elsewhere.

Commands say what to simulate and print what was found; ``sim/`` does the simulating.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from thunderctl.core.policies import POLICIES, make_policy
from thunderctl.core.policies.base import Policy
from thunderctl.core.policies.oracle import Ahead, Oracle
from thunderctl.errors import UsageError
from thunderctl.profile import Profile
from thunderctl.report.stats import summarise
from thunderctl.report.sweep import Outcome, memory_of, preemptions_of
from thunderctl.runs.store import RunFolder
from thunderctl.sim.driver import simulate
from thunderctl.sim.worker import SimWorker
from thunderctl.traces.convert import trace_of_run
from thunderctl.traces.load import find_trace, load_trace
from thunderctl.traces.trace import Start, Trace, Work
from thunderctl.workers.emulation import batch_limits, emulation_of, read_costs
from thunderctl.workers.inside.thunderctl_timing import StepCost


@dataclass(frozen=True, slots=True)
class Setting:
    """One simulation: everything that it depends on. Travels to other processes."""

    trace: Trace
    workers: tuple[SimWorker, ...]
    policy: str
    """``name``, or ``name:option=value:…``."""
    agents: int
    duration_s: float | None
    """Seconds of virtual time; ``None``: until the queue has ended."""
    programs: int | None
    start: Start
    seed: int
    call_overhead_s: float = 0.0
    program_ttl_s: float = 1800.0


def run_setting(setting: Setting) -> Outcome:
    """Simulate one setting. ``UsageError`` for one that cannot be simulated."""
    began = time.perf_counter()

    def work() -> Work:
        return Work(setting.trace, setting.agents, programs=setting.programs, start=setting.start, seed=setting.seed)

    try:
        result = simulate(
            work(),
            setting.workers,
            policy_for(setting.policy, work()),
            agents=setting.agents,
            duration_s=setting.duration_s,
            call_overhead_s=setting.call_overhead_s,
            program_ttl_s=setting.program_ttl_s,
        )
    except ValueError as error:
        raise UsageError(f"{setting.agents} agents under {setting.policy} cannot be simulated: {error}") from None
    result.manifest |= {
        "workload": setting.trace.name,
        "tasks_are": f"of trace {setting.trace.name} (digest {setting.trace.digest})",
        "policy": setting.policy,
        "trace": {
            "name": setting.trace.name,
            "digest": setting.trace.digest,
            "programs": setting.programs,
            "duration_s": setting.duration_s,
            "start": setting.start,
            "seed": setting.seed,
        },
    }
    if setting.duration_s is not None:
        result.manifest["window"] = [0.0, setting.duration_s]
    return Outcome(
        agents=setting.agents,
        policy=setting.policy,
        summary=summarise(result),
        preemptions=preemptions_of(result.lines("samples")),
        memory=memory_of(result.lines("samples")),
        wall_s=time.perf_counter() - began,
    )


def run_all(settings: Sequence[Setting], jobs: int, tell: Callable[[str], None]) -> list[Outcome]:
    """Every setting in its order; ``jobs`` of them at once, each in a process of its own if more than one."""
    found: list[Outcome] = []
    for outcome in _outcomes(settings, jobs):
        found.append(outcome)
        tell(f"simulated {len(found)} of {len(settings)}: {outcome.agents} agents under {outcome.policy}")
    return found


def _outcomes(settings: Sequence[Setting], jobs: int) -> Iterator[Outcome]:
    if jobs == 1:
        yield from map(run_setting, settings)
        return
    # A fresh interpreter each: the terminal's live line has a thread, and threads do not survive a fork.
    with ProcessPoolExecutor(min(jobs, len(settings)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(run_setting, settings)


def parse_policy(text: str, kinds: Mapping[str, type[Policy]] = POLICIES) -> Policy:
    """``name`` or ``name:option=value:…`` as a policy; ``UsageError`` says what is unknown and what there is."""
    name, *said = text.split(":")
    options: dict[str, object] = {}
    for option in said:
        key, equals, value = option.partition("=")
        if not equals:
            raise UsageError(f"policy {text!r}: {option!r} is no option", hint="write name:option=value:option=value")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    try:
        return make_policy(name, options, kinds)
    except ValueError as error:
        raise UsageError(str(error)) from None


ORACLE = "oracle"
"""Knows the future, so it is no policy of a live node (``core/policies/oracle.py``)."""
SIMULATED: Mapping[str, type[Policy]] = {**POLICIES, ORACLE: Oracle}
"""The policies that can be simulated."""


class Future(dict[str, Sequence[Ahead]]):
    """What every program of a work will do; it takes them from a work of its own, which is the same."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work

    def __missing__(self, program: str) -> Sequence[Ahead]:
        while program not in self.keys():
            taken = self._work.take()
            if taken is None:
                raise KeyError(program)
            left, limit = taken.program.steps[taken.first_step :], taken.program.context_limit
            prompt = taken.program.prompt_at(taken.first_step)
            ahead = []
            for step in left:
                grown = step.output + step.observation
                prompt += grown
                known = Ahead(step.tool_s, grown // taken.program.samples, limit is None or prompt <= limit)
                ahead += [known] * max(taken.program.samples, taken.program.branches)
            self[taken.id] = ahead
        return self[program]


def policy_for(text: str, work: Work) -> Policy:
    """:func:`parse_policy`, and ``oracle``, which is told what ``work`` holds (a copy: it is used up)."""
    policy = parse_policy(text, SIMULATED)
    if isinstance(policy, Oracle):
        policy.future = Future(work)
    return policy


def policy_text(policy: str, options: dict[str, Any]) -> str:
    """Inverse of :func:`parse_policy`."""
    said = (f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in options.items())
    return ":".join([policy, *said])


def worker_of(profile: Profile, costs: Path | None, kv_tokens: int | None) -> tuple[SimWorker, float]:
    """The worker to simulate, and a call's seconds outside of it.

    ``costs`` (a file of ``thunderctl calibrate``) takes the place of the profile's time model, and fills in the sizes
    that the profile leaves open; ``kv_tokens`` overrides both.
    """
    longest = profile.model.max_model_len
    if costs is not None:
        cost, measured = read_costs(costs), json.loads(costs.expanduser().read_text())
        capacity = kv_tokens or profile.workers.kv_tokens or measured.get("kv_tokens")
        block_size = profile.workers.block_size or measured.get("block_size") or 16
        if not isinstance(capacity, int) or not isinstance(block_size, int):
            raise UsageError(f"{costs} does not say how many KV tokens a worker holds", hint="give --kv-tokens")
        seqs, batched = batch_limits(profile)
        overhead = float(measured.get("call_overhead_s") or 0.0)
        return make_worker(cost, capacity, block_size, seqs, batched, longest), overhead
    if profile.engine.kind != "emulated":
        raise UsageError(
            f"profile {profile.name} runs a real engine: how long its steps take is not known",
            hint="measure it with thunderctl calibrate, then give --costs FILE; or choose a profile emulated-…",
        )
    if profile.emulation.draft_tokens:
        raise UsageError("the simulator does not speculate: emulation.draft_tokens must be 0")
    e = emulation_of(profile)
    capacity = kv_tokens or e.kv_tokens
    return make_worker(e.cost, capacity, e.block_size, e.max_num_seqs, e.max_num_batched_tokens, longest), 0.0


def _text_s(run: RunFolder, costs: Path) -> float:
    """Seconds that tokenising a call of ``run`` took on average: agents send text, and traces token ids."""
    prompts: list[int] = [step["prompt_tokens"] for step in run.lines("steps")]
    per_token = float(json.loads(costs.expanduser().read_text()).get("text_token_s") or 0.0)
    return per_token * (sum(prompts) / max(1, len(prompts)))


def make_worker(
    cost: StepCost, kv_tokens: int, block_size: int, max_num_seqs: int, batched: int, max_model_len: int | None
) -> SimWorker:
    """``UsageError`` for sizes that vLLM would refuse as well."""
    try:
        return SimWorker(cost, kv_tokens, block_size, max_num_seqs, batched, max_model_len)
    except ValueError as error:
        raise UsageError(str(error)) from None


def setting_like(run: RunFolder, costs: Path | None, kv_tokens: int | None = None) -> Setting:
    """The simulation of what ``run`` did: same programs, agents, start, seed, length, policy and workers.

    Raises:
        UsageError: the run is of a kind whose work is not known beforehand, or its trace is not there any more.
    """
    manifest = run.read("manifest.json")
    profile = Profile.model_validate(run.read("profile.json")["profile"])
    worker, call_overhead_s = worker_of(profile, costs, kv_tokens)
    duration_s: float | None = None
    programs: int | None = None
    begin: Start = "fresh"
    seed = 0
    if manifest["kind"] == "trace":
        said = manifest["trace"]
        trace = load_trace(find_trace(said["file"]))
        if trace.digest != said["digest"]:
            raise UsageError(f"{said['file']} is not the trace any more that run {run.id} was made from")
        duration_s, programs, begin, seed = said["duration_s"], said["programs"], said["start"], said["seed"]
    elif manifest["kind"] == "replay":
        trace = trace_of_run(run)
        programs = len(trace.programs)
        if costs is not None:
            call_overhead_s += _text_s(run, costs)
    else:
        raise UsageError(
            f"run {run.id} is of kind {manifest['kind']}: what its agents did was decided on the way",
            hint="runs of traces and replays can be simulated",
        )
    return Setting(
        trace=trace,
        workers=(worker,) * profile.workers.count,
        policy=policy_text(profile.scheduler.policy, profile.scheduler.options),
        agents=manifest["agents"],
        duration_s=duration_s,
        programs=programs,
        start=begin,
        seed=seed,
        call_overhead_s=call_overhead_s,
        program_ttl_s=profile.gateway.program_ttl_s,
    )
