"""Carries out the tool calls of a heavy coding agent: shell, file editor, Python cells, all inside its environment.

The editor and the cells are programs (``inside/``) that are put into the environment's ``.git`` folder, where they are
no part of the difference that is handed in. The cells' process is a command that runs beside the others for as long as
the agent works; it ends with its environment at the latest.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from thunderctl.agents.client import DaemonClient, Lease, ToolResult
from thunderctl.agents.loop import ToolRun
from thunderctl.agents.tool_schemas import BadCall
from thunderctl.errors import DaemonError, EnvironmentFailure

INSIDE = Path(__file__).resolve().parent / "inside"
PLACE = ".git/thunderctl"
"""Folder of the programs in an environment, below its working directory."""
CELL_S = 45
"""Seconds after which a cell is interrupted; the shell's own deadline is the environment's."""
PROCESS_S = 43_200.0
"""Longest life of the cells' process."""
LONGEST_CALL = 90_000
"""Bytes that fit into one argument of a command line (128 KiB on Linux) in base64."""
NO_PROCESS = 75
"""What ``cell run`` ends with if there is no process (``inside/cell.py``)."""
SUBMIT = "git add -A && git diff --cached"


class Toolbox:
    """The tools of one agent in one environment. Call :meth:`close` at the end."""

    def __init__(self, client: DaemonClient, lease: Lease) -> None:
        self._client = client
        self._lease = lease
        self._installed = False
        self._process: asyncio.Task[ToolResult] | None = None
        self._waited = ToolResult("", 0, 0.0, False, 0)

    async def use(self, name: str, arguments: dict[str, Any]) -> ToolRun:
        """Run ``bash``, ``edit_file``, ``python`` or ``finish``.

        Raises:
            BadCall: the call is too long to be carried out.
        """
        began = time.monotonic()
        if name == "bash":
            command, result = arguments["command"], await self._bash(arguments["command"])
        elif name == "edit_file":
            command, result = f"edit_file {arguments['action']} {arguments['path']}", await self._edit(arguments)
        elif name == "python":
            command, result = arguments["code"], await self._cell(arguments["code"])
        else:
            command, result = SUBMIT, await self._bash(SUBMIT)
        waited, self._waited = self._waited.waited_s, replace(self._waited, waited_s=0.0)
        result = replace(result, waited_s=result.waited_s + waited)
        return ToolRun(command, result, time.monotonic() - began - result.waited_s, name)

    async def close(self) -> None:
        """End the cells' process."""
        if self._process is not None:
            self._process.cancel()
            await asyncio.gather(self._process, return_exceptions=True)
            self._process = None

    async def _bash(self, command: str) -> ToolResult:
        return await self._client.execute(self._lease, command)

    async def _edit(self, arguments: dict[str, Any]) -> ToolResult:
        payload = _encoded(json.dumps(arguments), "edit_file")
        await self._install()
        return await self._bash(f"{PLACE}/edit {payload}")

    async def _cell(self, code: str) -> ToolResult:
        payload = _encoded(code, "python")
        await self._install()
        told = ""
        if self._process is not None and self._process.done():
            await self.close()
            told = "(The Python process had ended; this is a new one, without earlier variables.)\n"
        if self._process is None:
            self._process = asyncio.create_task(
                self._client.execute(self._lease, f"{PLACE}/cell serve", timeout_s=PROCESS_S, background=True)
            )
        result = await self._bash(f"{PLACE}/cell run {CELL_S} {payload}")
        if result.timed_out or result.returncode == NO_PROCESS:
            why = await self._gone()
            result = replace(result, output=result.output + why)
        return replace(result, output=told + result.output)

    async def _gone(self) -> str:
        """End a process that cannot be used any more; what there is to say about it."""
        assert self._process is not None  # noqa: S101 - it was started before
        with contextlib.suppress(asyncio.TimeoutError, DaemonError, EnvironmentFailure):
            ended = await asyncio.wait_for(asyncio.shield(self._process), 1.0)
            return f"The Python process ended with {ended.returncode}.\n{ended.output}"
        self._process.cancel()
        await asyncio.wait([self._process])
        return "The Python process was ended.\n"

    async def _install(self) -> None:
        """Put the programs into the environment; the first time only."""
        if self._installed:
            return
        lines = [f"mkdir -p {PLACE} && cd {PLACE}"]
        for name in ("edit", "cell"):
            text = base64.b64encode((INSIDE / f"{name}.py").read_bytes()).decode()
            lines.append(f"echo {text} | base64 -d >{name}")
        result = await self._bash(" &&\n".join([*lines, "chmod +x edit cell"]))
        if result.returncode:
            raise EnvironmentFailure(
                f"the tools could not be put into the environment: {result.output.strip()[-300:]}",
                hint="it needs a shell, base64, python3 and a git repository in its working directory",
            )
        self._installed, self._waited = True, result


def _encoded(text: str, tool: str) -> str:
    data = text.encode("utf-8", "surrogatepass")
    if len(data) > LONGEST_CALL:
        raise BadCall(f"This call of {tool} is {len(data)} bytes long; {LONGEST_CALL} is the most.")
    return base64.b64encode(data).decode()
