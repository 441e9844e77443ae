"""Drives N agents through the scheduler and the workers in virtual time, and keeps the records of a run.

Here meet the trace (what the agents do), the core (who is admitted where, through ``handle`` and ``next_deadline``
alone) and the workers (how long it takes). This file decides nothing and computes no engine time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from thunderctl.core import effects as fx
from thunderctl.core import events as ev
from thunderctl.core.policies.base import Policy
from thunderctl.core.scheduler import Scheduler
from thunderctl.runs.store import SCHEMA
from thunderctl.sim.clock import Clock
from thunderctl.sim.context import Commons, Context
from thunderctl.sim.result import SimResult
from thunderctl.sim.worker import Request, SimWorker, Worker
from thunderctl.traces.trace import TraceProgram, TraceStep, Work
from thunderctl.workers.inside.thunderctl_timing import cold_prefill_rate

RETRIES = 5
"""Attempts after a 503 that says when to come back, as ``agents/client.py`` makes them."""
TIMER_S = 0.001
"""A deadline that has passed already rings this much later, so that virtual time always goes on."""


def simulate(
    work: Work,
    workers: Sequence[SimWorker],
    policy: Policy,
    *,
    agents: int,
    duration_s: float | None = None,
    call_overhead_s: float = 0.0,
    program_ttl_s: float = 1800.0,
    sample_s: float = 2.0,
    check: bool = False,
) -> SimResult:
    """Let ``agents`` agents take programs from ``work`` until it has ended, or for ``duration_s`` of virtual time.

    ``call_overhead_s``: time of each call outside the engine, half before and half after it. ``sample_s``: seconds
    between two samples of a worker. ``check``: assert every invariant of the scheduler and of the workers after each
    event. Same arguments, same result; ``work`` is used up. A work without end needs ``duration_s``.

    Raises:
        ValueError: an argument is out of range.
        RuntimeError: the policy holds calls that it will never admit.
    """
    if agents < 1 or sample_s <= 0 or call_overhead_s < 0:
        raise ValueError("a simulation wants agents of 1 or more, sample_s above 0 and call_overhead_s of 0 or more")
    scheduler = Scheduler(policy, program_ttl_s=program_ttl_s)
    simulation = _Simulation(work, workers, scheduler, agents, call_overhead_s, sample_s, check)
    return simulation.run(math.inf if duration_s is None else duration_s)


@dataclass(slots=True, eq=False)
class _Program:
    """A program as one agent runs it, and the calls or the tool it is at."""

    agent: str
    id: str
    trace: TraceProgram
    first_step: int
    step: int
    prompts: list[int]
    """Tokens of the present call's prompt in each branch, before any cut."""
    started: float
    sent: float = 0.0
    left: int = 0
    """Calls of the present step that have had no outcome yet."""
    attempts: int = 0
    held_s: float = 0.0
    usage: tuple[int, int, int] = (0, 0, 0)
    """Prompt, cached and output tokens of the step's calls that were answered."""
    worker: str = ""
    error: str | None = None
    contexts: dict[str, list[Context]] = field(default_factory=dict)
    """Its context on each worker where it has been, one for each branch."""

    @property
    def doing(self) -> TraceStep:
        """The present step."""
        return self.trace.steps[self.step]


@dataclass(slots=True, eq=False)
class _Call:
    """One of the calls that a step makes at once."""

    program: _Program
    number: int
    """The branch or sample; 0 is the program's own."""
    attempts: int = 0

    @property
    def branch(self) -> int:
        return self.number if self.program.trace.branches > 1 else 0

    @property
    def doing(self) -> TraceStep:
        """What is generated and appended."""
        return self.program.trace.step_of(self.number, self.program.step)

    @property
    def prompt(self) -> int:
        """Tokens of its prompt, before any cut."""
        return self.program.prompts[self.branch]


