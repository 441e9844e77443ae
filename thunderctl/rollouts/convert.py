"""Groups in the shapes that trainers take: slime, SkyRL, verl, TRL. Plain lists and dicts; no trainer is imported.

One row is one segment: its prompt is all before the first token of the model, its response all from there on, tools'
output included, with a loss mask of the response's length. Segments of a sample share its reward and its group. The
shapes were read in the trainers' sources, which each function names; trainers change, and then these have to.

What every trainer has to know:

- A sample that failed, was cut off, or whose judging failed says nothing about the model. It is left out, or, with
  ``failed="mask"``, kept with a loss mask of zeros and the reward 0, so that groups keep their size.
- A segment without a token of the model is left out: there is nothing in it to train on.
- Advantages are the trainer's business. A group whose samples were left out is smaller than the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from thunderctl.errors import UsageError
from thunderctl.rollouts.schema import Group, Sample, Segment

Failed = Literal["drop", "mask"]


@dataclass(frozen=True, slots=True)
class Row:
    """One segment of a sample, as trainers see it."""

    group: Group
    number: int
    """Which of the given groups it is of, from 0."""
    sample: Sample
    segment: Segment
    place: int
    """Which segment of the sample it is, from 0."""
    last: bool
    """Whether it is the last one of its sample's rows."""
    split: int
    """Where the prompt ends and the response begins."""
    reward: float
    masked: bool
    """Whether nothing of it may be trained on."""

    @property
    def prompt(self) -> list[int]:
        return self.segment.ids[: self.split]

    @property
    def response(self) -> list[int]:
        return self.segment.ids[self.split :]

    @property
    def loss_mask(self) -> list[int]:
        """Of the response: 1 where the model made the token."""
        mask = self.segment.mask[self.split :]
        return [0] * len(mask) if self.masked else mask

    @property
    def logprobs(self) -> list[float] | None:
        """Of the response; 0.0 where a tool made the token."""
        given = self.segment.logprobs
        return None if given is None else given[self.split :]

    @property
    def reward_at(self) -> int:
        """Place in the response of the model's last token."""
        mask = self.segment.mask
        return len(mask) - 1 - mask[::-1].index(1) - self.split

    @property
    def token_rewards(self) -> list[float]:
        """0.0 everywhere but at the model's last token.

        Not at the response's last one: what a tool said after it is masked, and a trainer that discounts along the
        mask would never see the reward there.
        """
        found = [0.0] * len(self.response)
        found[self.reward_at] = self.reward
        return found

    @property
    def weight_versions(self) -> list[int]:
        """Those that made its tokens, from the oldest."""
        return sorted({by for by, mask in zip(self.segment.versions, self.segment.mask, strict=True) if mask})

    @property
    def about(self) -> dict[str, Any]:
        """Where it comes from, for people."""
        sample = self.sample
        return {
            "group": sample.group, "task": sample.task, "sample": sample.index, "attempt": sample.attempt,
            "segment": self.place, "segments": len(sample.segments), "steps": sample.steps, "ended": sample.status,
            "program": sample.program,
        }  # fmt: skip


def is_to_be_judged(sample: Sample) -> bool:
    """Whether it handed something in, or is a trace's, which nobody can judge."""
    return sample.status in ("submitted", "finished") and not sample.error


def rows_of(groups: Iterable[Group], *, failed: Failed = "drop", unjudged: float = 0.0) -> list[Row]:
    """The rows of groups in order: those of a sample next to each other, and of a group.

    ``unjudged``: reward of a sample that ended by itself with nothing to judge (out of steps, no usable answer).
    ``UsageError`` if samples handed something in, and none of them was judged: then every reward would be made up.
    """
    given = list(groups)
    every = [sample for group in given for sample in group.samples]
    if any(is_to_be_judged(sample) for sample in every) and not any(sample.reward is not None for sample in every):
        raise UsageError(
            "none of these samples has a reward, so there is nothing to learn from",
            hint="take a workload that is judged, without --no-judge; or set each sample's reward yourself",
        )
    rows = []
    for number, group in enumerate(given):
        for sample in group.samples:
            reward = reward_of(sample, unjudged)
            if reward is None and failed == "drop":
                continue
            useful = [(place, segment) for place, segment in enumerate(sample.segments) if 1 in segment.mask]
            for place, segment in useful:
                last, split = place == useful[-1][0], segment.mask.index(1)
                rows.append(
                    Row(group, number, sample, segment, place, last, split, reward or 0.0, masked=reward is None)
                )
    return rows


