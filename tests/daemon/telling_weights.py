"""Weights for the small model that tell by every token which of them made it, and what was cached with others.

Version k says ``SAYS + k``, whatever it is asked. Its attention writes k into what is cached, and reads what it finds
there: an answer over a prefix that version j cached says ``READS + j`` instead.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

from thunderctl.workers.doors import tensor_shapes

SAYS = 1000
READS = 2000
MOST = 30
"""Versions that can be told apart."""
_SEEN = 128
"""Dimensions of the residual stream that are 1 for every token; beyond them it is what attention found."""


def write_telling_weights(folder: Path, version: int, model: Path) -> Path:
    """A checkpoint in ``folder`` with the shapes of the small ``model``."""
    shapes = tensor_shapes(model)
    values: dict[str, dict[tuple[int, int], float]] = {name: {} for name in shapes}
    # The norm makes 1 of 1s in half of the dimensions √2; the mean over them is 1 again.
    mean = 1.0 / (_SEEN * 2**0.5)
    values["model.layers.0.self_attn.v_proj.weight"] = {(version, d): mean for d in range(_SEEN)}
    values["model.layers.0.self_attn.o_proj.weight"] = {(_SEEN + j, j): 1.0 for j in range(MOST)}
    values["lm_head.weight"] = {(READS + j, _SEEN + j): 50.0 for j in range(MOST) if j != version}
    values["lm_head.weight"][SAYS + version, _SEEN + version] = 50.0
    folder.mkdir(parents=True)
    header, data = {}, bytearray()
    for name, shape in shapes.items():
        row = [1.0] * shape[0] if "norm" in name else [float("embed" in name and d < _SEEN) for d in range(shape[1])]
        part = bytearray(b"".join(map(_bfloat16, row)) * (1 if "norm" in name else shape[0]))
        for (row, column), value in values[name].items():
            at = 2 * (row * shape[1] + column)
            part[at : at + 2] = _bfloat16(value)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    head = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)
    assert shapes["model.embed_tokens.weight"][1] == 2 * _SEEN
    return folder


def _bfloat16(value: float) -> bytes:
    return struct.pack("<f", value)[2:]
