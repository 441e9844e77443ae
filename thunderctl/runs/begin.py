"""How a run begins: its folder says what it is, for whoever judges it, repeats it or goes on with it."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Mapping
from typing import Any

from thunderctl import __version__
from thunderctl.agents.client import DaemonClient
from thunderctl.profile_files import ResolvedProfile
from thunderctl.runs.driver import Driver, Plan
from thunderctl.runs.resume import AT_FIRST, Earlier, note_sitting
from thunderctl.runs.store import SCHEMA, RunFolder


def manifest(plan: Plan, resolved: ResolvedProfile, health: dict[str, Any], argv: list[str]) -> dict[str, Any]:
    """Everything that another person needs to judge or repeat the run."""
    return {
        "schema": SCHEMA,
        "created": time.time(),
        "thunderctl": __version__,
        "python": platform.python_version(),
        "host": {"system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count()},
        "argv": argv,
        "seed": plan.shape.seed,
        **identity(plan),
        "profile": resolved.profile.name,
        "profile_digest": resolved.profile.digest(),
        "policy": resolved.profile.scheduler.policy,
        "engine": resolved.profile.engine.kind,
        "time_model": time_model(resolved),
        "time_scale": health.get("time_scale", 1.0),
        "workers": health["workers"],
        "environments": health["environments"],
    }


def identity(plan: Plan) -> dict[str, Any]:
    """The part of the manifest in which a run that goes on must be what was begun."""
    return {"kind": plan.kind, "agents": plan.agents, "due": plan.due, "shape": plan.shape.about(), **plan.about()}


def time_model(resolved: ResolvedProfile) -> str | None:
    """What an emulated engine pretends to be, in words; ``None`` for a real one."""
    profile = resolved.profile
    if profile.engine.kind != "emulated":
        return None
    said = profile.emulation
    if said.costs is not None:
        return f"the engine measured in {said.costs.name}"
    return f"{profile.workers.tensor_parallel} × {said.gpu} with {said.model}"


async def begin_run(
    plan: Plan,
    resolved: ResolvedProfile,
    client: DaemonClient,
    store: RunFolder,
    *,
    earlier: Earlier = AT_FIRST,
    more: Mapping[str, Any] | None = None,
) -> Driver:
    """The driver of a run whose folder says now what it is, or that it goes on. ``more``: of its manifest."""
    health = await client.health()
    if earlier.sittings:
        note_sitting(store, earlier, health)
    else:
        store.write("manifest.json", manifest(plan, resolved, health, own_argv()) | dict(more or {}))
        profile = {"profile": resolved.profile.model_dump(mode="json"), "sources": resolved.sources}
        store.write("profile.json", profile)
    return Driver(plan, client, store, time_scale=health.get("time_scale", 1.0), earlier=earlier)


def redacted(argv: list[str]) -> list[str]:
    """The command line without anything that looks like a secret."""
    hidden = ("key", "token", "secret", "password")
    return [
        a.split("=", 1)[0] + "=…" if "=" in a and any(h in a.split("=", 1)[0].lower() for h in hidden) else a
        for a in argv
    ]


def own_argv() -> list[str]:
    return ["thunderctl", *redacted(sys.argv[1:])]
