"""What the things that we trace are called, in the words of OpenTelemetry's conventions for generative AI.

The conventions still move: whoever has to follow them changes this file and no other. What they have no word for
begins with ``thunderctl.``.
"""

from __future__ import annotations

INVOKE_AGENT = "invoke_agent"
CHAT = "chat"
EXECUTE_TOOL = "execute_tool"
STEP = "step"
"""One model call and the tools that follow it. The conventions have no operation of that kind."""

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
AGENT_ID = "gen_ai.agent.id"
CONVERSATION_ID = "gen_ai.conversation.id"
REQUEST_MODEL = "gen_ai.request.model"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
TOOL_NAME = "gen_ai.tool.name"
ERROR_TYPE = "error.type"

GROUP = "thunderctl.program.group"
STEP_NUMBER = "thunderctl.step.number"
STEPS = "thunderctl.program.steps"
WORKER = "thunderctl.worker"
HELD_S = "thunderctl.call.held_seconds"
FIRST_TOKEN = "thunderctl.call.first_token"  # noqa: S105 - a token of a model
"""Name of an event of a call's span."""
ADMITTED = "thunderctl.call.admitted"
"""Name of an event of a call's span: until then it was held."""

SERVICE = "service.name"
SERVICE_VERSION = "service.version"
SERVICE_INSTANCE = "service.instance.id"
"""The node."""
PROVIDER_VLLM = "vllm"