def reward_of(sample: Sample, unjudged: float = 0.0) -> float | None:
    """What a sample is worth; ``None`` if that says nothing about the model."""
    if sample.status == "failed":
        return None
    if sample.reward is not None:
        return sample.reward
    return unjudged if sample.status in ("step limit", "context full", "format errors", "trajectory ended") else None


def _logprobs(rows: Sequence[Row], trainer: str, *, needed: bool) -> list[list[float]] | None:
    """Of each row's response; ``None`` if no row has any and they are not ``needed``."""
    lacking = [row for row in rows if row.logprobs is None]
    if not lacking:
        return [row.logprobs or [] for row in rows]
    if len(lacking) == len(rows) and not needed:
        return None
    first = lacking[0].about
    raise UsageError(
        f"{trainer} wants log-probabilities, and {len(lacking)} of {len(rows)} rows have none "
        f"(the first: group {first['group']}, sample {first['sample']}, segment {first['segment']})",
        hint="an emulated engine computes none: roll out on a real one, or go without (logprobs=False) where the "
        "trainer computes its own",
    )


# ---------------------------------------------------------------------- slime

SLIME_STATUS = {
    "submitted": "completed", "finished": "completed", "trajectory ended": "completed", "format errors": "completed",
    "step limit": "truncated", "context full": "truncated", "cut off": "aborted", "failed": "failed",
}  # fmt: skip
"""Values of ``Sample.Status``."""


def to_slime(
    groups: Iterable[Group], *, failed: Failed = "drop", unjudged: float = 0.0, logprobs: bool = False
) -> list[list[dict[str, Any]]]:
    """For slime: one list a group, of dicts that its ``Sample.from_dict`` takes.

    Shape: THUDM/slime, ``slime/utils/types.py`` (``Sample``), and how ``slime/ray/rollout.py`` (``RolloutManager``)
    makes training data of it: ``tokens`` is prompt and response, ``loss_mask`` and ``rollout_log_probs`` are of
    ``response_length``; a sample with ``remove_sample`` is trained on with a loss mask of zeros.

    ``logprobs``: an error if there are none; slime wants them for off-policy correction only. Several segments of a
    sample are several dicts with one ``group_index``; ``metadata`` tells them apart. Where groups are not all of one
    size slime normalises rewards over the whole batch: then give it a ``--custom-reward-post-process-path`` that goes
    by ``group_index``.
    """
    rows = rows_of(groups, failed=failed, unjudged=unjudged)
    given = _logprobs(rows, "slime", needed=logprobs)
    found: dict[int, list[dict[str, Any]]] = {}
    for index, row in enumerate(rows):
        found.setdefault(row.number, []).append(
            {
                "group_index": row.number,
                "index": index,
                "prompt": "",
                "tokens": list(row.segment.ids),
                "response": "",
                "response_length": len(row.response),
                "reward": row.reward,
                "loss_mask": row.loss_mask,
                "weight_versions": [str(version) for version in row.weight_versions],
                "rollout_log_probs": None if given is None else given[index],
                "remove_sample": row.masked,
                "status": SLIME_STATUS[row.sample.status],
                "metadata": row.about,
                "session_id": row.sample.program,
            }
        )
    return list(found.values())


# ---------------------------------------------------------------------- SkyRL


