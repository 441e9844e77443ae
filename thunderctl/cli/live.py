"""A run as it happens: pictures of it, shown in the way that the command line chose until the run is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from thunderctl.cli.live_draw import draw
from thunderctl.cli.live_lines import JSON_EVERY_S, PLAIN_EVERY_S, json_line, plain_line
from thunderctl.cli.live_picture import Picture, RunLens
from thunderctl.cli.live_screen import Screen
from thunderctl.cli.progress import ProgressMode, mode_for
from thunderctl.cli.show import err, say
from thunderctl.runs.driver import Progress

FRAME_S = 0.25
LOOK_S = 1.0


async def watch(progress: Progress) -> None:
    """Show the run until cancelled."""
    await show(RunLens(progress).look)


async def show(look: Callable[[], Picture]) -> None:
    """Show what ``look`` sees until cancelled; lines tell once more how it ended."""
    mode = mode_for(err)
    if mode is ProgressMode.tty:
        await _fill_the_terminal(look)
    elif mode is ProgressMode.quiet:
        await asyncio.Event().wait()
    else:
        line, every_s = (json_line, JSON_EVERY_S) if mode is ProgressMode.json else (plain_line, PLAIN_EVERY_S)
        await _tell(look, lambda picture: say(line(picture)), every_s)


async def _fill_the_terminal(look: Callable[[], Picture]) -> None:
    clock = asyncio.get_running_loop().time
    with Screen() as screen:
        due = clock()
        while True:
            picture = look()
            if picture.notice is None:
                picture = replace(picture, notice=screen.said)
            screen.draw(lambda width, height, seen=picture: draw(seen, width, height))  # type: ignore[misc]
            due = max(due + FRAME_S, clock())  # a late frame does not make the next ones early
            await asyncio.sleep(due - clock())


async def _tell(look: Callable[[], Picture], tell: Callable[[Picture], None], every_s: float) -> None:
    clock = asyncio.get_running_loop().time
    told = clock()
    try:
        while True:
            picture = look()  # more often than it is told, for a rate is a difference
            if clock() - told >= every_s:
                told = clock()
                tell(picture)
            await asyncio.sleep(LOOK_S)
    finally:
        tell(look())
