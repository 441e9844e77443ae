"""The bundled science tasks are well-formed, and rows of ScienceAgentBench are read beside the benchmark's folder."""

from __future__ import annotations

import ast
import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from thunderctl import paths
from thunderctl.agents.science import actions_of
from thunderctl.errors import WorkloadError
from thunderctl.workload.files import read_section
from thunderctl.workload.science import ScienceTask, ScienceWorkload, load_dataset, load_task

FOLDER = paths.bundled_workloads() / "scienceagent"
TASKS = [load_task(folder) for folder in sorted((FOLDER / "tasks").iterdir())]
by_name = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.instance_id)


def test_twelve_tasks_of_as_many_fields_are_bundled_in_less_than_a_megabyte() -> None:
    assert read_section(ScienceWorkload, FOLDER / "workload.yaml").kind == "science"
    assert len({task.domain for task in TASKS}) == len(TASKS) == 12
    assert {task.difficulty for task in TASKS} == {"easy", "medium", "hard"}
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 1_000_000


@by_name
def test_every_recorded_answer_holds_one_action_and_only_the_last_one_submits(task: ScienceTask) -> None:
    assert task.trajectory is not None and 5 <= len(task.trajectory) <= 15
    actions = [actions_of(step.content) for step in task.trajectory]
    assert [len(found) for found in actions] == [1] * len(actions)
    tools = [found[0].tool for found in actions]
    assert "program" in tools and [n for n, tool in enumerate(tools) if tool == "submit"] == [len(tools) - 1]


@by_name
def test_every_trajectory_meets_an_error_and_repairs_it(task: ScienceTask) -> None:
    assert task.trajectory is not None
    codes = [step.observation.returncode for step in task.trajectory if step.observation is not None]
    assert len(codes) == len(task.trajectory) - 1
    assert any(codes) and codes[-1] == 0


@by_name
def test_no_task_comes_with_its_result_or_shows_its_check(task: ScienceTask) -> None:
    assert task.files is not None and task.hidden is not None and task.gold is not None
    assert not (task.files / task.output_fname).exists()
    shown = {path.name for path in task.files.rglob("*")}
    assert shown.isdisjoint({"check.py", "truth.csv", "truth.json", "generate.py", "gold.py"})
    for script in (task.gold, task.hidden / "check.py"):
        ast.parse(script.read_text())
    for line in task.dataset_preview.splitlines():
        assert len(line) < 300


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: (t / "hidden" / "check.py").unlink(), "check.py is missing"),
        (lambda t: shutil.rmtree(t / "files"), "files/ is missing"),
        (lambda t: _rewrite(t, "output_fname: ", "output_fname: ../"), "no path below"),
        (lambda t: _rewrite(t, "output_fname: ", "output_fname: /"), "no path below"),
        (lambda t: _rewrite(t, "task_inst: |", "task_instruction: |"), "task.yaml"),
        (lambda t: (t / "files" / "data" / "out").symlink_to("/etc/hostname"), "leaves its task folder"),
    ],
)
def test_a_task_folder_that_cannot_be_used_is_refused(
    change: Callable[[Path], object], told: str, tmp_path: Path
) -> None:  # fmt: skip
    name = TASKS[0].instance_id
    folder = Path(shutil.copytree(FOLDER / "tasks" / name, tmp_path / name))
    change(folder)
    with pytest.raises(WorkloadError, match=told):
        load_task(folder)


def _rewrite(folder: Path, old: str, new: str) -> None:
    file = folder / "task.yaml"
    file.write_text(file.read_text().replace(old, new))


