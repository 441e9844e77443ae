"""Folders of weights, and doors that do not open: what a trainer is told before an engine is touched."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from thunderctl.errors import EngineError, UsageError
from thunderctl.workers.doors import Doors, check_weights, tensor_shapes


def checkpoint(folder: Path, config: dict[str, object] | None = None, **shapes: list[int]) -> Path:
    """A checkpoint of single bytes: a file for each tensor."""
    folder.mkdir()
    for name, shape in shapes.items():
        size = 1
        for length in shape:
            size *= length
        header = json.dumps(
            {
                "__metadata__": {"format": "pt"},
                f"{name}.weight": {"dtype": "U8", "shape": shape, "data_offsets": [0, size]},
            }
        ).encode()
        (folder / f"{name}.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_checkpoint_in_several_files_is_read_as_one(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "a", embed=[4, 2], lm_head=[2, 4])
    assert tensor_shapes(folder) == {"embed.weight": (4, 2), "lm_head.weight": (2, 4)}


def test_weights_that_lack_a_tensor_or_have_another_shape_are_refused_by_name(tmp_path: Path) -> None:
    present = checkpoint(tmp_path / "present", embed=[4, 2], lm_head=[2, 4])
    check_weights(checkpoint(tmp_path / "more", embed=[4, 2], lm_head=[2, 4], extra=[1]), present)
    with pytest.raises(UsageError, match="lm_head.weight is missing"):
        check_weights(checkpoint(tmp_path / "less", embed=[4, 2]), present)
    with pytest.raises(UsageError, match=r"has shape \(2, 2\), not \(4, 2\) \(and 1 more\)"):
        check_weights(checkpoint(tmp_path / "other", embed=[2, 2], lm_head=[1, 4]), present)
    check_weights(checkpoint(tmp_path / "first", embed=[1]), None)


def test_a_head_that_the_model_shares_with_its_embeddings_need_not_be_there(tmp_path: Path) -> None:
    present = checkpoint(tmp_path / "present", {"tie_word_embeddings": True}, embed=[4, 2], lm_head=[2, 4])
    check_weights(checkpoint(tmp_path / "tied", embed=[4, 2]), present)


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"\xff" * 8, (2).to_bytes(8, "little") + b"[]", b"\x02"])
def test_what_is_no_safetensors_file_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UsageError, match="model.safetensors is no whole safetensors file"):
        tensor_shapes(tmp_path)


async def test_a_door_that_an_engine_lacks_or_keeps_shut_is_an_error_in_its_own_words() -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "it does not fit"}}, status=500)

    async def busy(request: web.Request) -> web.Response:
        return web.json_response({"success": False})

    app = web.Application()
    app.add_routes([web.post("/collective_rpc", refuse), web.post("/reset_prefix_cache", busy)])
    server = TestServer(app)
    await server.start_server()
    async with aiohttp.ClientSession() as session:
        doors = Doors(session, "w0", str(server.make_url("")).rstrip("/"))
        with pytest.raises(EngineError, match="w0 has no /pause"):
            await doors.pause()
        with pytest.raises(EngineError, match="HTTP 500: it does not fit"):
            await doors.load("/nowhere")
        with pytest.raises(EngineError, match="something still uses it"):
            await doors.drop_cache()
        await server.close()
        with pytest.raises(EngineError, match="w0: POST /resume"):
            await doors.resume()
