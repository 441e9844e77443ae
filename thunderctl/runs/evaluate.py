"""Has a run's patches judged by the ``swebench`` package, and writes what it says into the run.

The package runs in a process of its own, by any Python that has it, on the rows that the run worked on and on its
``preds.json``. The containers are the package's: they have its names, not our limits, and are gone when it ends. Logs
stay in the run's folder, under ``evaluation/``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import DockerException, NotFound

from thunderctl.environments.docker import connect
from thunderctl.errors import EnvironmentFailure, PreflightError, ThunderError, UsageError
from thunderctl.runs.store import RunFolder
from thunderctl.workload.coding import load_dataset
from thunderctl.workload.rows import read_rows

COLUMNS = ("repo", "version", "eval_script", "log_parser", "eval_type")
"""What ``swebench`` takes from a row since its version 5; the official data sets have them. Before that it knew the
repositories itself."""
STOP_S = 60.0
"""How long it gets to remove its containers when it is interrupted."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Harness:
    """An installed ``swebench``."""

    python: Path
    version: str

    @property
    def name(self) -> str:
        return f"swebench {self.version}"

    @property
    def wants_columns(self) -> bool:
        return int(self.version.split(".")[0]) >= 5


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of it, by instance."""

    by: str
    resolved: list[str]
    unresolved: list[str]
    not_evaluated: dict[str, str]
    """Why not."""

    def as_dict(self) -> dict[str, Any]:
        """As the run's manifest tells it."""
        return {
            "by": self.by,
            "resolved": len(self.resolved),
            "unresolved": len(self.unresolved),
            "not_evaluated": self.not_evaluated,
        }


def find_harness(python: Path) -> Harness:
    """The ``swebench`` that ``python`` has; ``PreflightError`` if it has none."""
    asked = "import importlib.metadata as m; print(m.version('swebench'))"
    try:
        said = subprocess.run([python, "-c", asked], capture_output=True, text=True, timeout=60, check=False)
    except OSError as failure:
        raise PreflightError(f"{python} cannot be run: {failure.strerror}") from None
    if said.returncode:
        raise PreflightError(
            f"the official evaluation is done by swebench, which {python} does not have",
            hint="pip install 'thunderctl[swebench]', or name a Python that has it with --python",
        )
    return Harness(python, said.stdout.strip())


def evaluate(
    run: RunFolder, harness: Harness, *, dataset: str | None, workers: int, timeout_s: int, progress: Progress
) -> Evaluation:
    """Evaluate the run's patches and store the result. ``dataset``: where the rows are, if the run does not say."""
    predictions = _predictions(run)
    rows, left_out = rows_of(run, dataset, harness, predictions)
    folder = run.folder / "evaluation"
    resolved: list[str] = []
    unresolved: list[str] = []
    if rows:
        folder.mkdir(exist_ok=True)
        chosen = {row["instance_id"]: predictions[row["instance_id"]] for row in rows}
        name = f"{run.id}-{hashlib.sha256(json.dumps([rows, chosen]).encode()).hexdigest()[:8]}"
        (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
        (folder / "preds.json").write_text(json.dumps(chosen), encoding="utf-8")
        progress(f"{harness.name} evaluates {len(rows)} patches; its log is {folder / 'log.txt'}")
        report = _run(harness, folder, name, workers, timeout_s)
        resolved, unresolved = report["resolved_ids"], report["unresolved_ids"]
        logs = folder / "logs" / "run_evaluation" / name
        left_out |= {i: f"swebench could not evaluate it: see {logs}" for i in report["error_ids"]}
        left_out |= dict.fromkeys(report["empty_patch_ids"], "the patch is empty")
    found = Evaluation(harness.name, resolved, unresolved, left_out)
    _store(run, found, predictions)
    return found


def _predictions(run: RunFolder) -> dict[str, dict[str, str]]:
    try:
        found: dict[str, dict[str, str]] = run.read("preds.json")
    except FileNotFoundError:
        raise UsageError(f"run {run.id} has no patches: only coding workloads hand in some") from None
    if not found:
        raise UsageError(f"no agent of run {run.id} handed in a patch, so there is nothing to evaluate")
    return found


def rows_of(
    run: RunFolder, dataset: str | None, harness: Harness, predictions: dict[str, dict[str, str]]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The rows to evaluate as ``swebench`` reads them, and why others cannot be."""
    manifest = run.read("manifest.json")
    source = dataset or manifest.get("asked", {}).get("dataset")
    if source is None:
        known = manifest.get("dataset")
        raise UsageError(
            f"run {run.id} does not say where its rows are"
            if known
            else f"run {run.id} worked on bundled tasks: they have tests of their own, and swebench does not know them",
            hint=f"name them with --dataset: they were called {known}" if known else None,
        )
    images = {task.instance_id: task.image for task in load_dataset(source)}
    rows: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    for _where, fields, _problem in read_rows(source):
        name = fields.get("instance_id")
        if not isinstance(name, str) or name not in predictions or name not in images or name in rows:
            continue
        missing = [key for key in COLUMNS if harness.wants_columns and key not in fields]
        if missing:
            left_out[name] = f"{harness.name} wants the columns {', '.join(missing)}, and the row has none"
        else:
            rows[name] = {**fields, "image": images[name]}
    left_out |= {name: f"{source} has no such row" for name in predictions if name not in rows and name not in left_out}
    return list(rows.values()), left_out


def _run(harness: Harness, folder: Path, name: str, workers: int, timeout_s: int) -> dict[str, Any]:
    """The report that the harness writes for ``name``."""
    command = [
        str(harness.python), "-m", "swebench.harness.run_evaluation", "--dataset_name", "rows.json",
        "--predictions_path", "preds.json", "--max_workers", str(workers), "--timeout", str(timeout_s),
        "--run_id", name,
    ]  # fmt: skip
    with (folder / "log.txt").open("w", encoding="utf-8") as log, _containers_gone(name):
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            process.wait()
        finally:
            _end(process)
    written = list(folder.glob(f"*.{name}.json"))
    if process.returncode or not written:
        said = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        raise ThunderError(f"{harness.name} ended with {process.returncode} and no report", details=said[-10:])
    report: dict[str, Any] = json.loads(written[0].read_text(encoding="utf-8"))
    return report


def _end(process: subprocess.Popen[bytes]) -> None:
    for number, patience in ((signal.SIGINT, STOP_S), (signal.SIGKILL, None)):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


@contextlib.contextmanager
def _containers_gone(name: str) -> Iterator[None]:
    """Whatever way the harness ends, no container of this evaluation is left: its name ends in ``name``."""
    try:
        yield
    finally:
        with contextlib.suppress(EnvironmentFailure, DockerException), contextlib.closing(connect()) as client:
            for container in client.containers.list(all=True, filters={"name": name}):
                with contextlib.suppress(NotFound):
                    container.remove(force=True, v=True)


def _store(run: RunFolder, found: Evaluation, predictions: dict[str, dict[str, str]]) -> None:
    """Into the rollouts whose patch was evaluated, and into the manifest."""
    latest = {record["agent"]: record for record in run.lines("rollouts")}
    verdicts = {**dict.fromkeys(found.resolved, True), **dict.fromkeys(found.unresolved, False)}
    for record in latest.values():
        name = record.get("instance_id", "")
        if name in verdicts and record.get("submission") == predictions[name]["model_patch"]:
            run.append("rollouts", {**record, "resolved": verdicts[name], "judged_by": found.by})
    run.close()
    run.write("manifest.json", {**run.read("manifest.json"), "evaluation": {"at": time.time(), **found.as_dict()}})
