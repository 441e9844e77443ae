"""``clients_of_others.py URL``: OpenAI's and Anthropic's own clients, run by an interpreter that has them."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request
from typing import Any


def main(url: str) -> dict[str, Any]:
    import anthropic
    import openai

    messages: Any = [{"role": "user", "content": "Say something."}]
    told: dict[str, Any] = {}
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    extra = {"program_id": "openai-sync", "docker_ids": ["c0ffee"]}
    answer = client.chat.completions.create(model="small", messages=messages, max_tokens=8, extra_body=extra)
    told["openai-sync"] = answer.usage.completion_tokens

    async def later() -> int:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as patient:
            got = await patient.chat.completions.create(
                model="small", messages=messages, max_tokens=8, extra_body={"program_id": "openai-async"}
            )
            return int(got.usage.completion_tokens)

    told["openai-async"] = asyncio.run(later())
    stream = client.chat.completions.create(
        model="small", messages=messages, max_tokens=8, stream=True, extra_body={"program_id": "openai-stream"}
    )
    chunks = list(stream)
    assert all(chunk.usage is None and chunk.choices for chunk in chunks), "it did not ask for usage"
    told["openai-stream"] = len(chunks)
    response = client.responses.create(
        model="small", input="Say something.", max_output_tokens=8, metadata={"program_id": "openai-responses"}
    )
    told["openai-responses"] = response.usage.output_tokens
    other = anthropic.Anthropic(base_url=url, api_key="none")
    message = other.messages.create(
        model="small", messages=messages, max_tokens=8, extra_body={"program_id": "anthropic"}
    )
    told["anthropic"] = message.usage.output_tokens
    with other.messages.stream(
        model="small", messages=messages, max_tokens=8, extra_headers={"X-Program-Id": "anthropic-stream"}
    ) as events:
        told["anthropic-stream"] = events.get_final_message().usage.output_tokens
    # A released program is known no more, so its own is left to the test; this one is released as its harness does it.
    made = client.completions.create(model="small", prompt="a", max_tokens=1, extra_body={"program_id": "short"})
    assert made.usage.completion_tokens == 1
    release = urllib.request.Request(f"{url}/programs/release", json.dumps({"program_id": "short"}).encode())
    with urllib.request.urlopen(release) as done:
        told["released"] = json.load(done)
    return told


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])))
