"""A server that stands for vLLM where only tokens count: it emits what it is forced to, at a steady pace, and says so.

``python counting_engine.py PORT-FILE``: listens on a port that the kernel chooses and writes it down. Nine tenths of
every prompt are said to have been cached.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

KV = 200_000
SECONDS_A_CALL = 0.2
_seen = {"prefix_cache_queries_total": 0, "prefix_cache_hits_total": 0, "generation_tokens_total": 0}


async def answer(request: web.Request) -> web.Response:
    body = await request.json()
    prompt = len(body.get("prompt") or "")
    if body.get("max_tokens") != 1:  # the measurement of the prefill rate asks for one
        await asyncio.sleep(SECONDS_A_CALL)
    forced = (body.get("vllm_xargs") or {}).get("replay") or "x"
    emitted = len(forced)
    cached = prompt * 9 // 10
    for name, more in zip(_seen, (prompt, cached, emitted), strict=True):
        _seen[name] += more
    usage = {"prompt_tokens": prompt, "completion_tokens": emitted, "prompt_tokens_details": {"cached_tokens": cached}}
    choice: dict[str, Any] = {"index": 0, "text": "", "finish_reason": "length"}
    if body.get("return_token_ids"):
        choice |= {"token_ids": forced, "prompt_token_ids": body["prompt"]}
    if body.get("logprobs") is not None:
        choice["logprobs"] = {"token_logprobs": [-1.0] * emitted}
    return web.json_response({"choices": [choice], "usage": usage})


async def metrics(request: web.Request) -> web.Response:
    sized = f'vllm:cache_config_info{{block_size="16",num_gpu_blocks="{KV // 16}",kv_cache_size_tokens="{KV}"}} 1.0\n'
    return web.Response(text=sized + "".join(f"vllm:{name} {count}\n" for name, count in _seen.items()))


async def models(request: web.Request) -> web.Response:
    return web.json_response({"data": [{"id": "small", "max_model_len": 50_000}]})


async def health(request: web.Request) -> web.Response:
    return web.Response()


async def main(port_file: Path) -> None:
    app = web.Application(client_max_size=2**26)
    app.add_routes(
        [
            web.get("/health", health),
            web.get("/metrics", metrics),
            web.get("/v1/models", models),
            web.post("/v1/completions", answer),
            web.post("/v1/chat/completions", answer),
        ]
    )
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fresh = port_file.with_suffix(".new")
    fresh.write_text(str(runner.addresses[0][1]))
    fresh.replace(port_file)
    while os.getppid() != 1:  # it ends with the test that started it
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
