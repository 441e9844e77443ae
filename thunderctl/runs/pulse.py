"""Whether the driver keeps pace with its own agents: a driver that falls behind measures itself.

*Lag* is how much later than asked a sleeping task of the driver's event loop is woken, sampled twenty times a second:
an agent whose answer came waits as long. *CPU* is that of the whole process, display and storing included; *calls* are
the requests that its steps made, one to a model and one to a tool. All seconds are on the wall. ``daemon_answer_s`` is
the round trip of ``GET /health``: the daemon's own lag, and at most one of ours on top.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

BEAT_S = 0.05


def _nearest_rank(values: list[float], share: float) -> float:
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0


class Pulse:
    """Counted up by the driver; ``calls`` and ``agents`` are its to keep."""

    def __init__(self) -> None:
        self.calls = 0
        self.agents = 0
        """At work now."""
        self._late: list[float] = []
        self._daemon: list[float] = []
        self._told = (0, 0)
        """Beats and daemon answers that a record has told of."""
        self._began = (time.monotonic(), time.process_time())
        self._mark = (*self._began, 0)
        self._end: tuple[float, float] | None = None

    async def beat(self) -> None:
        """Until cancelled or stopped."""
        loop = asyncio.get_running_loop()
        while self._end is None:
            due = loop.time() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self._late.append(max(0.0, loop.time() - due))

    def stop(self) -> None:
        """The measured part is over; judging is not in the summary."""
        if self._end is None:
            self._end = (time.monotonic(), time.process_time())

    def daemon_answered(self, seconds: float) -> None:
        self._daemon.append(seconds)

    def since_last_time(self) -> dict[str, Any]:
        """One line of ``driver.jsonl``."""
        wall, cpu, calls = time.monotonic(), time.process_time(), self.calls
        late, answers = self._late[self._told[0] :], self._daemon[self._told[1] :]
        record = {
            "wall_s": round(wall - self._mark[0], 3),
            "cpu_s": round(cpu - self._mark[1], 4),
            "calls": calls - self._mark[2],
            "agents": self.agents,
            "lag_mean_s": round(sum(late) / len(late), 5) if late else 0.0,
            "lag_max_s": round(max(late, default=0.0), 5),
            "daemon_answer_s": round(max(answers), 5) if answers else None,
        }
        self._mark, self._told = (wall, cpu, calls), (len(self._late), len(self._daemon))
        return record

    def summary(self) -> dict[str, Any]:
        """What the manifest says under ``driver``."""
        wall, cpu = self._end or (time.monotonic(), time.process_time())
        wall, cpu = wall - self._began[0], cpu - self._began[1]
        return {
            "wall_s": round(wall, 3),
            "cpu_s": round(cpu, 3),
            "cpu_share": round(cpu / wall, 4) if wall else 0.0,
            "calls": self.calls,
            "cpu_ms_per_call": round(1000 * cpu / self.calls, 3) if self.calls else None,
            "lag_mean_s": round(sum(self._late) / len(self._late), 5) if self._late else 0.0,
            "lag_p99_s": round(_nearest_rank(self._late, 0.99), 5),
            "lag_max_s": round(max(self._late, default=0.0), 5),
            "daemon_answer_p50_s": round(_nearest_rank(self._daemon, 0.5), 5) if self._daemon else None,
            "daemon_answer_max_s": round(max(self._daemon), 5) if self._daemon else None,
        }
