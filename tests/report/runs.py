"""Stored runs made without an engine: simulations written as run folders, and manifests of coding runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thunderctl.cli.simulated import policy_for, worker_of
from thunderctl.profile_files import load_profile
from thunderctl.runs.store import RunFolder
from thunderctl.sim.driver import simulate
from thunderctl.traces.load import find_trace, load_trace
from thunderctl.traces.trace import Work

PROFILE = "emulated-h100x8-glm46"


def a_simulated_run(
    folder: Path,
    agents: int = 24,
    policy: str = "thunder",
    *,
    duration_s: float = 120.0,
    seed: int = 0,
    workers: int = 1,
    **changes: Any,
) -> RunFolder:
    """A simulation of the bundled coding trace, stored as a run is. ``changes`` are made to its manifest."""
    profile = load_profile(PROFILE, ()).profile
    trace = load_trace(find_trace("coding"))
    worker, _overhead = worker_of(profile, None, None)

    def work() -> Work:
        return Work(trace, agents, programs=None, start="steady", seed=seed)

    result = simulate(work(), (worker,) * workers, policy_for(policy, work()), agents=agents, duration_s=duration_s)
    manifest = result.manifest | {
        "workload": trace.name,
        "tasks_are": f"of trace {trace.name} (digest {trace.digest})",
        "policy": policy,
        "profile": profile.name,
        "argv": ["thunderctl", "run", "trace", "--trace", "coding", "--agents", str(agents)],
        "trace": {
            "name": trace.name, "digest": trace.digest, "programs": None, "duration_s": duration_s, "start": "steady",
            "seed": seed,
        },
    }  # fmt: skip
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    run.write("manifest.json", {**manifest, **changes})
    run.write("profile.json", {"profile": profile.model_dump(mode="json"), "sources": {}})
    for name, records in result.records.items():
        for record in records:
            run.append(name, record)
    run.close()
    return run


def a_coding_manifest(agents: int, **changes: Any) -> dict[str, Any]:
    """Of a replay of the bundled coding tasks."""
    return {
        "schema": 1, "workload": "swebench", "kind": "replay", "tasks_are": "bundled with thunderctl",
        "judged": "patches that pass their tests", "profile": "laptop", "policy": "thunder", "engine": "cpu",
        "agents": agents, "environments": {"backend": "local"}, "argv": ["thunderctl", "run", "swebench"],
        "thunderctl": "0.1.0", "python": "3.11.2", "host": {"system": "Linux", "cores": 2},
        **changes,
    }  # fmt: skip
