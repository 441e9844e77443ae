"""A run is a folder. Every figure of a report can be computed again from it, and from nothing else.

    manifest.json        what was asked for, versions, kind, policy, host (schema below)
    profile.json         the resolved profile and where each value came from
    rollouts.jsonl       one line an agent, written when it ends (and once more when its patch was judged)
    steps.jsonl          one line a step, with its text
    decisions.jsonl      what the scheduler decided
    samples.jsonl        the engines' own metrics and the ledger, every two seconds
    driver.jsonl         how far the driver lagged, what it cost, how soon the daemon answered, sampled
    superseded.jsonl     after --resume: rollouts and steps that were done again
    samples-N.jsonl      after --resume: samples of sitting N; engines' counters begin anew with a node
    groups.jsonl         of a roll-out: one line a complete group (``rollouts/figures.py``); its tokens are elsewhere
    evaluation/          what the official evaluation of patches said
    disk.jsonl           disk used by environments, sampled
    preds.json           patches in the form that SWE-bench's evaluation takes
    summary.json         the report's figures; computed from the files above
    report.html          the report as a page

Lines are appended whole; a torn last line (a kill in the middle of a write) is left out when reading. Whole files are
written beside and renamed.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from thunderctl import paths
from thunderctl.errors import UsageError

SCHEMA = 1
"""Version of the folder's layout; a reader refuses what is newer."""


def new_run_id(workload: str) -> str:
    """A name that sorts by time."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{workload}-{secrets.token_hex(2)}"


def write_whole(path: Path, text: str) -> None:
    """Write so that a reader finds the old file or the new one, never half of it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


class RunFolder:
    """Reads and writes one run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, TextIO] = {}

    @classmethod
    def create(cls, run_id: str) -> RunFolder:
        folder = paths.runs() / paths.safe_name(run_id, "run")
        folder.mkdir(parents=True)
        return cls(folder)

    @property
    def id(self) -> str:
        return self.folder.name

    def append(self, name: str, record: dict[str, Any]) -> None:
        """One line to ``name``.jsonl, handed to the system at once."""
        file = self._open.get(name)
        if file is None:
            file = self._open[name] = (self.folder / f"{name}.jsonl").open("a", encoding="utf-8", buffering=1)
        file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")

    def write(self, name: str, value: Any) -> None:
        write_whole(self.folder / name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def read(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """Records of ``name``.jsonl; none if there is no such file. A torn last line is left out."""
        path = self.folder / f"{name}.jsonl"
        if not path.exists():
            return
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if not line.endswith("\n"):
                    return
                yield json.loads(line)

    def close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()


def find_run(name: str | None) -> RunFolder:
    """The run called ``name``, or the latest; ``UsageError`` if there is none. A path to a run's folder will do too."""
    if name and ("/" in name):
        folder = Path(name).expanduser()
    elif name:
        folder = paths.runs() / paths.safe_name(name, "run")
    else:
        known = sorted(p.parent for p in paths.runs().glob("*/manifest.json"))
        if not known:
            raise UsageError("there is no stored run yet", hint="make one: thunderctl run swebench --agents 8")
        folder = known[-1]
    if not (folder / "manifest.json").is_file():
        known_names = sorted(p.parent.name for p in paths.runs().glob("*/manifest.json"))[-5:]
        raise UsageError(f"there is no run {name!r}", hint=f"the latest ones: {', '.join(known_names) or 'none'}")
    run = RunFolder(folder)
    schema = run.read("manifest.json").get("schema", 0)
    if schema > SCHEMA:
        raise UsageError(f"run {run.id} was stored by a newer thunderctl (layout {schema}, this one reads {SCHEMA})")
    return run
