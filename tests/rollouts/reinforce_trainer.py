"""A trainer in a few lines: REINFORCE on a folder of weights. The engine's Python runs it; it imports nothing of ours.

Usage: ``python reinforce_trainer.py FOLDER``. Each line of stdin is a batch: ``rows`` as slime's samples (``tokens``,
``response_length``, ``loss_mask``, ``reward``), ``temperature`` (the policy is what was sampled from) and ``into`` (the
folder to save the new weights in). Each line of stdout answers one: the log-probabilities, at temperature 1, that the
weights before the step give to the tokens that were trained on.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

RATE = 1e-3


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    for line in sys.stdin:
        batch = json.loads(line)
        rewards = torch.tensor([float(row["reward"]) for row in batch["rows"]])
        advantages = (rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-6)
        logits, chosen, owner = where_it_spoke(model, batch["rows"])
        (-advantages[owner] * of(logits / batch["temperature"], chosen)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        model.save_pretrained(batch["into"], safe_serialization=True)
        sys.stdout.write(json.dumps({"logprobs": of(logits, chosen).tolist()}) + "\n")
        sys.stdout.flush()


def where_it_spoke(model: torch.nn.Module, rows: list[dict]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each token that the model made: all logits, which token it was, and whose row it is of."""
    tokens = [torch.tensor(row["tokens"]) for row in rows]
    hidden = model.model(torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)).last_hidden_state
    places = [
        (number, place)
        for number, row in enumerate(rows)
        for place, mask in enumerate(row["loss_mask"], len(row["tokens"]) - row["response_length"])
        if mask
    ]
    owner, at = (torch.tensor(each) for each in zip(*places, strict=True))
    return model.lm_head(hidden[owner, at - 1]), torch.tensor([rows[n]["tokens"][p] for n, p in places]), owner


def of(logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return logits.log_softmax(-1)[torch.arange(len(chosen)), chosen]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
