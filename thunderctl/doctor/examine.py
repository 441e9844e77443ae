"""All that is looked at, in the order in which it is told; and what of it a profile cannot do without."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from thunderctl.doctor import disks, engines, isolation, machine, ports
from thunderctl.doctor.finding import Finding, State, fine
from thunderctl.profile import Profile

Check = Callable[[], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    machine.python,
    machine.programs,
    machine.memory,
    disks.disks,
    engines.engines,
    engines.gpus,
    isolation.docker,
    isolation.bubblewrap,
    isolation.control_groups,
    ports.loopback,
    machine.open_files,
    machine.processes,
    machine.kernel,
    machine.shared_memory,
)


def examine(profile: Profile | None = None) -> list[Finding]:
    """Look at everything. With a profile, what that one needs and is not there is broken."""
    findings = [finding for check in CHECKS for finding in check()]
    if profile is None:
        return findings + list(ports.ports_of_own_profiles())
    return [*_judged(findings, profile), *_of(profile)]


def _judged(findings: list[Finding], profile: Profile) -> Iterator[Finding]:
    by = f"profile {profile.name}"
    needs = {
        "GPUs": profile.engine.kind == "cuda",
        "GPU driver": profile.engine.kind == "cuda",
        "Docker engine": profile.environments.backend == "docker",
        "memory and cores": profile.engine.kind in ("cpu", "emulated"),
        "shared memory": profile.workers.tensor_parallel > 1 and profile.engine.kind == "cuda",
    }
    for finding in findings:
        yield finding.if_needed(needs.get(finding.what, False), by)


def _of(profile: Profile) -> Iterator[Finding]:
    by = f"profile {profile.name}"
    if profile.gateway.port:
        yield ports.port(profile.gateway, profile.name).if_needed(True, by)
    if key := profile.gateway.api_key_env:
        if os.environ.get(key):
            yield fine("API key", f"in {key}")
        else:
            yield Finding("API key", f"{key} is not set", State.broken, by, f"export {key}=…")
    if profile.engine.kind == "cuda":
        yield from _gpus_counted(profile)


def _gpus_counted(profile: Profile) -> Iterator[Finding]:
    wanted = profile.workers.count * profile.workers.tensor_parallel
    found = engines.count_gpus()
    if 0 < found < wanted:
        fix = "-c workers.count=N -c workers.tensor_parallel=N to fit, or another of `thunderctl profile list`"
        yield Finding("number of GPUs", f"{found}, of {wanted}", State.broken, f"profile {profile.name}", fix)
