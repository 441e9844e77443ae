"""Takes rows in HLE's form (``id``, ``question``, ``answer``, ``answer_type``, ``image``) as questions.

HLE itself judges answers with a model. Here they are matched: exactly for choices, normalised for words, and within a
ten-thousandth for plain numbers; whoever reports figures of such rows has to say so.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from thunderctl import paths
from thunderctl.errors import WorkloadError
from thunderctl.workload.routing import ChoiceRule, NumberRule, RoutingTask, TextRule
from thunderctl.workload.rows import Rows, load_rows

RELATIVE = 1e-4
"""How far a plain number may be off."""
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")


def load_dataset(source: str | Path) -> Rows[RoutingTask]:
    """Questions from a file of rows, or from a name at Hugging Face. They run live, and bring no corpus."""
    return load_rows(str(source), task_of)


def task_of(row: dict[str, Any]) -> RoutingTask:
    """One row; ``WorkloadError`` says why it cannot be used."""
    missing = [name for name in ("id", "question", "answer", "answer_type") if row.get(name) in (None, "")]
    if missing:
        raise WorkloadError(f"wanted a row in HLE's form: {missing[0]} is missing")
    wrong = [name for name in ("id", "question", "answer_type") if not isinstance(row[name], str)]
    if wrong:
        raise WorkloadError(f"{wrong[0]} must be text")
    if row.get("image"):
        raise WorkloadError("the question has an image, and the models of this workload are sent text only")
    name = paths.safe_name(row["id"], "id")
    return RoutingTask(
        instance_id=name, title=name, domain=str(row.get("category") or ""), question=row["question"], rule=_rule(row)
    )


def _rule(row: dict[str, Any]) -> NumberRule | TextRule | ChoiceRule:
    answer = str(row["answer"]).strip()
    if row["answer_type"] == "multipleChoice":
        if not re.fullmatch("[A-Z]", answer):
            raise WorkloadError(f"answer {answer!r} of a multipleChoice row must be a capital letter")
        return ChoiceRule(kind="choice", letter=answer)
    if row["answer_type"] != "exactMatch":
        raise WorkloadError(f"answer_type {row['answer_type']!r} must be exactMatch or multipleChoice")
    if _NUMBER.fullmatch(answer):
        return NumberRule(kind="number", value=float(answer), absolute=0.0, relative=RELATIVE)
    return TextRule(kind="text", accept=[answer])
