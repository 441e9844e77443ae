"""``calibrate``: measure a real engine's step times, for the simulator and for emulated workers."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from thunderctl import __version__, launcher, paths
from thunderctl.cli import complete
from thunderctl.cli.show import AsJson, Overrides, out, print_json, ticker
from thunderctl.errors import UsageError
from thunderctl.profile import Profile
from thunderctl.profile_files import load_profile
from thunderctl.runs.store import write_whole
from thunderctl.workers.calibrate import Calibration, Observation, fit, observe
from thunderctl.workers.emulation import batch_limits
from thunderctl.workers.facts import WorkerFacts
from thunderctl.workers.inside import thunderctl_timing


def calibrate(
    profile: Annotated[
        str, typer.Option("--profile", "-p", help="Profile whose engine is measured.", autocompletion=complete.profiles)
    ] = "laptop",
    to: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; without it one in the state.")] = None,
    busy: Annotated[
        int, typer.Option("--busy", min=0, max=1024, help="Cores to keep busy meanwhile, as agents' tools would.")
    ] = 0,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Start one worker of a profile, time its prefill and decode steps, and write the time model that fits them.

    The file is what ``simulate --costs`` and the profile key ``emulation.costs`` take. Nothing else should run on the
    machine meanwhile; it takes a few minutes. Where engine and tools share few cores, ``--busy`` measures the engine as
    it is beside them.

    Examples:

        thunderctl calibrate --profile laptop --busy 1 --out laptop-costs.json
        thunderctl calibrate --profile gpu-1
    """
    resolved = load_profile(profile, [*(overrides or []), "workers.count=1"])
    if resolved.profile.engine.kind == "external":
        raise UsageError("an external worker serves others too: calibrate one that thunderctl starts")
    file = to or paths.home() / "calibrations" / f"{paths.safe_name(resolved.profile.name, 'profile')}.json"
    if not file.parent.is_dir():
        if to is not None:
            raise UsageError(f"there is no folder {file.parent}")
        file.parent.mkdir(parents=True, exist_ok=True)
    with _cores_kept_busy(busy):
        facts, observations = _measure(resolved.profile, resolved)
    fitted = fit(observations)
    data = {**_as_data(resolved.profile, facts, fitted, observations), "busy_cores": busy}
    write_whole(file, json.dumps(data, indent=1) + "\n")
    if as_json:
        print_json({**data, "file": str(file)})
        return
    out.print(_table(fitted, observations))
    cost = fitted.cost
    out.print(
        f"a step: {cost.fixed_s * 1e3:.2f} ms + {cost.token_s * 1e6:.1f} µs a token "
        f"+ {cost.pair_s * 1e9:.2f} ns an attention pair + {cost.context_s * 1e9:.2f} ns a token of context "
        f"+ {cost.sample_s * 1e3:.2f} ms a sampled request; a call: {fitted.call_overhead_s * 1e3:.1f} ms "
        f"+ {fitted.text_token_s * 1e6:.1f} µs a token of text; mean error of the fit {100 * fitted.error:.0f}%",
        highlight=False,
    )
    out.print(f"written to {file}", soft_wrap=True, highlight=False)


def _measure(profile: Profile, resolved: Any) -> tuple[WorkerFacts, list[Observation]]:
    node = f"calibrate-{secrets.token_hex(4)}"
    try:
        with ticker() as tell:
            handle = launcher.bring_up(resolved, name=node, progress=tell, ends_with_me=True)
            row = (launcher.health_of(handle.record) or {})["workers"][0]
            facts = WorkerFacts(
                row["capacity_tokens"],
                row["block_size"],
                row["prefill_tokens_per_s"],
                row["max_model_len"],
                row["model"],
            )
            _, batched = batch_limits(profile)
            return facts, asyncio.run(
                observe(row["url"], facts, batched_tokens=batched, replay=profile.can_replay, progress=tell)
            )
    finally:
        with ticker() as tell:
            launcher.take_down(node, progress=tell)
        launcher.forget(node)


@contextmanager
def _cores_kept_busy(count: int) -> Iterator[None]:
    """Processes that do nothing but compute, until the block ends or this process does."""
    burners = [get_context("spawn").Process(target=_burn, args=(os.getpid(),), daemon=True) for _ in range(count)]
    for burner in burners:
        burner.start()
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.join()


def _burn(parent: int) -> None:
    while os.getppid() == parent:
        sum(range(100_000))


def _as_data(
    profile: Profile, facts: WorkerFacts, fitted: Calibration, observations: list[Observation]
) -> dict[str, Any]:
    seqs, batched = batch_limits(profile)
    return {
        "cost": json.loads(thunderctl_timing.to_json(fitted.cost)),
        "call_overhead_s": fitted.call_overhead_s,
        "text_token_s": fitted.text_token_s,
        "kv_tokens": facts.capacity_tokens,
        "block_size": facts.block_size,
        "max_num_seqs": seqs,
        "max_num_batched_tokens": batched,
        "fit_error": fitted.error,
        "profile": profile.name,
        "profile_digest": profile.digest(),
        "thunderctl": __version__,
        "measured_at": time.time(),
        "observations": [
            {"what": o.what, "steps": o.steps, "seconds": o.seconds, "fitted_s": _predict(fitted, o)}
            for o in observations
        ],
    }


def _predict(fitted: Calibration, o: Observation) -> float:
    cost = fitted.cost
    steps = (cost.fixed_s, cost.token_s, cost.pair_s, cost.context_s, cost.sample_s)
    weights = (fitted.call_overhead_s, *steps, fitted.text_token_s)
    return sum(x * w for x, w in zip(o.features(), weights, strict=True))


def _table(fitted: Calibration, observations: list[Observation]) -> Table:
    table = Table(pad_edge=False)
    table.add_column("measured", style="bold", no_wrap=True)
    for column in ("seconds", "fitted", "difference"):
        table.add_column(column, justify="right")
    for o in observations:
        predicted = _predict(fitted, o)
        table.add_row(o.what, f"{o.seconds:.3f}", f"{predicted:.3f}", f"{100 * (predicted / o.seconds - 1):+.0f}%")
    return table
