"""Science workloads: write one Python program that turns data into a result file.

Tasks are bundled, or rows in ScienceAgentBench's form beside that benchmark's own folder. What judges a program stands
in the task: a check script (bundled), or the benchmark's evaluation script. Nothing here runs one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from thunderctl import paths
from thunderctl.errors import UsageError, WorkloadError
from thunderctl.workload.base import (
    Conversation,
    ConversationPrompts,
    LoopLimits,
    Task,
    TaskFile,
    common_parts,
    read_task_file,
)
from thunderctl.workload.files import explain, folder_inside
from thunderctl.workload.rows import READERS, Rows, load_rows

CHECK = "check.py"
"""In a bundled task's folder ``hidden``: prints one line of JSON, a name and true or false for each thing it checks."""
PREVIEW_LINES = 4
PREVIEW_CHARS = 900
"""Of one file, at most; a preview shows text files only."""
NEEDS_A_MODEL = "gpt4_visual_judge"
"""Evaluation scripts of the benchmark that import this ask a model on the network about a figure."""


class Prompts(ConversationPrompts):
    """Of the task ``instance`` tells ``{{task}}``, ``{{domain_knowledge}}``, ``{{dataset_folder_tree}}``,
    ``{{dataset_preview}}`` and ``{{output_fname}}``."""

    no_program: str
    """After a submission without a program."""


class ScienceLimits(LoopLimits):
    """When an agent has to stop."""

    action_s: float = Field(300, gt=0)
    """Longest run of one action, whatever the profile allows a command: fits and figures take their time."""
    program_s: float = Field(300, gt=0)
    """Longest run of the submitted program, and of its check, when it is judged."""


class ScienceWorkload(Conversation):
    """``workload.yaml`` of kind ``science``."""

    prompts: Prompts
    limits: ScienceLimits = ScienceLimits()  # type: ignore[call-arg]


def _stays_inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"{name!r} is no path below the working directory")
    return name


class ScienceTaskFile(TaskFile):
    """``task.yaml`` of a bundled task, in the shape of ScienceAgentBench's fields."""

    task_inst: str
    domain_knowledge: str
    output_fname: str
    """The result file, below the working directory."""

    _inside = field_validator("output_fname")(_stays_inside)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScienceTask(Task):
    """Data, what is wanted of them, and what tells whether the result is right."""

    task_inst: str
    domain_knowledge: str
    dataset_folder_tree: str
    dataset_preview: str
    output_fname: str
    dataset: str = ""
    """Of a row: the folder below ``benchmark/datasets`` in which its program expects ``files``."""
    evaluation: Path | None = None
    """Of a row: its evaluation script …"""
    evaluation_files: tuple[Path, ...] = ()
    """… and what that reads, all below the benchmark's folder ``eval_programs``."""

    @property
    def can_be_judged(self) -> bool:
        return self.folder is not None or self.evaluation is not None


def load_task(folder: Path) -> ScienceTask:
    """A bundled task: ``task.yaml``, ``files/``, ``hidden/check.py``, ``gold.py``, ``trajectory.jsonl``."""
    meta = read_task_file(ScienceTaskFile, folder)
    parts = common_parts(folder, meta, "files")
    for name in ("files", "hidden"):
        if parts[name] is None:
            raise WorkloadError(f"{folder}: the folder {name}/ is missing")
    if not (parts["hidden"] / CHECK).is_file():
        raise WorkloadError(
            f"{folder}: hidden/{CHECK} is missing", hint="it prints what it checked as one line of JSON"
        )
    gold = folder / "gold.py"
    return ScienceTask(
        **parts,
        gold=gold if gold.is_file() else None,
        task_inst=meta.task_inst,
        domain_knowledge=meta.domain_knowledge,
        output_fname=meta.output_fname,
        dataset_folder_tree=folder_tree(parts["files"]),
        dataset_preview=preview(parts["files"]),
    )


def folder_tree(root: Path) -> str:
    """Every file and folder below ``root``, one a line, indented by depth; sizes in bytes."""
    lines = []
    for path in sorted(root.rglob("*")):
        depth = len(path.relative_to(root).parts) - 1
        size = f" ({path.stat().st_size:,} bytes)" if path.is_file() else "/"
        lines.append(f"{'  ' * depth}{path.name}{size}")
    return "\n".join(lines)


def preview(root: Path) -> str:
    """The first lines of every text file below ``root``."""
    parts = []
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            head = file.read(4 * PREVIEW_CHARS)
        if b"\0" in head:
            continue
        lines = head.decode(errors="replace")[:PREVIEW_CHARS].splitlines()
        shown = "\n".join(lines[:PREVIEW_LINES]) + ("\n..." if len(lines) > PREVIEW_LINES else "")
        parts.append(f"[{path.relative_to(root)}]\n{shown}")
    return "\n\n".join(parts)