def to_skyrl(
    groups: Iterable[Group], *, failed: Failed = "drop", unjudged: float = 0.0, logprobs: bool = False
) -> dict[str, Any]:
    """For SkyRL: a ``GeneratorOutput``.

    Shape: NovaSky-AI/SkyRL, ``skyrl/train/generators/base.py`` (``GeneratorOutput``, ``TrajectoryID``) and what
    ``skyrl/train/utils/trainer_utils.py`` (``validate_generator_output``) wants of it. Rewards are one a token, at the
    model's last token of each row. ``trajectory_ids`` are plain dicts of ``TrajectoryID``'s fields; a group's name is
    the ``instance_id``, by which SkyRL groups.

    ``logprobs``: an error if there are none; SkyRL wants them for off-policy correction only. With more rows than
    samples (``is_last_step`` is not true everywhere) SkyRL has to train step-wise: rows of a sample are adjacent, and
    its advantage comes from the last.
    """
    rows = rows_of(groups, failed=failed, unjudged=unjudged)
    given = _logprobs(rows, "SkyRL", needed=logprobs)
    return {
        "prompt_token_ids": [row.prompt for row in rows],
        "response_ids": [row.response for row in rows],
        "rewards": [row.token_rewards for row in rows],
        "loss_masks": [row.loss_mask for row in rows],
        "stop_reasons": [row.segment.turns[-1].finish_reason if row.segment.turns else "" for row in rows],
        "rollout_metrics": None,
        "rollout_logprobs": given,
        "trajectory_ids": [{"instance_id": row.group.name, "repetition_id": row.sample.index} for row in rows],
        "rollout_expert_indices": None,
        "is_last_step": [row.last for row in rows],
    }


# ---------------------------------------------------------------------- verl


def to_verl(
    groups: Iterable[Group],
    *,
    pad_id: int = 0,
    prompt_length: int | None = None,
    response_length: int | None = None,
    failed: Failed = "drop",
    unjudged: float = 0.0,
    logprobs: bool = False,
) -> dict[str, Any]:
    """For verl: ``{"batch", "non_tensor_batch", "meta_info"}``, as ``DataProto.from_dict`` takes them made tensors.

    Shape: verl-project/verl, ``verl/experimental/agent_loop/agent_loop.py`` (``AgentLoopWorker``, what
    ``generate_sequences`` returns) and ``verl/utils/model.py`` (``compute_position_id_with_mask``). Each entry of
    ``batch`` is a list of rows of one length: ``prompts`` padded on the left to ``prompt_length``, ``responses`` on the
    right to ``response_length`` (by default the longest there is; ``UsageError`` if one is longer: nothing is cut),
    ``input_ids``, ``attention_mask`` and ``position_ids`` over both; ``response_mask``, ``rollout_log_probs`` and
    ``rm_scores`` (the reward at the model's last token) over responses. ``uid`` is the group's name.

    ``logprobs``: an error if there are none; verl wants them for roll-out correction only. Several segments of a sample
    are several rows of one ``uid``, each with the sample's reward.
    """
    rows = rows_of(groups, failed=failed, unjudged=unjudged)
    given = _logprobs(rows, "verl", needed=logprobs)
    left = _width(rows, "prompt", lambda row: row.split, prompt_length)
    right = _width(rows, "response", lambda row: len(row.response), response_length)
    batch: dict[str, list[list[Any]]] = {
        "prompts": [_on_the_left(row.prompt, left, pad_id) for row in rows],
        "responses": [_on_the_right(row.response, right, pad_id) for row in rows],
        "response_mask": [_on_the_right(row.loss_mask, right, 0) for row in rows],
        "attention_mask": [
            _on_the_left([1] * row.split, left, 0) + _on_the_right([1] * len(row.response), right, 0) for row in rows
        ],
        "rm_scores": [_on_the_right(row.token_rewards, right, 0.0) for row in rows],
    }
    batch["input_ids"] = [a + b for a, b in zip(batch["prompts"], batch["responses"], strict=True)]
    batch["position_ids"] = [_positions(mask) for mask in batch["attention_mask"]]
    if given is not None:
        batch["rollout_log_probs"] = [_on_the_right(each, right, 0.0) for each in given]
    about = [row.about for row in rows]
    return {
        "batch": batch,
        "non_tensor_batch": {
            "uid": [row.group.name for row in rows],
            "__num_turns__": [len(row.segment.turns) for row in rows],
            **{key: [each[key] for each in about] for key in ("task", "sample", "segment", "segments")},
            "min_weight_version": [row.weight_versions[0] for row in rows],
            "max_weight_version": [row.weight_versions[-1] for row in rows],
        },
        "meta_info": {"pad_token_id": pad_id, "reward_extra_keys": []},
    }


