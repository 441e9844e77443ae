"""The node that a run is driven on: the one that is up, or one that comes and goes with the run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

from thunderctl import launcher
from thunderctl.environments.ahead import bring_base
from thunderctl.errors import DaemonError, UsageError
from thunderctl.launcher import NodeHandle
from thunderctl.node import alive, node_dir, same_process
from thunderctl.profile import Profile
from thunderctl.profile_files import ResolvedProfile, load_profile
from thunderctl.runs.driver import Plan
from thunderctl.runs.store import RunFolder

Tell = Callable[[str], None]


def node_that_lasts(tell: Tell) -> NodeHandle | None:
    """The node that is up. One whose command was killed ends within a second or so: that is waited for."""
    handle = launcher.current()
    if handle is None:
        return None
    parent = json.loads((node_dir(handle.name) / "launch.json").read_text()).get("parent")
    if parent is None or same_process(int(parent["pid"]), parent["create_time"]):
        return handle
    tell("waiting for the node of a command that was killed to be gone")
    give_up = time.monotonic() + launcher.STOP_S
    while alive(handle.record):
        if time.monotonic() > give_up:
            raise DaemonError("the node of a command that was killed does not end", hint="`thunderctl down`")
        time.sleep(0.2)
    return None


def profile_to_use(
    profile: str | None, overrides: Sequence[str] | None, up_already: NodeHandle | None
) -> ResolvedProfile:
    """``profile``, or that of the node that is up, or ``laptop``; ``UsageError`` if another one is up."""
    if profile is None and up_already is not None:
        if overrides:
            raise UsageError("-c changes a profile: say which with --profile", hint="or `thunderctl down` first")
        return load_launched(up_already)
    resolved = load_profile(profile or "laptop", overrides or ())
    refuse_another_node(resolved, up_already)
    return resolved


def refuse_another_node(resolved: ResolvedProfile, up_already: NodeHandle | None) -> None:
    """``UsageError`` if a node is up with another profile."""
    if up_already is not None and up_already.record.digest != resolved.profile.digest():
        raise UsageError(
            f"a node is up with another profile ({up_already.record.profile}), and a run does not replace it",
            hint="leave --profile out to use it, or `thunderctl down` first",
        )


def load_launched(handle: NodeHandle) -> ResolvedProfile:
    """The profile that a running node was started with."""
    launch = json.loads((node_dir(handle.name) / "launch.json").read_text())
    return ResolvedProfile(Profile.model_validate(launch["profile"]), launch["sources"], f"node {handle.name}")


def profile_of_run(
    store: RunFolder, profile: str | None, overrides: Sequence[str] | None, up_already: NodeHandle | None
) -> ResolvedProfile:
    """The profile that a stored run was begun with; ``UsageError`` if another one is named, or is up."""
    said = store.read("manifest.json")
    if profile is not None or overrides:
        resolved = load_profile(profile or said["profile"], overrides or ())
    else:
        stored = store.read("profile.json")
        resolved = ResolvedProfile(Profile.model_validate(stored["profile"]), stored["sources"], f"run {store.id}")
    if resolved.profile.digest() != said["profile_digest"]:
        raise UsageError(
            f"run {store.id} cannot be resumed: this is not the profile that it was begun with",
            hint="leave --profile and -c out: the run has its own",
        )
    refuse_another_node(resolved, up_already)
    return resolved


def bring_up_for(plan: Plan, resolved: ResolvedProfile, tell: Tell, *, name: str, ends_with_me: bool) -> NodeHandle:
    """The node, and what the environments of all agents start from; ``PreflightError`` if that cannot be had."""
    if plan.environment is not None:
        bring_base(plan.environment.image, resolved.profile.environments, tell)
    return launcher.bring_up(resolved, name=name, progress=tell, ends_with_me=ends_with_me)
