"""``/v1/rollout/weights``: what a trainer says and is told about the model's weights. Changing them wants the token."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import pydantic
from aiohttp import web

from thunderctl.daemon.door import web_error as error
from thunderctl.daemon.gate import Mode
from thunderctl.errors import ThunderError, UsageError

if TYPE_CHECKING:
    from thunderctl.daemon.control import Handler
    from thunderctl.daemon.weights import Weights

PATH = "/v1/rollout/weights"


class WeightsBody(pydantic.BaseModel):
    """Either ``path``, a folder of safetensors on the daemon's machine, or ``state`` around a transfer of one's own."""

    model_config = pydantic.ConfigDict(extra="forbid")

    path: str | None = pydantic.Field(None, min_length=1)
    state: Literal["begin", "end", "abandon", "failed"] | None = None
    """``abandon``: nothing was transferred after all; ``failed``: maybe a part of it."""
    mode: Mode = "finish"
    """What becomes of calls in flight (``Gate.close``); of no meaning with states other than ``begin``."""
    version: int | None = pydantic.Field(None, ge=1)
    """Number of the new weights; without it the next one."""

    @pydantic.model_validator(mode="after")
    def _one_thing(self) -> WeightsBody:
        if (self.path is None) == (self.state is None):
            raise ValueError("say either path or state")
        if self.version is not None and self.state not in (None, "end"):
            raise ValueError("version belongs to path or to state end")
        return self


class WeightsApi:
    """Handlers; ``owner_only`` wraps those that want the node's token."""

    def __init__(self, weights: Weights, owner_only: Callable[[Handler], Handler]) -> None:
        self._weights = weights
        self._owner_only = owner_only

    def routes(self) -> list[web.RouteDef]:
        return [web.get(PATH, self.tell), web.post(PATH, self._owner_only(self.change))]

    async def tell(self, request: web.Request) -> web.Response:
        return web.json_response(self._weights.row())

    async def change(self, request: web.Request) -> web.Response:
        """Carry it out, to its end even if the trainer hangs up meanwhile. 409: not as things stand; 502: it failed."""
        body = WeightsBody.model_validate_json(await request.read())
        weights = self._weights
        if body.path is not None:
            work = weights.update(body.path, body.mode, body.version)
        elif body.state == "begin":
            work = weights.begin(body.mode)
        elif body.state == "end":
            work = weights.end(body.version)
        elif body.state == "failed":
            work = weights.fail()
        else:
            work = weights.abandon()
        try:
            return web.json_response(await weights.to_the_end(work))
        except UsageError as refused:
            return error(409, _words(refused), "weights")
        except ThunderError as failed:
            return error(502, _words(failed), "weights")


def _words(failure: ThunderError) -> str:
    hint = f" ({failure.hint})" if failure.hint else ""
    return "; ".join([failure.message + hint, *failure.details])