def _width(rows: Sequence[Row], what: str, length: Callable[[Row], int], most: int | None) -> int:
    longest = max(rows, key=length, default=None)
    if longest is None:
        return most or 0
    if most is not None and length(longest) > most:
        said = longest.about
        raise UsageError(
            f"a {what} of {length(longest):,} tokens (group {said['group']}, sample {said['sample']}, segment "
            f"{said['segment']}) does not fit into {most:,}",
            hint=f"give verl a {what}_length that it fits into, or leave that group out; nothing is cut silently",
        )
    return length(longest) if most is None else most


def _on_the_left(values: list[Any], width: int, filler: Any) -> list[Any]:
    return [filler] * (width - len(values)) + values


def _on_the_right(values: list[Any], width: int, filler: Any) -> list[Any]:
    return values + [filler] * (width - len(values))


def _positions(attention: list[int]) -> list[int]:
    """Tokens counted from 0; padding before them has 0, padding after them the last token's."""
    found, seen = [], 0
    for mask in attention:
        seen += mask
        found.append(max(0, seen - 1))
    return found


# ---------------------------------------------------------------------- TRL


def to_trl(
    groups: Iterable[Group], *, failed: Failed = "drop", unjudged: float = 0.0, logprobs: bool = True
) -> dict[str, Any]:
    """For TRL: what a ``rollout_func`` of its ``GRPOTrainer`` returns.

    Shape: huggingface/trl, ``trl/trainer/grpo_trainer.py`` (``GRPOTrainer``: the keys ``prompt_ids``,
    ``completion_ids`` and ``logprobs`` are required, ``env_mask`` becomes the mask of tools' tokens, any other list
    goes to reward functions by its name). ``reward`` is there for one that returns it:
    ``lambda completions, reward, **_: reward``.

    TRL knows groups by their place alone, ``num_generations`` rows each. So a sample of several segments, or groups of
    different sizes, are a ``UsageError`` here: advantages would be taken over rows that are not of one task.
    """
    groups = list(groups)
    rows = rows_of(groups, failed=failed, unjudged=unjudged)
    given = _logprobs(rows, "TRL", needed=logprobs)
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[row.group.name] = sizes.get(row.group.name, 0) + 1
        if not (row.last and row.place == 0):
            raise UsageError(
                f"group {row.group.name}, sample {row.sample.index} has {len(row.sample.segments)} segments, and TRL "
                f"takes one row a sample",
                hint="slime, SkyRL and verl know groups by name and take several; or leave that group out",
            )
    if len(set(sizes.values())) > 1:
        (one, few), (other, most) = min(sizes.items(), key=lambda x: x[1]), max(sizes.items(), key=lambda x: x[1])
        raise UsageError(
            f"group {one} has {few} rows and group {other} {most}, and TRL wants them of one size",
            hint='keep failed samples masked (failed="mask"), or leave the smaller groups out',
        )
    for group in groups:
        if sizes.get(group.name, 0) != len(group.samples):
            raise UsageError(
                f"group {group.name} has {len(group.samples)} samples and {sizes.get(group.name, 0)} rows; TRL wants "
                "num_generations rows of each",
                hint='keep failed samples masked (failed="mask"), or leave that group out',
            )
    return {
        "prompt_ids": [row.prompt for row in rows],
        "completion_ids": [row.response for row in rows],
        "logprobs": given,
        "env_mask": [row.loss_mask for row in rows],
        "reward": [row.reward for row in rows],
        "group": [row.group.name for row in rows],
        "task": [row.sample.task for row in rows],
    }


CONVERTERS: dict[str, Callable[..., Any]] = {"slime": to_slime, "skyrl": to_skyrl, "verl": to_verl, "trl": to_trl}
