"""``top``: a node that is up as it works, whoever drives it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Annotated

import typer
from rich.text import Text

from thunderctl import launcher
from thunderctl.agents.client import DaemonClient
from thunderctl.cli.live import show
from thunderctl.cli.live_draw import draw
from thunderctl.cli.live_lines import record
from thunderctl.cli.live_picture import LEAST_WINDOW_S, NodeLens, Picture
from thunderctl.cli.node import NodeName
from thunderctl.cli.progress import ProgressMode, Shown
from thunderctl.cli.show import AsJson, out, print_json
from thunderctl.errors import DaemonError, ExitCode, ThunderError
from thunderctl.launcher import DEFAULT_NODE, NodeHandle
from thunderctl.node import alive

ASK_S = 1.0
"""Seconds between two looks at the daemon; what it said is drawn in between."""


def top(
    once: Annotated[bool, typer.Option("--once", help="Look for two seconds, print what was seen, and stop.")] = False,
    node: NodeName = DEFAULT_NODE,
    progress: Shown = ProgressMode.auto,
    as_json: AsJson = False,
) -> None:
    """Watch a node that is up, whoever drives it: speed, cache, programs, KV, environments. Ctrl-C ends it.

    Examples:

        thunderctl top
        thunderctl top --once --json
    """
    handle = launcher.need(node)
    try:
        if once or as_json:
            picture = asyncio.run(_seen_once(handle))
            if as_json:
                print_json(record(picture))
            else:
                out.print(Text("\n").join(draw(picture, out.width, max(out.height, 40))), soft_wrap=True)
            return
        asyncio.run(_watch(handle))
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None


async def _look(client: DaemonClient, lens: NodeLens) -> None:
    health, programs, disk = await asyncio.gather(client.health(), client.programs(), client.disk())
    lens.told(time.monotonic(), health, programs, disk)


async def _seen_once(handle: NodeHandle) -> Picture:
    """Rates want two looks."""
    lens = NodeLens()
    async with handle.client() as client:
        client.patience_s = 0.0
        await _look(client, lens)
        await asyncio.sleep(LEAST_WINDOW_S)
        await _look(client, lens)
    return lens.look()


async def _watch(handle: NodeHandle) -> None:
    """Until the daemon is gone; one that merely does not answer is waited for."""
    lens = NodeLens()
    async with handle.client() as client:
        client.patience_s = 0.0
        await _look(client, lens)
        drawing = asyncio.create_task(show(lens.look))
        try:
            while alive(handle.record):
                await asyncio.sleep(ASK_S)
                try:
                    await _look(client, lens)
                except ThunderError as failure:
                    lens.notice = failure.message
        finally:
            drawing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await drawing
    raise DaemonError(
        f"node {handle.name!r} went down", hint="`thunderctl up` starts it again, `thunderctl logs` tells what happened"
    )
