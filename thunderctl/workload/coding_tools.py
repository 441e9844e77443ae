"""Heavy coding workloads: repair or extend a repository by structured tool calls. Tasks are those of ``coding.py``."""

from __future__ import annotations

from thunderctl.workload.base import Workload
from thunderctl.workload.files import Section


class ToolPrompts(Section):
    """Texts of the loop; ``{{name}}`` is replaced."""

    system: str
    instance: str
    """``{{tag}}`` (a line that no other agent has) and ``{{task}}``."""
    observation: str
    """What a shell command returned: ``{{returncode}}`` and ``{{output}}``."""
    timeout: str
    """``{{seconds}}`` and ``{{output}}``, of any tool."""
    reminder: str
    """After an answer without a tool call."""


class CodingToolsWorkload(Workload):
    """``workload.yaml`` of kind ``coding-tools``."""

    prompts: ToolPrompts
