"""Who works on which kind of workload: one row each."""

from __future__ import annotations

from typing import Any

from thunderctl.agents.coding import CodingAgent
from thunderctl.agents.coding_tools import CodingToolsAgent
from thunderctl.agents.loop import TaskAgent
from thunderctl.agents.routing import RoutingAgent
from thunderctl.agents.science import ScienceAgent

AGENTS: dict[str, type[TaskAgent[Any, Any]]] = {
    "coding": CodingAgent,
    "coding-tools": CodingToolsAgent,
    "routing": RoutingAgent,
    "science": ScienceAgent,
}
