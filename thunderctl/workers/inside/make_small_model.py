"""Makes the ``small`` model: a random Llama's config, weights, a byte-level tokenizer and a chat template.

Usage: ``python make_small_model.py FOLDER``, with an engine's interpreter. Imports nothing of thunderctl; needs
``tokenizers``, ``torch`` and ``safetensors``. The same interpreter, standard library and versions of these give the
same bytes. Engines read the weights only where a profile says so (``model.load_format``), else they make up their own.
"""

import json
import sys
import sysconfig
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 8192
LAYERS = 2
WIDTH = 256
HEADS = 8
KV_HEADS = 2
CONTEXT = 65536
SEED = 8
SPREAD = 0.02
"""Standard deviation of the weights: that of Llama's own initialisation."""

END_OF_TEXT, START, SEPARATOR, END = SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_sep|>", "<|im_end|>"]

# Every message stands between special tokens, and nothing is written outside them. The tokenizer cuts at special
# tokens before anything else, so what a message's text becomes does not depend on its neighbours, and the tokens
# that the model answered with are the tokens that the same answer becomes in the next prompt: a chat's ids are a
# prefix of its continuation's ids, which is what the prefix cache lives on. (A newline after the role, as other
# templates have it, would merge with a newline at the start of the answer.)
CHAT_TEMPLATE = (
    "{%- if tools %}{{ '<|im_start|>system<|im_sep|>tools: ' + (tools | tojson) + '<|im_end|>' }}{% endif -%}"
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '<|im_sep|>' + (message['content'] or '') }}"
    "{%- for call in message['tool_calls'] or [] -%}"
    "{{ '<tool_call>' + ({'name': call['function']['name'], 'arguments': call['function']['arguments']} | tojson)"
    " + '</tool_call>' }}"
    "{%- endfor -%}"
    "{{ '<|im_end|>' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif -%}"
)


def main(folder: Path) -> None:
    """Write config.json, generation_config.json, tokenizer.json and tokenizer_config.json into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END,
            "pad_token": END_OF_TEXT,
            "model_max_length": CONTEXT,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    write(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": WIDTH,
            "intermediate_size": 3 * WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "head_dim": WIDTH // HEADS,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": CONTEXT,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "rope_theta": 500000.0,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "bos_token_id": SPECIAL.index(END_OF_TEXT),
            "eos_token_id": SPECIAL.index(END),
            "pad_token_id": SPECIAL.index(END_OF_TEXT),
        },
    )
    write(folder / "generation_config.json", {"eos_token_id": SPECIAL.index(END), "do_sample": True})
    save_file(make_weights(), str(folder / "model.safetensors"), metadata={"format": "pt"})


def make_weights() -> dict[str, torch.Tensor]:
    """Random weights under the names that Llama checkpoints have, in bfloat16: about 13 MB."""
    generator = torch.Generator().manual_seed(SEED)

    def random(rows: int, columns: int) -> torch.Tensor:
        return (torch.randn(rows, columns, generator=generator) * SPREAD).to(torch.bfloat16)

    head, inner = WIDTH // HEADS, 3 * WIDTH
    weights = {"model.embed_tokens.weight": random(VOCABULARY, WIDTH)}
    for layer in range(LAYERS):
        shapes = {
            "self_attn.q_proj": (HEADS * head, WIDTH),
            "self_attn.k_proj": (KV_HEADS * head, WIDTH),
            "self_attn.v_proj": (KV_HEADS * head, WIDTH),
            "self_attn.o_proj": (WIDTH, HEADS * head),
            "mlp.gate_proj": (inner, WIDTH),
            "mlp.up_proj": (inner, WIDTH),
            "mlp.down_proj": (WIDTH, inner),
        }
        weights |= {f"model.layers.{layer}.{name}.weight": random(*shape) for name, shape in shapes.items()}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights[f"model.layers.{layer}.{norm}.weight"] = torch.ones(WIDTH, dtype=torch.bfloat16)
    weights["model.norm.weight"] = torch.ones(WIDTH, dtype=torch.bfloat16)
    weights["lm_head.weight"] = random(VOCABULARY, WIDTH)
    return weights


def train_tokenizer() -> Tokenizer:
    """A byte-level BPE over the top-level modules of the standard library: any text goes in and comes out the same."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    corpus = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    tokenizer.train([str(file) for file in corpus], trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        sys.exit(f"the standard library's sources gave {tokenizer.get_vocab_size()} tokens, not {VOCABULARY}")
    return tokenizer


def write(file: Path, content: dict) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
