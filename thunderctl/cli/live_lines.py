"""A picture as a line: for a person who reads a log, or as an object for a program.

``--progress json`` writes one JSON object a line to standard error, every ``JSON_EVERY_S`` seconds and once at the end.
Two types of object share the stream; keys are only ever added, and a change of meaning raises ``schema``.

``{"type": "status", "schema": 1, "at": …, "text": …}`` tells of something long that goes on before or after the work,
such as starting workers.

``{"type": "progress", "schema": 1, …}`` has these keys, all of them always:

- ``at``: seconds since the epoch; ``about``: list of words: workload, kind of model behaviour, engine, policy, profile;
- ``phase``: ``working``, ``judging``, ``ended``; of a node (``top``) its status;
- ``elapsed_s``, ``left_s`` (estimate or null): seconds on the wall; ``share``: 0 to 1, or null if nobody knows;
- ``steps``, ``total_steps`` (null if unknown), ``judged``, ``agents`` (places; null of a node), ``rollouts``: status →
  number;
- ``programs``: null, or ``reasoning``, ``acting``, ``paused``, ``held_calls``;
- ``rates``: null at first, then ``over_s``, ``steps_per_min``, ``output_tokens_per_s``, ``hit_rate`` (0 to 1; the last
  two null while unknown) of the last minute or less, in the node's seconds; ``hit_rate``: since the run began;
- ``workers``: list of ``name``, ``state``, ``reasoning``, ``acting``, ``capacity`` (tokens);
- ``backend`` and ``environments``: where tools run, and leases by state; ``disk_bytes``;
- ``error_count``, ``errors``: the latest ones first, at most five;
- ``latest``: list of ``agent``, ``task``, ``state``, ``steps``, ``doing``; ``notice``: null or a sentence.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

from thunderctl.cli.live_draw import clean, counted, done, when
from thunderctl.cli.live_picture import Picture
from thunderctl.cli.progress import SCHEMA
from thunderctl.report.tables import percent, size

PLAIN_EVERY_S = 10.0
JSON_EVERY_S = 2.0


def record(picture: Picture) -> dict[str, Any]:
    """The object of type ``progress``."""
    return {"type": "progress", "schema": SCHEMA, "at": round(time.time(), 3), **asdict(picture)}


def json_line(picture: Picture) -> str:
    return json.dumps(record(picture))  # in ASCII: some characters end a line for some readers


def plain_line(picture: Picture) -> str:
    """Everything but agents and workers one by one."""
    share = f"{int(100 * picture.share)}%, " if picture.share is not None else ""
    parts = [f"{share}{done(picture)}", when(picture)]
    if picture.phase not in ("working", "judging", "ok"):
        parts.insert(0, picture.phase)
    if picture.agents is not None:
        parts.append(f"agents: {counted(picture.rollouts)}")
    if picture.rates is not None:
        tokens, hits = picture.rates.output_tokens_per_s, picture.rates.hit_rate
        speed = f"{picture.rates.steps_per_min:,.1f} steps/min"
        speed += "" if tokens is None else f", {tokens:,.1f} tokens/s"
        parts.append(speed if hits is None else f"{speed}, hit rate {percent(hits)}")
    if picture.programs is not None:
        programs = picture.programs
        parts.append(f"programs: {programs.reasoning} reasoning, {programs.acting} acting, {programs.paused} paused")
    capacity = sum(w.capacity for w in picture.workers)
    if capacity:
        parts.append(f"KV {percent(sum(w.reasoning + w.acting for w in picture.workers) / capacity)} reserved")
    if picture.environments:
        parts.append(f"environments: {counted(picture.environments)}")
    if picture.disk_bytes:
        parts.append(f"disk {size(picture.disk_bytes)}")
    if picture.error_count:
        parts.append(f"errors: {picture.error_count}")
    if picture.notice:
        parts.append(clean(picture.notice))
    return " · ".join(parts)
