"""Makes the ``small`` model: a random Llama's config, a byte-level tokenizer and a chat template. Run inside an engine.

Usage: ``python make_small_model.py FOLDER``. Imports nothing of thunderctl; needs ``tokenizers`` only. The same
interpreter, standard library and tokenizers version give the same bytes. No weights are written: the engine
makes them up (``--load-format dummy``).
"""

import json
import sys
import sysconfig
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 8192
LAYERS = 2
WIDTH = 256
HEADS = 8
KV_HEADS = 2
CONTEXT = 65536

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
