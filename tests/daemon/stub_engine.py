"""A process that stands for vLLM: started like it, it answers health, metrics, models and completions by counting.

``python stub_engine.py … --port N …``; everything else on the command line is ignored. What a chat call is forced to
say (``replay``) is its answer. Environment: ``STUB_DELAY_S`` is how long an answer takes, ``STUB_START_S`` how long the
server takes to come up, ``STUB_KV`` its KV capacity in tokens. A prompt counts as many tokens as it has characters or
ids.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from aiohttp import web

DELAY_S = float(os.environ.get("STUB_DELAY_S", "0.01"))
START_S = float(os.environ.get("STUB_START_S", "0"))
KV = int(os.environ.get("STUB_KV", "100000"))
METRICS = f'vllm:cache_config_info{{block_size="16",num_gpu_blocks="{KV // 16}",kv_cache_size_tokens="{KV}"}} 1.0\n'


async def answer(request: web.Request) -> web.Response:
    raw = await request.read()
    body = json.loads(raw)
    if body.get("max_tokens") != 1:  # the measurement of the prefill rate asks for one
        await asyncio.sleep(DELAY_S)
    prompt = body.get("prompt") or json.dumps(body.get("messages"))
    usage = {"prompt_tokens": len(prompt), "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 0}}
    forced = (body.get("vllm_xargs") or {}).get("replay")
    content = forced if isinstance(forced, str) else "ok"
    choice = {"index": 0, "text": "ok", "message": {"content": content}, "finish_reason": "stop"}
    return web.json_response({"choices": [choice], "usage": usage})


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
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True, reuse_port=True).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[sys.argv.index("--port") + 1])))
