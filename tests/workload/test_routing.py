"""Bundled questions are what they claim to be, and routing workloads and HLE rows are read safely."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from thunderctl.agents.routing_matching import verdict
from thunderctl.errors import ProfileError, WorkloadError
from thunderctl.profile import RoleModelSpec
from thunderctl.profile_files import load_profile
from thunderctl.workload.files import read_section
from thunderctl.workload.load import find_workload
from thunderctl.workload.routing import (
    ChoiceRule,
    NumberRule,
    RoutingTask,
    RoutingWorkload,
    TextRule,
    equipped,
    load_task,
)
from thunderctl.workload.routing_rows import load_dataset

FOLDER = find_workload("hle-routing")
WORKLOAD = read_section(RoutingWorkload, FOLDER / "workload.yaml")
TASKS = [load_task(path) for path in sorted((FOLDER / "tasks").iterdir())]


def test_at_least_thirty_questions_of_many_fields_stand_over_a_corpus() -> None:
    assert len(TASKS) >= 30 and len({t.domain for t in TASKS}) >= 12
    assert len({t.question for t in TASKS}) == len(TASKS)
    passages = [json.loads(line) for line in (FOLDER / "corpus.jsonl").read_text().splitlines()]
    assert 150 <= len(passages) <= 300 and len({p["text"] for p in passages}) == len(passages)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.instance_id)
def test_the_gold_answer_passes_and_no_answer_or_another_one_fails(task: RoutingTask) -> None:
    assert task.gold is not None
    gold = task.gold.read_text()
    assert verdict(task.rule, gold)[0]
    other = next(t for t in TASKS if t.gold is not None and t.gold.read_text() != gold)
    assert other.gold is not None
    for wrong in ("", "unknown", f"{gold.strip()}, 17", f"not {gold}", other.gold.read_text()):
        assert not verdict(task.rule, wrong)[0], wrong


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.instance_id)
def test_a_recorded_trajectory_has_three_to_twelve_rounds_and_says_who_spoke(task: RoutingTask) -> None:
    assert task.trajectory is not None and 3 <= len(task.trajectory) / 2 <= 12
    roles = [step.role for step in task.trajectory]
    assert set(roles[::2]) == {"orchestrator"} and set(roles[1::2]) <= set(WORKLOAD.roles) - {"orchestrator"}
    assert WORKLOAD.roles[str(roles[-1])].part == "answer"
    assert task.question not in "".join(step.content for step in task.trajectory)


def test_no_passage_holds_an_answer_to_a_computed_question() -> None:
    corpus = (FOLDER / "corpus.jsonl").read_text()
    numbers = [t for t in TASKS if isinstance(t.rule, NumberRule) and t.rule.value > 100]
    assert numbers and all(f" {t.rule.value:g} " not in corpus for t in numbers if isinstance(t.rule, NumberRule))


def changed(tmp_path: Path, old: str, new: str) -> Path:
    file = tmp_path / "workload.yaml"
    text = (FOLDER / "workload.yaml").read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    return file


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("part: orchestrate", "part: answer", "exactly one with part orchestrate"),
        ("part: search", "part: dig", "roles.searcher.part"),
        ("tool_latency: none", "tool_latency: slow", "tool_latency"),
        ("tool_latency: none", "models: {}", "models is a section of the profile"),
        ("rounds: 50", "round: 50", "limits.round"),
    ],
)
def test_a_workload_that_cannot_work_is_refused(old: str, new: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=reason):
        read_section(RoutingWorkload, changed(tmp_path, old, new))


def test_a_task_with_an_unknown_rule_is_refused_by_its_key(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER / "tasks" / "chem-lime-0402", tmp_path / "chem-lime-0402"))
    meta = folder / "task.yaml"
    meta.write_text(meta.read_text().replace("kind: number", "kind: numbr"))
    with pytest.raises(WorkloadError, match=r"task\.yaml: answer"):
        load_task(folder)
    assert load_task(FOLDER / "tasks" / "chem-lime-0402").corpus == FOLDER / "corpus.jsonl"


def test_models_of_the_profile_fill_the_roles_and_an_unknown_role_is_refused() -> None:
    spec = RoleModelSpec(base_url="https://models.example/v1", model="big")
    filled = equipped(WORKLOAD, {"expert": spec}, tool_latency="fast", seed=5)
    assert (filled.models["expert"], filled.tool_latency, filled.latency_seed) == (spec, "fast", 5)
    assert WORKLOAD.models == {}
    live = filled.about("live")
    assert live["roles"]["expert"] == "big at https://models.example/v1" and live["tool_latency"] == "fast"
    assert live["roles"]["coder"] == "this cluster"
    assert set(filled.about("replay")["roles"].values()) == {"this cluster, forced to replay"}
    with pytest.raises(WorkloadError, match="models.expart") as caught:
        equipped(WORKLOAD, {"expart": spec})
    assert "'expert'" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (["model=big"], "models.expert.base_url and models.expert.model go together"),
        (["base_url=https://h.example/v1"], "go together"),
        (["model=big", "base_url=ftp://h.example"], "must be like https"),
        (["model=big", "base_url=https://me:pw@h.example/v1"], "without a user or a password"),
        (["model=big", "base_url=http://h.example/v1", "api_key_env=K"], "must be https where a key"),
        (["api_key_env=K"], "only for a role that has a base_url"),
        (["input_usd_per_mtok=-1"], "models.expert.input_usd_per_mtok"),
        (["prise=1"], "unknown key"),
    ],
)
def test_a_role_that_the_profile_says_wrongly_is_refused(said: list[str], reason: str) -> None:
    with pytest.raises(ProfileError, match=reason):
        load_profile("laptop", [f"models.expert.{each}" for each in said])


def test_a_role_of_the_profile_has_its_place_in_the_sources() -> None:
    said = ["models.expert.model=big", "models.expert.base_url=http://127.0.0.1:9/v1", "models.expert.api_key_env=K"]
    resolved = load_profile("laptop", said)
    assert resolved.profile.models["expert"].model == "big"
    assert resolved.sources["models.expert.model"] == "-c"
    assert resolved.sources["models.expert.concurrency"] == "default"


# --- rows of the user's own -------------------------------------------------------------------------------------

ROW = {
    "id": "q1",
    "question": "Why?",
    "answer": "Because",
    "answer_type": "exactMatch",
    "image": "",
    "category": "A",
}


def rows(tmp_path: Path, *said: dict[str, object]) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({**ROW, **more}) + "\n" for more in said))
    return file


def test_rows_in_hle_form_become_questions_with_rules(tmp_path: Path) -> None:
    choice = {"id": "q2", "answer": "C", "answer_type": "multipleChoice"}
    found = load_dataset(rows(tmp_path, {}, choice, {"id": "q3", "answer": "-2.50"}))
    assert [type(task.rule) for task in found] == [TextRule, ChoiceRule, NumberRule]
    assert (found[0].question, found[0].domain, found[0].corpus, found[0].trajectory) == ("Why?", "A", None, None)
    assert all(task.can_be_judged for task in found)
    assert verdict(found[2].rule, "-2.5")[0] and not verdict(found[2].rule, "2.5")[0]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"image": "data:image/png;base64,AA"}, "has an image"),
        ({"answer": ""}, "answer is missing"),
        ({"question": 7}, "question must be text"),
        ({"id": "../x"}, "cannot be used as a name"),
        ({"answer_type": "essay"}, "exactMatch or multipleChoice"),
        ({"answer_type": "multipleChoice", "answer": "first"}, "capital letter"),
    ],
)
def test_a_row_that_cannot_be_asked_is_refused_and_the_others_stay(
    more: dict[str, object], reason: str, tmp_path: Path
) -> None:
    found = load_dataset(rows(tmp_path, {}, {"id": "q2", **more}))
    assert [task.instance_id for task in found] == ["q1"]
    assert len(found.refused) == 1 and reason in found.refused[0].reason and "line 2" in found.refused[0].where
