"""A process that stands for vLLM: started like it, it answers health, metrics, models and completions by counting.

``python stub_engine.py … --port N …``; everything else on the command line is ignored. What a chat call is forced to
say (``replay``) is its answer. Environment: ``STUB_DELAY_S`` is how long an answer takes, ``STUB_START_S`` how long the
server takes to come up, ``STUB_KV`` its KV capacity in tokens. A prompt counts as many tokens as it has characters or
ids.

Its weights are one number, the first bytes of ``model.safetensors``, and every token that it says under them. A folder
with a file ``fails-once`` is not loaded by the worker that comes first; one with ``slow`` takes a while. In development
mode it has vLLM's doors.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

DELAY_S = float(os.environ.get("STUB_DELAY_S", "0.01"))
START_S = float(os.environ.get("STUB_START_S", "0"))
KV = int(os.environ.get("STUB_KV", "100000"))
METRICS = f'vllm:cache_config_info{{block_size="16",num_gpu_blocks="{KV // 16}",kv_cache_size_tokens="{KV}"}} 1.0\n'


class Engine:
    """What there is of an engine: weights, what it caches, whether it is paused, and who is being answered."""

    def __init__(self) -> None:
        self.token = 0
        self.cached: set[str] = set()
        self.going = asyncio.Event()
        self.going.set()
        self.running: set[asyncio.Event] = set()

    async def generate(self, count: int, step_s: float) -> AsyncIterator[int | None]:
        """``count`` tokens, or ``None`` in place of the rest if the answer is cut off."""
        cut = asyncio.Event()
        self.running.add(cut)
        try:
            for _ in range(count):
                if not self.going.is_set():
                    waits = [asyncio.ensure_future(event.wait()) for event in (self.going, cut)]
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                    for wait in waits:
                        wait.cancel()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(cut.wait(), step_s)
                if cut.is_set():
                    yield None
                    return
                yield self.token
        finally:
            self.running.discard(cut)

    async def pause(self, request: web.Request) -> web.Response:
        assert request.query["mode"] == "abort"
        self.going.clear()
        for cut in self.running:
            cut.set()
        return web.json_response({"status": "paused"})

    async def resume(self, request: web.Request) -> web.Response:
        self.going.set()
        return web.json_response({"status": "resumed"})

    async def is_paused(self, request: web.Request) -> web.Response:
        return web.json_response({"is_paused": not self.going.is_set()})

    async def reset(self, request: web.Request) -> web.Response:
        self.cached.clear()
        return web.json_response({"success": not self.running})

    async def rpc(self, request: web.Request) -> web.Response:
        assert not self.going.is_set() and not self.running, "weights are not to change under a call"
        asked = await request.json()
        assert asked["method"] == "reload_weights"
        folder = Path(asked["kwargs"]["weights_path"])
        await asyncio.sleep(0.8 if (folder / "slow").exists() else 0)
        try:
            (folder / "fails-once").unlink()
        except FileNotFoundError:
            raw = (folder / "model.safetensors").read_bytes()
            self.token = raw[8 + int.from_bytes(raw[:8], "little")]
            return web.json_response({"results": [None]})
        return web.json_response({"error": {"message": "it does not fit"}}, status=500)


ENGINE = Engine()


async def answer(request: web.Request) -> web.StreamResponse:
    raw = await request.read()
    body = json.loads(raw)
    prompt = body.get("prompt") or json.dumps(body.get("messages"))
    count = body["max_tokens"] if body.get("return_token_ids") else 5
    step_s = 0.0 if body.get("max_tokens") == 1 else DELAY_S / count  # the measurement of the prefill rate asks for one
    key = json.dumps(prompt)
    cached = len(prompt) if key in ENGINE.cached else 0
    if body.get("stream"):
        return await stream(request, count, step_s, len(prompt))
    said = [token async for token in ENGINE.generate(count, step_s)]
    reason = "abort" if said[-1] is None else "length" if body.get("return_token_ids") else "stop"
    ids = [token for token in said if token is not None]
    if ids:
        ENGINE.cached.add(key)
    usage = {
        "prompt_tokens": len(prompt),
        "completion_tokens": len(ids),
        "prompt_tokens_details": {"cached_tokens": cached if body.get("return_token_ids") else 0},
    }
    forced = (body.get("vllm_xargs") or {}).get("replay")
    content = forced if isinstance(forced, str) else f"ok {ENGINE.token}"
    choice = {"index": 0, "text": f"ok {ENGINE.token}", "message": {"content": content}, "finish_reason": reason}
    return web.json_response({"choices": [choice | {"token_ids": ids}], "usage": usage})


async def stream(request: web.Request, count: int, step_s: float, prompt: int) -> web.StreamResponse:
    """The same as events, one for each token, usage last."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    said = 0
    async for token in ENGINE.generate(count, step_s):
        ids, reason = ([], "abort") if token is None else ([token], None)
        choice = {"index": 0, "text": f"{token}", "token_ids": ids, "finish_reason": reason}
        await response.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
        said += len(ids)
    usage = {"prompt_tokens": prompt, "completion_tokens": said}
    await response.write(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\ndata: [DONE]\n\n")
    return response


async def main(port: int) -> None:
    await asyncio.sleep(START_S)
    app = web.Application(client_max_size=2**26)
    app.router.add_get("/health", lambda request: asyncio.sleep(0, web.Response()))
    app.router.add_get("/metrics", lambda request: asyncio.sleep(0, web.Response(text=METRICS)))
    app.router.add_get(
        "/v1/models",
        lambda request: asyncio.sleep(0, web.json_response({"data": [{"id": "small", "max_model_len": 50000}]})),
    )
    app.router.add_post("/v1/completions", answer)
    app.router.add_post("/v1/chat/completions", answer)
    if os.environ.get("VLLM_SERVER_DEV_MODE") == "1":
        app.router.add_post("/pause", ENGINE.pause)
        app.router.add_post("/resume", ENGINE.resume)
        app.router.add_get("/is_paused", ENGINE.is_paused)
        app.router.add_post("/reset_prefix_cache", ENGINE.reset)
        app.router.add_post("/collective_rpc", ENGINE.rpc)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True, reuse_port=True).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[sys.argv.index("--port") + 1])))