class _Simulation:
    def __init__(
        self,
        work: Work,
        specs: Sequence[SimWorker],
        scheduler: Scheduler,
        agents: int,
        call_overhead_s: float,
        sample_s: float,
        check: bool,
    ) -> None:
        self._work = work
        self._scheduler = scheduler
        self._overhead_s = call_overhead_s / 2
        self._sample_s = sample_s
        self._check = check
        self._clock = Clock()
        digits = max(3, len(str(agents - 1)))
        self._agents = [f"agent-{index:0{digits}d}" for index in range(agents)]
        self._open: dict[str, _Program] = {}
        """What each agent is at; an agent that found the queue ended is in it no more."""
        self._calls: dict[str, _Call] = {}
        self._serial = 0
        self._timer_at: float | None = None
        self._workers: dict[str, Worker] = {}
        self._commons: dict[str, Commons] = {}
        for index, spec in enumerate(specs):
            name = f"w{index}"
            self._commons[name] = Commons(spec.block_size)
            self._workers[name] = Worker(
                name, spec, self._clock, on_first_token=self._first_token, on_finish=self._generated
            )
        manifest = {
            "schema": SCHEMA,
            "workload": "trace",
            "kind": "trace",
            "tasks_are": "programs of a trace",
            "agents": agents,
            "profile": "none",
            "policy": scheduler.policy.name,
            "engine": "simulated",
            "workers": len(specs),
            "environments": {"backend": "none"},
        }
        self._result = SimResult("simulation", manifest)
        self._records = self._result.records

    def run(self, duration_s: float) -> SimResult:
        for name, worker in self._workers.items():
            spec = worker.spec
            self._submit(ev.WorkerUp(name, spec.blocks * spec.block_size, cold_prefill_rate(spec.cost)))
        self._sample()
        for agent in self._agents:
            self._next_program(agent)
        if self._open:
            self._clock.run(duration_s)
        if self._open and math.isinf(duration_s):
            raise RuntimeError(f"{len(self._open)} agents wait for ever: the policy never admits their calls")
        if duration_s < math.inf:
            self._result.manifest["window"] = [0.0, self._clock.now]
        for program in self._open.values():
            self._record_rollout(program, "cut off")
        if not self._records["samples"] or self._records["samples"][-1]["at"] < self._clock.now:
            self._take_samples()
        return self._result

    # ------------------------------------------------------------------ the scheduler

    def _submit(self, event: ev.Event) -> None:
        """Hand ``event`` to the scheduler now and carry out what it decides."""
        for effect in self._scheduler.handle(event, self._clock.now):
            self._carry_out(effect)
        self._set_timer()
        if self._check:
            self._scheduler.check()
            for worker in self._workers.values():
                worker.check()

    def _carry_out(self, effect: fx.Effect) -> None:
        if isinstance(effect, fx.Admit):
            self._clock.call_in(self._overhead_s, self._reach_worker, effect)
            return  # its Restored says why
        if isinstance(effect, fx.Reject):
            self._clock.call_in(0.0, self._rejected, effect)
        decisions = self._records["decisions"]
        decisions.append({"n": len(decisions) + 1, "at": self._clock.now, **fx.to_record(effect)})

    def _set_timer(self) -> None:
        deadline = self._scheduler.next_deadline()
        if deadline is None:
            self._timer_at = None
            return
        if deadline <= self._clock.now:
            deadline = self._clock.now + TIMER_S
        if deadline != self._timer_at:
            self._timer_at = deadline
            self._clock.call_at(deadline, self._ring, deadline)

    def _ring(self, deadline: float) -> None:
        if deadline == self._timer_at:
            self._timer_at = None
            self._submit(ev.Timer())

    # ------------------------------------------------------------------ programs

    def _next_program(self, agent: str) -> None:
        taken = self._work.take()
        if taken is None:
            self._open.pop(agent, None)
            if not self._open:
                self._clock.stop()
            return
        first, now = taken.first_step, self._clock.now
        prompts = [taken.program.prompt_at(first)] * taken.program.branches
        program = _Program(agent, taken.id, taken.program, first, first, prompts, now)
        self._open[agent] = program
        self._call(program)

    def _end_program(self, program: _Program, status: str, error: str | None = None) -> None:
        self._record_rollout(program, status, error)
        self._submit(ev.ProgramReleased(program.id))
        self._next_program(program.agent)

    # ------------------------------------------------------------------ one step: its calls, then its tool

    def _call(self, program: _Program) -> None:
        program.sent = self._clock.now
        program.left = max(program.trace.samples, program.trace.branches)
        program.attempts, program.held_s, program.usage = 0, 0.0, (0, 0, 0)
        for number in range(program.left):
            self._send(_Call(program, number))

    def _send(self, call: _Call) -> None:
        program = call.program
        call.attempts += 1
        program.attempts = max(program.attempts, call.attempts)
        self._serial += 1
        name = f"c{self._serial}"
        self._calls[name] = call
        limit = program.trace.context_limit
        prompt = call.prompt if limit is None else min(call.prompt, limit)
        self._submit(ev.CallArrived(name, program.id, prompt, program.trace.group))

    def _rejected(self, effect: fx.Reject) -> None:
        call = self._calls.pop(effect.call)
        if effect.status == 503 and call.attempts <= RETRIES:
            self._clock.call_in(effect.retry_after_s, self._send, call)
        else:
            self._call_ended(call.program, effect.reason)

    def _call_ended(self, program: _Program, error: str | None = None) -> None:
        """A call of the present step has had its outcome; the step goes on when the last one has."""
        program.error = program.error or error
        program.left -= 1
        if program.left:
            return
        if program.error is not None:
            self._end_program(program, "failed", program.error)
        else:
            self._all_answered(program)

    def _reach_worker(self, admitted: fx.Admit) -> None:
        call, worker = self._calls[admitted.call], self._workers[admitted.worker]
        program, samples = call.program, call.program.trace.samples
        program.worker, program.held_s = worker.name, max(program.held_s, admitted.waited_s)
        contexts = program.contexts.get(worker.name)
        if contexts is None:
            commons = self._commons[worker.name]
            fork = commons.fork_of(program.trace)
            contexts = [Context(program.trace, commons, fork) for _ in program.prompts]
            program.contexts[worker.name] = contexts
        step, context = call.doing, contexts[call.branch]
        generate = max(1, step.reasoning + step.output)  # an engine always generates something
        goes_on = generate == step.output and (samples == 1 or call.number == 0)
        prompt, path = context.call(call.prompt, drops_answer=not goes_on, samples=samples)
        if worker.accepts(prompt, generate):
            worker.submit(Request(admitted.call, prompt, generate, path))
        else:
            self._clock.call_in(self._overhead_s, self._refused, admitted.call)

    def _refused(self, call: str) -> None:
        """The engine answered 400: the context is too long for it."""
        program = self._calls.pop(call).program
        self._submit(ev.CallFailed(call))
        self._call_ended(program, f"step {program.step + 1}: the context is too long for {program.worker}")

    def _first_token(self, request: Request) -> None:
        self._clock.call_in(self._overhead_s, self._submit, ev.FirstToken(request.call))

    def _generated(self, request: Request) -> None:
        self._clock.call_in(self._overhead_s, self._answered, request)

    def _answered(self, request: Request) -> None:
        program, cached = self._calls.pop(request.call).program, request.cached or 0
        self._submit(ev.CallFinished(request.call, request.prompt, cached, request.generate))
        prompts, hits, outputs = program.usage
        program.usage = (prompts + request.prompt, hits + cached, outputs + request.generate)
        self._call_ended(program)

    def _all_answered(self, program: _Program) -> None:
        prompts, hits, outputs = program.usage
        record = {
            "agent": program.agent,
            "program": program.id,
            "step": program.step + 1,
            "at": program.sent,
            "latency_s": self._clock.now - program.sent,
            "held_s": program.held_s,
            "prompt_tokens": prompts,
            "cached_tokens": hits,
            "output_tokens": outputs,
            "worker": program.worker,
            "attempts": program.attempts,
            "tool_s": program.doing.tool_s,
            "command": "(recorded tool)",
        }
        if program.doing.tool_s > 0:
            self._submit(ev.ToolStarted(program.id))
        self._clock.call_in(program.doing.tool_s, self._acted, program, record)

    def _acted(self, program: _Program, record: dict[str, Any]) -> None:
        step = program.doing
        if step.tool_s > 0:
            self._submit(ev.ToolFinished(program.id, step.tool_s))
        self._records["steps"].append({**record, "ended": self._clock.now})
        for branch in range(len(program.prompts)):
            added = program.trace.step_of(branch, program.step)
            program.prompts[branch] += added.output + added.observation
        program.step += 1
        if program.step == len(program.trace.steps):
            self._end_program(program, "finished")
        else:
            self._call(program)

    # ------------------------------------------------------------------ records

    def _record_rollout(self, program: _Program, status: str, error: str | None = None) -> None:
        self._records["rollouts"].append(
            {
                "agent": program.agent,
                "program": program.id,
                "instance_id": program.trace.id,
                "group": program.trace.group,
                "first_step": program.first_step,
                "kind": "trace",
                "status": status,
                "error": error,
                "started": program.started,
                "ended": self._clock.now,
                "steps": program.step - program.first_step,
            }
        )

    def _sample(self) -> None:
        """Sample now and every ``sample_s`` from now on, as long as anything else is due."""
        self._take_samples()
        self._clock.call_in(self._sample_s, self._sample_again)

    def _sample_again(self) -> None:
        if not self._clock.idle:
            self._sample()

    def _take_samples(self) -> None:
        """One sample of each worker, in the form of ``daemon/probe.py``."""
        now, samples = self._clock.now, self._records["samples"]
        held = sum(call.worker is None for call in self._scheduler.calls.values())
        for name, worker in self._workers.items():
            ledger, pool = self._scheduler.workers[name], worker.pool
            samples.append(
                {
                    "n": len(samples) + 1,
                    "at": now,
                    "worker": name,
                    "engine": {
                        "running": worker.running,
                        "waiting": worker.waiting,
                        "kv_usage": 1 - pool.free / pool.usable,
                        **asdict(worker.counters),
                    },
                    "reasoning_tokens": ledger.reasoning,
                    "acting_tokens": ledger.acting,
                    "faded_acting_tokens": round(ledger.fading.read(now), 1),
                    "capacity_tokens": ledger.capacity,
                    "held_calls": held,
                    "cost": ledger.cost.as_dict(),
                    "resident_tokens": pool.resident * worker.spec.block_size,
                }
            )
