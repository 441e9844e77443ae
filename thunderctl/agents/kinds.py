"""Who works on which kind of workload: one row each."""

from __future__ import annotations

from typing import Any

from thunderctl.agents.coding import CodingAgent
from thunderctl.agents.loop import TaskAgent

AGENTS: dict[str, type[TaskAgent[Any, Any]]] = {
    "coding": CodingAgent,
}
