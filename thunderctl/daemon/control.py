"""The control API: what agents' harnesses and our own command line ask of the daemon beside model calls.

``/programs``, ``/programs/release``, ``/health`` and ``/profiles`` answer as ThunderAgent's router does. Whatever
starts processes or stops the daemon (``/environments``, ``/shutdown``) wants the node's token, which only its owner
can read.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pydantic
from aiohttp import web

from thunderctl.core import events as ev
from thunderctl.core.program import Phase, Program, Status
from thunderctl.daemon.door import web_error as error
from thunderctl.environments.spec import EnvironmentSpec, Mount
from thunderctl.errors import EnvironmentFailure, ThunderError

if TYPE_CHECKING:
    from thunderctl.daemon.node import Node

MAX_TOOL_NAME = 64
_SKIPPED = frozenset({"sudo", "time", "env", "exec", "nohup", "(", "{"})
"""Words before a command that do not say what it does."""
_HERE_DOCUMENT = re.compile(r"<<-?\s*(['\"]?)(\w+)\1[^\n]*\n.*?^\s*\2[ \t]*$", re.DOTALL | re.MULTILINE)
TOKEN_HEADER = "X-Thunderctl-Token"  # noqa: S105 - the name of a header


class ReleaseBody(pydantic.BaseModel):
    program_id: str | int


class ToolBody(pydantic.BaseModel):
    program_id: str | int
    state: Literal["started", "finished"]
    tool: str = pydantic.Field("", max_length=MAX_TOOL_NAME)
    """A short name of what runs, by which its durations are learnt."""


class EnvironmentBody(pydantic.BaseModel):
    """What a client may say of an environment; limits come from the profile."""

    model_config = pydantic.ConfigDict(extra="forbid")

    program: str = pydantic.Field(min_length=1, max_length=256)
    run: str = ""
    image: str | None = None
    files: Path | None = None
    setup: list[str] = []
    env: dict[str, str] = {}
    network: Literal["none", "bridge"] | None = None
    mounts: list[Mount] = []
    ports: list[int] = []
    user: str | None = None
    wait: bool = True
    """Answer when it is ready. Without, it is prepared in time for its program, and commands wait for it."""


class WarmBody(pydantic.BaseModel):
    """Environments to keep ready for a run, until it is over."""

    model_config = pydantic.ConfigDict(extra="forbid")

    run: str = pydantic.Field(min_length=1)
    count: int = pydantic.Field(ge=0, le=1024)
    image: str | None = None
    env: dict[str, str] = {}
    network: Literal["none", "bridge"] | None = None


class RunBody(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    run: str = pydantic.Field(min_length=1)


class ExecBody(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    command: str
    timeout_s: float | None = pydantic.Field(None, gt=0)
    background: bool = False
    """It serves other commands and is no tool by itself: its end does not say that a model call is near."""


class FilesBody(pydantic.BaseModel):
    """Relative path → content in base64."""

    model_config = pydantic.ConfigDict(extra="forbid")

    files: dict[str, str]


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Control:
    """Handlers of everything that is not ``/v1``."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        owner = self.owner_only
        return [
            web.get("/health", self.health),
            web.get("/metrics", self.metrics),
            web.get("/programs", self.programs),
            web.get("/programs/{program:.+}", self.program),
            web.get("/profiles", self.profiles),
            web.post("/programs/release", self.release),
            web.post("/programs/tool", self.tool),
            web.get("/workers", self.workers),
            web.get("/decisions", self.decisions),
            web.get("/samples", self.samples),
            web.get("/environments", self.environments),
            web.post("/environments", owner(self.environment_request)),
            web.post("/environments/warm", owner(self.environments_warm)),
            web.post("/runs/over", owner(self.run_over)),
            web.get("/environments/{lease}", owner(self.environment)),
            web.post("/environments/{lease}/exec", owner(self.environment_exec)),
            web.put("/environments/{lease}/files", owner(self.environment_files)),
            web.delete("/environments/{lease}", owner(self.environment_release)),
            web.get("/disk", self.disk),
            web.post("/shutdown", owner(self.shutdown)),
        ]

    def owner_only(self, handler: Handler) -> Handler:
        """The same, for those who bring the node's token."""

        async def checked(request: web.Request) -> web.StreamResponse:
            if not hmac.compare_digest(request.headers.get(TOKEN_HEADER, ""), self._node.token):
                return error(403, "this wants the node's token", "forbidden")
            try:
                return await handler(request)
            except pydantic.ValidationError as bad:
                first = bad.errors()[0]
                where = ".".join(str(part) for part in first["loc"]) or "the body"
                return error(400, f"{where}: {first['msg']}", "invalid_request_error")
            except EnvironmentFailure as failure:
                return error(409, failure.message, "environment")
            except ThunderError as failure:
                return error(400, failure.message, type(failure).__name__)

        return checked

    # ------------------------------------------------------------------ state

    async def health(self, request: web.Request) -> web.Response:
        node = self._node
        programs = node.shell.scheduler.programs.values()
        return web.json_response(
            {
                "status": "ok" if node.state == "ready" else node.state,
                "phase": node.progress,
                "node": node.name,
                "profile": node.profile.name,
                "digest": node.profile.digest(),
                "policy": node.profile.scheduler.policy,
                "engine": node.profile.engine.kind,
                "time_scale": node.profile.time_scale,
                "wants_key": node.wants_key,
                "pid": node.pid,
                "uptime_s": round(time.monotonic() - node.started, 1),
                "scheduling_enabled": node.profile.scheduler.policy != "baseline",
                "backends": [w["url"] for w in node.worker_rows()],
                "workers": node.worker_rows(),
                "environments": node.environment_summary(),
                "programs_count": len(programs),
                "reasoning_count": sum(p.phase is Phase.REASONING for p in programs),
                "acting_count": sum(p.phase is Phase.ACTING for p in programs),
                "paused_count": sum(p.status is Status.PAUSED for p in programs),
                "held_calls": node.shell.held_calls,
                "weights_version": node.weights.version,
                "resumed": node.resumed,
                "tally": asdict(node.shell.tally),
            }
        )

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(
            body=self._node.metrics.text(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def programs(self, request: web.Request) -> web.Response:
        now = self._node.shell.scheduler.now
        found = self._node.shell.scheduler.programs.values()
        return web.json_response({p.id: _program_row(p, now) for p in found})

    async def program(self, request: web.Request) -> web.Response:
        """One program with its timeline; also one that ended a while ago."""
        name = request.match_info["program"]
        shell = self._node.shell
        known, story = shell.scheduler.programs.get(name), shell.stories.find(name)
        if known is None and story is None:
            return error(404, f"there is no program {name!r}, nor was there one lately", "not_found")
        row = _program_row(known, shell.scheduler.now) if known is not None else {"state": Status.TERMINATED.value}
        told = {
            "began": story.began if story else None,
            "docker_ids": story.docker_ids if story else [],
            "timeline": story.timeline() if story else [],
            "timeline_left_out": story.left_out if story else 0,
        }
        return web.json_response({"program": name, **row, **told})

    async def profiles(self, request: web.Request) -> web.Response:
        found = self._node.shell.scheduler.programs.values()
        return web.json_response(
            {p.id: {"step_count": p.steps, "pause_count": p.pauses, "pause_time_s": p.waited_s} for p in found}
        )

    async def release(self, request: web.Request) -> web.Response:
        try:
            program = str(ReleaseBody.model_validate_json(await request.read()).program_id)
        except pydantic.ValidationError:
            return error(400, "the body must be a JSON object with program_id", "invalid_request_error")
        known = program in self._node.shell.scheduler.programs
        self._node.shell.submit(ev.ProgramReleased(program))
        if not known:
            # It may lease environments without ever having called a model.
            self._node.reclaim(program)
        return web.json_response({"program_id": program, "released": known})

    async def tool(self, request: web.Request) -> web.Response:
        """A tool of the program started or finished, for agents whose tools do not run in our environments."""
        try:
            body = ToolBody.model_validate_json(await request.read())
        except pydantic.ValidationError:
            return error(
                400, "the body must be a JSON object with program_id and state (started or finished)",
                "invalid_request_error",
            )  # fmt: skip
        self._node.tool_told(str(body.program_id), body.state, body.tool)
        return web.json_response({"program_id": str(body.program_id), "state": body.state})

    async def workers(self, request: web.Request) -> web.Response:
        return web.json_response(self._node.worker_rows())

    async def decisions(self, request: web.Request) -> web.Response:
        """What was decided and why: of one program with ``?program=``, the newer ones with ``?since=N``, of all these
        the latest with ``?last=N``."""
        found = self._node.shell.decisions.since(_number(request, "since"))
        program = request.query.get("program")
        chosen = [d for d in found if program is None or d["program"] == program]
        return web.json_response(chosen[-_number(request, "last") :])

    async def samples(self, request: web.Request) -> web.Response:
        if request.query.get("now"):
            await self._node.probe.sample()
        return web.json_response(_newer(self._node.probe.samples, request))

    # ------------------------------------------------------------------ environments

    async def environments(self, request: web.Request) -> web.Response:
        return web.json_response([asdict(lease) for lease in self._node.environments.leases()])

    async def environment(self, request: web.Request) -> web.Response:
        """One lease whole. Values of its variables may be secrets: their names have to do."""
        lease, wanted, moves = self._node.environments.story(request.match_info["lease"])
        told, published = None, dict[int, int]()
        if wanted is not None:
            spec = wanted.spec
            if spec.ports and lease.place is not None and lease.active:
                published = await self._node.environments.backend.ports(lease)
            told = {
                "image": spec.image, "files": str(spec.files) if spec.files else None, "setup": spec.setup,
                "env": sorted(spec.env), "user": spec.user, "workdir": spec.workdir, "git": spec.git,
                "network": wanted.network, "ports": spec.ports, "limits": asdict(wanted.limits),
                "mounts": [
                    {"source": str(m.source), "target": m.target, "writable": m.writable} for m in spec.mounts
                ],
            }  # fmt: skip
        states = [{"state": state, "at": at} for state, at in moves]
        return web.json_response({**asdict(lease), "spec": told, "ports": published, "states": states})

    async def disk(self, request: web.Request) -> web.Response:
        return web.json_response(asdict(await self._node.environments.disk_usage()))

    async def environment_request(self, request: web.Request) -> web.Response:
        body = EnvironmentBody.model_validate_json(await request.read())
        spec = EnvironmentSpec(
            image=body.image, files=body.files, setup=tuple(body.setup), env=body.env, network=body.network,
            mounts=tuple(body.mounts), ports=tuple(body.ports), user=body.user,
        )  # fmt: skip
        environments = self._node.environments
        began = time.monotonic()
        if body.wait:
            lease = await environments.request(body.program, body.run, spec)
        else:
            lease = environments.announce(body.program, body.run, spec)
            self._node.shell.submit(ev.EnvironmentWanted(body.program))
        return web.json_response({**asdict(lease), "prepared_s": time.monotonic() - began})

    async def environments_warm(self, request: web.Request) -> web.Response:
        body = WarmBody.model_validate_json(await request.read())
        spec = EnvironmentSpec(image=body.image, env=body.env, network=body.network)
        self._node.environments.keep_warm(body.run, spec, body.count)
        return web.json_response({"count": body.count})

    async def run_over(self, request: web.Request) -> web.Response:
        """A run has ended: what was kept ready for it goes, and images as ``environments.image_policy`` says."""
        run = RunBody.model_validate_json(await request.read()).run
        await self._node.environments.run_over(run)
        return web.json_response({"run": run})

    async def environment_exec(self, request: web.Request) -> web.Response:
        body = ExecBody.model_validate_json(await request.read())
        lease = request.match_info["lease"]
        environments = self._node.environments
        began = time.monotonic()
        await environments.ready(lease)
        waited = time.monotonic() - began
        if not body.background:
            self._node.tools_to_come[lease] = tool_name(body.command)
        result = await environments.execute(lease, body.command, body.timeout_s, background=body.background)
        prepared = environments.seconds_to_prepare(lease)
        return web.json_response({**asdict(result), "waited_s": waited, "prepared_s": prepared})

    async def environment_files(self, request: web.Request) -> web.Response:
        body = FilesBody.model_validate_json(await request.read())
        try:
            files = {path: base64.b64decode(text, validate=True) for path, text in body.files.items()}
        except binascii.Error:
            return error(400, "files: contents must be base64", "invalid_request_error")
        await self._node.environments.put_files(request.match_info["lease"], files)
        return web.json_response({"written": len(files)})

    async def environment_release(self, request: web.Request) -> web.Response:
        await self._node.environments.release(request.match_info["lease"], request.query.get("why", "")[:200])
        return web.json_response({"released": True})

    async def shutdown(self, request: web.Request) -> web.Response:
        self._node.stop()
        return web.json_response({"stopping": True})


def _program_row(program: Program, now: float) -> dict[str, Any]:
    """ThunderAgent's keys first (its words: our phase is its status, our status its state), then ours."""
    return {
        "backend": program.worker,
        "context_len": program.context_tokens,
        "total_tokens": program.tokens,
        "step_count": program.steps,
        "status": program.phase.value,
        "state": program.status.value,
        "origin": program.origin,
        "group": program.group,
        "in_flight": program.in_flight,
        "held": len(program.calls) - program.in_flight,
        "pauses": program.pauses,
        "waited_s": round(program.waited_s, 3),
        "in_phase_s": round(max(0.0, now - program.since), 3),
    }


def tool_name(command: str) -> str:
    """A short name for what a command line runs, by which its durations are learnt: ``cd x && python -m pytest -q``
    is ``pytest``. Of several commands the last one counts, of a pipeline the first."""
    command = _HERE_DOCUMENT.sub("", command)
    words = re.split(r"&&|;|\n", command.strip().rstrip(";& \n"))[-1].split("|")[0].split()
    while words and (words[0] in _SKIPPED or "=" in words[0]):
        del words[0]
    if len(words) > 2 and words[0].startswith("python") and words[1] == "-m":
        del words[:2]
    return words[0].rpartition("/")[2][:MAX_TOOL_NAME] if words else ""


def _number(request: web.Request, name: str) -> int:
    """A number of the query; 0 if there is none that can be understood."""
    try:
        return max(0, int(request.query.get(name, "0")))
    except ValueError:
        return 0


def _newer(records: Any, request: web.Request) -> list[dict[str, Any]]:
    """Records numbered above ``?since=N``, oldest first."""
    since = _number(request, "since")
    return [record for record in records if record["n"] > since]