# ---------------------------------------------------------------------- ScienceAgentBench


class BenchmarkRow(BaseModel):
    """What is used of a row of the annotation sheet; other columns may be there."""

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)

    instance_id: str
    task_inst: str = Field(min_length=1)
    domain: str = ""
    domain_knowledge: str = ""
    dataset_path: str = ""
    """Where its data lie; without it the first line of ``dataset_folder_tree`` says it."""
    dataset_folder_tree: str = Field(min_length=1)
    dataset_preview: str = ""
    output_fname: str = Field(min_length=1)
    gold_program_name: str = ""
    eval_script_name: str = Field(min_length=1)

    _inside = field_validator("output_fname")(_stays_inside)


def load_dataset(source: str | Path) -> Rows[ScienceTask]:
    """Rows of ScienceAgentBench's annotation sheet, with data and scripts from the benchmark's folder beside it.

    ``source`` is the sheet (CSV, JSON, JSON lines, Parquet), or a folder that holds one. The benchmark's folder has
    ``datasets``, ``eval_programs`` and ``gold_programs``; it is called ``benchmark``, or the sheet lies in it.
    """
    sheet = _sheet(Path(source).expanduser())
    benchmark = _benchmark(sheet)

    def task_of(fields: dict[str, Any]) -> ScienceTask:
        try:
            row = BenchmarkRow.model_validate(fields)
        except ValidationError as error:
            raise WorkloadError(explain(error)) from None
        dataset = _dataset_name(row)
        script = _script(benchmark, "eval_programs", row.eval_script_name, "eval_script_name")
        gold = benchmark / "gold_programs" / _file_name(row.gold_program_name, "gold_program_name")
        text = script.read_text(encoding="utf-8", errors="replace")
        files = folder_inside(benchmark / "datasets", dataset)
        if files is None:
            raise WorkloadError(f"dataset_folder_tree: there is no folder {benchmark / 'datasets' / dataset}")
        return ScienceTask(
            instance_id=paths.safe_name(row.instance_id, "instance_id"),
            domain=row.domain,
            files=files,
            gold=gold if row.gold_program_name and gold.is_file() else None,
            task_inst=row.task_inst,
            domain_knowledge=row.domain_knowledge,
            output_fname=row.output_fname,
            dataset_folder_tree=row.dataset_folder_tree,
            dataset_preview=row.dataset_preview,
            dataset=dataset,
            evaluation=None if NEEDS_A_MODEL in text else script,
            evaluation_files=_read_by(benchmark / "eval_programs", script, text),
        )

    return load_rows(str(sheet), task_of)


def _sheet(source: Path) -> Path:
    if not source.is_dir():
        return source
    found = sorted(path for path in source.iterdir() if path.is_file() and path.suffix.lower() in READERS)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise WorkloadError(
            f"{source} has to hold one annotation sheet; there are: {names}",
            hint=f"name the sheet itself: a file that ends in {', '.join(READERS)}",
        )
    return found[0]


def _benchmark(sheet: Path) -> Path:
    for folder in (sheet.parent / "benchmark", sheet.parent):
        if (folder / "datasets").is_dir() and (folder / "eval_programs").is_dir():
            return folder.resolve()
    raise WorkloadError(
        f"there is no benchmark folder beside {sheet}",
        hint="it is called benchmark and holds datasets, eval_programs and gold_programs; "
        "ScienceAgentBench hands it out as an archive with a password",
    )


def _dataset_name(row: BenchmarkRow) -> str:
    said = row.dataset_path or row.dataset_folder_tree.splitlines()[0]
    name = said.strip().lstrip("|-─├└ ").rstrip("/").removeprefix("benchmark/datasets/")
    try:
        return paths.safe_name(name, "the data's folder")
    except UsageError as error:
        raise WorkloadError(f"dataset_folder_tree: {error.message}") from None


def _file_name(name: str, column: str) -> str:
    if PurePosixPath(name).name != name:
        raise WorkloadError(f"{column}: {name!r} is no file name")
    return name


def _script(benchmark: Path, folder: str, name: str, column: str) -> Path:
    path = benchmark / folder / _file_name(name, column)
    if not path.is_file() or not path.resolve().is_relative_to(benchmark):
        raise WorkloadError(f"{column}: there is no file {path}")
    return path


def _read_by(folder: Path, script: Path, text: str) -> tuple[Path, ...]:
    """The reference results that an evaluation script names, and the modules beside it that it may import."""
    gold = folder / "gold_results"
    results = sorted(path for path in gold.rglob("*") if path.is_file() and path.name in text) if gold.is_dir() else []
    modules = sorted(path for path in folder.glob("*.py") if path != script and path.stem in text)
    return tuple(path for path in (*modules, *results) if path.resolve().is_relative_to(folder))