# ---------------------------------------------------------------------- ScienceAgentBench's form


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """A folder in the benchmark's form, with two data sets of ours; the sheet goes beside it."""
    root = tmp_path / "benchmark"
    for name in ("iris_like", "waves"):
        (root / "datasets" / name).mkdir(parents=True)
        (root / "datasets" / name / "table.csv").write_text("a,b\n1,2\n")
    (root / "eval_programs" / "gold_results").mkdir(parents=True)
    (root / "eval_programs" / "gold_results" / "means_gold.csv").write_text("mean\n1\n")
    (root / "eval_programs" / "gold_results" / "other.csv").write_text("mean\n7\n")
    (root / "eval_programs" / "means_eval.py").write_text("def eval():\n    return open('means_gold.csv'), ''\n")
    (root / "eval_programs" / "figure_eval.py").write_text("from gpt4_visual_judge import score_figure\n")
    (root / "gold_programs").mkdir()
    (root / "gold_programs" / "means.py").write_text("print()\n")
    return root


def row(number: int, **change: object) -> dict[str, object]:
    made: dict[str, object] = {
        "instance_id": number,
        "domain": "Statistics",
        "task_inst": "Compute the means.",
        "domain_knowledge": "",
        "dataset_folder_tree": "|-- iris_like/\n|---- table.csv",
        "dataset_preview": "[START Preview of table.csv]",
        "output_fname": "pred_results/means.csv",
        "gold_program_name": "means.py",
        "eval_script_name": "means_eval.py",
    }
    return made | change


def test_rows_find_their_data_script_and_reference_results(benchmark: Path) -> None:
    sheet = benchmark.parent / "ScienceAgentBench.csv"
    with sheet.open("w", newline="") as file:
        writer = csv.DictWriter(file, row(1))
        writer.writeheader()
        writer.writerows([row(1), row(2, dataset_folder_tree="|-- waves/", eval_script_name="figure_eval.py")])
    means, figure = load_dataset(benchmark.parent)
    assert (means.instance_id, means.dataset, means.domain) == ("1", "iris_like", "Statistics")
    assert means.files == benchmark / "datasets" / "iris_like" and means.gold is not None
    assert means.evaluation is not None and means.can_be_judged
    assert [path.name for path in means.evaluation_files] == ["means_gold.csv"]
    # A figure that a model on the network judges is not judged here, and not called wrong either.
    assert figure.dataset == "waves" and not figure.can_be_judged


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"task_inst": ""}, "task_inst: "),
        ({"eval_script_name": "nobody.py"}, "eval_script_name: there is no file"),
        ({"eval_script_name": "../datasets/x.py"}, "eval_script_name: '../datasets/x.py' is no file name"),
        ({"dataset_folder_tree": "|-- absent/"}, "dataset_folder_tree: there is no folder"),
        ({"dataset_folder_tree": "|-- ../../etc/"}, "dataset_folder_tree: "),
        ({"output_fname": "/etc/passwd"}, "output_fname: "),
        ({"instance_id": "../x"}, "instance_id"),
        ({"instance_id": 1}, "the same instance_id"),
    ],
)
def test_a_row_that_cannot_be_used_is_told_and_the_others_are_read(
    change: dict[str, object], told: str, benchmark: Path
) -> None:  # fmt: skip
    sheet = benchmark / "sheet.jsonl"
    sheet.write_text("".join(json.dumps(r) + "\n" for r in (row(1), row(2, **change), row(3))))
    found = load_dataset(sheet)
    assert [task.instance_id for task in found] == ["1", "3"]
    assert [refused.where for refused in found.refused] == ["sheet.jsonl line 2"] and told in found.refused[0].reason


def test_a_sheet_without_the_benchmarks_folder_says_where_that_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "sheet.jsonl").write_text(json.dumps(row(1)) + "\n")
    with pytest.raises(WorkloadError, match="no benchmark folder beside") as caught:
        load_dataset(tmp_path / "sheet.jsonl")
    assert "datasets, eval_programs" in str(caught.value.hint)
    with pytest.raises(WorkloadError, match="has to hold one annotation sheet; there are: none"):
        (tmp_path / "empty").mkdir()
        load_dataset(tmp_path / "empty")
