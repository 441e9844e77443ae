"""What a trainer asks of the daemon about the model's weights (``/v1/rollout/weights``), on a :class:`DaemonClient`.

Versions only rise; each answer of the engine says which one made it (``X-Thunderctl-Weights``).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from thunderctl.agents.client import DaemonClient
from thunderctl.errors import DaemonError

PATH = "/v1/rollout/weights"
Mode = Literal["finish", "keep", "restart"]
"""What becomes of calls in flight: ``finish`` waits for them. ``keep`` cuts them off: callers that read token ids get
what there is and go on from there with the new weights, all others' calls are made again by the daemon. ``restart``
makes all of them again, except streams that have begun, which it waits for."""


@dataclass(frozen=True, slots=True)
class WeightsChange:
    """What a change of the weights came to."""

    version: int
    mode: str
    paused_s: float
    """For how long no call was let through."""
    aborted: int
    """Calls that were cut off."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Workers that could not take the new weights → why; they are started anew."""


async def update_weights(
    client: DaemonClient, path: Path | str, *, mode: Mode = "finish", version: int | None = None
) -> WeightsChange:
    """Have every worker load the safetensors in the folder ``path``, which the daemon's machine must see.

    ``version``: the number of the new weights; without it the next one. With it the call may safely be repeated.

    Raises:
        DaemonError: nothing was changed, or no worker could load them: the old version goes on.
    """
    body: dict[str, Any] = {"path": str(Path(path).absolute()), "mode": mode}
    if version is not None:
        body["version"] = version
    return await _change(client, body)


@asynccontextmanager
async def weights_transfer(
    client: DaemonClient, *, mode: Mode = "finish", version: int | None = None
) -> AsyncIterator[dict[str, str]]:
    """Around a transfer of the trainer's own: no call is let through meanwhile. Yields worker → URL.

    If it ends with an exception nobody knows what has been written: the old version is loaded again where files have
    it, and workers are taken out where not. ``{"state": "abandon"}`` by hand is for who has written nothing.
    """
    begun = await _post(client, {"state": "begin", "mode": mode})
    try:
        yield dict(begun["workers"])
    except BaseException:
        with contextlib.suppress(DaemonError):  # what went wrong is told, not this
            await _post(client, {"state": "failed"})
        raise
    await _change(client, {"state": "end"} | ({} if version is None else {"version": version}))


async def weights(client: DaemonClient) -> dict[str, Any]:
    """Version, state, and each worker's."""
    answer, _, _ = await client._send("GET", PATH)
    return dict(answer)


async def _change(client: DaemonClient, body: dict[str, Any]) -> WeightsChange:
    return WeightsChange(**await _post(client, body))


async def _post(client: DaemonClient, body: dict[str, Any]) -> dict[str, Any]:
    answer, _, _ = await client._send("POST", PATH, body, repeatable="version" in body)
    return dict(answer)
