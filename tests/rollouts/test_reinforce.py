"""A toy trainer: it takes batches from the API, makes a REINFORCE step, has the engine load the new weights, and sees
them used: in the version of each token, in the log-probabilities that the engine gives, and in a reward that rises."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import LOCAL, CommandLine
from thunderctl.rollouts import Group, Rollouts
from thunderctl.rollouts.check import check
from thunderctl.rollouts.convert import to_slime
from thunderctl.workers.engine import EngineEnvironment
from thunderctl.workload.skeleton import new_workload

pytestmark = pytest.mark.engine

TRAINER = Path(__file__).with_name("reinforce_trainer.py")
SAMPLES = 16
STEPS = 4
TEMPERATURE = 0.1
"""A random model's logits are nearly level: at 1, none of its 8,192 tokens would come twice."""
PROFILE = [
    "workers.weight_updates=true", "workers.replay=false", "workers.kv_tokens=16384", "model.max_model_len=8192",
]  # fmt: skip


@pytest.fixture
def one_word(tmp_path: Path) -> Path:
    """A workload whose agents say one token, which is no command, and are done."""
    folder = tmp_path / "one-word"
    new_workload(folder, "coding")
    file = folder / "workload.yaml"
    text = file.read_text()
    for key, value in (("output_tokens", 1), ("format_errors", 1)):
        [line] = [line for line in text.splitlines() if line.strip().startswith(f"{key}:")]
        text = text.replace(line, f"  {key}: {value}")
    file.write_text(text)
    return folder


@pytest.fixture
def node(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A node that can change its weights, and stays up from batch to batch."""
    monkeypatch.setenv("THUNDERCTL_HOME", str(cli.home))
    up = cli.run("up", "laptop", *LOCAL, *(word for each in PROFILE for word in ("-c", each)))
    assert up.returncode == 0, up.stderr
    yield
    cli.run("down")


def tokens_of(group: Group) -> list[tuple[int, int, float]]:
    """Token, version of the weights and log-probability, for each token that the model made."""
    found = []
    for sample in group.samples:
        for segment in sample.segments:
            assert segment.logprobs is not None
            every = zip(segment.ids, segment.versions, segment.logprobs, segment.mask, strict=True)
            found += [(token, version, logprob) for token, version, logprob, mask in every if mask]
    return found


async def test_a_trainer_sees_its_own_new_weights_used_and_its_reward_rises(
    one_word: Path, node: None, engine_environment: EngineEnvironment, small_model: Path, tmp_path: Path
) -> None:
    wanted, rewards = None, []
    trainer = subprocess.Popen(
        [engine_environment.python, TRAINER, small_model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert trainer.stdin is not None and trainer.stdout is not None
    try:
        for step in range(STEPS):
            async with Rollouts(
                str(one_word), live=True, samples_per_task=SAMPLES, tasks=1, agents=SAMPLES, judge=False,
                sampling={"temperature": TEMPERATURE}, out=tmp_path / f"batch-{step}",
            ) as rollouts:  # fmt: skip
                assert await rollouts.version() == step
                [group] = [group async for group in rollouts]
                stored = check(tmp_path / f"batch-{step}")
                assert stored.ok and stored.proved == stored.calls == SAMPLES, stored.violations
                said = tokens_of(group)
                assert [version for _, version, _ in said] == [step] * SAMPLES
                cached = [turn.cached_tokens for sample in group.samples for turn in sample.segments[0].turns]
                assert min(cached) == 0, "of other weights nothing is in the cache, not even the first words"
                if wanted is None:
                    wanted = Counter(token for token, _, _ in said).most_common(1)[0][0]
                for sample in group.samples:
                    [segment] = sample.segments
                    sample.reward = segment.ids[segment.mask.index(1) :].count(wanted) / sum(segment.mask)
                rewards.append(sum(sample.reward or 0.0 for sample in group.samples) / SAMPLES)
                into = tmp_path / f"weights-{step + 1}"
                [rows] = to_slime([group], logprobs=True)
                batch: dict[str, Any] = {"rows": rows, "temperature": TEMPERATURE, "into": str(into)}
                trainer.stdin.write(json.dumps(batch) + "\n")
                trainer.stdin.flush()
                trained = json.loads(trainer.stdout.readline())
                # What the engine computed is what these very weights give; it computes with 8 bits of mantissa.
                assert [logprob for _, _, logprob in said] == pytest.approx(trained["logprobs"], abs=0.05)
                change = await rollouts.update_weights(into, mode="keep")
                assert change.version == step + 1 and not change.failed
    finally:
        trainer.stdin.close()
        trainer.wait()
    assert rewards[0] <= 0.5
    assert rewards[-1] >= 0.8, rewards
