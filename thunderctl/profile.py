"""What a profile may say: the schema, units and defaults of every key.

Reading files, ``extends:``, overrides and error positions live in ``profile_files.py``; nothing here does I/O.
Unknown keys are refused everywhere. Sizes are in the unit that the key's name ends in.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class EngineSpec(_Section):
    """Which vLLM runs, and where its interpreter comes from."""

    kind: Literal["cpu", "cuda", "emulated", "external"] = "cpu"
    """``cpu`` and ``cuda`` are installed on first use; ``emulated`` is the CPU engine with a GPU's time model in place
    of arithmetic (section ``emulation``); ``external`` means servers that somebody else runs."""
    version: str | None = None
    """vLLM version; without it the version that this thunderctl was locked to."""
    python: Path | None = None
    """An existing interpreter that has vLLM; nothing is installed then."""

    @property
    def environment(self) -> Literal["cpu", "cuda", "external"]:
        """The engine environment that it runs in."""
        return "cpu" if self.kind == "emulated" else self.kind


class ModelSpec(_Section):
    """The model that every worker serves."""

    source: str = "small"
    """``small`` (a two-layer random Llama, generated locally), a folder, or a Hugging Face name."""
    served_name: str | None = None
    """Name that clients use; without it the source's own name."""
    revision: str | None = None
    max_model_len: int | None = Field(default=None, gt=0)
    """Longest context in tokens; without it the model's own."""
    dtype: str | None = None
    load_format: str | None = None
    """vLLM's ``--load-format``. Without it ``small`` gets made-up weights (``dummy``), or, with
    ``workers.weight_updates``, those in its folder (``auto``), which can be loaded again."""
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    trust_remote_code: bool = False


class EmulationSpec(_Section):
    """``engine.kind: emulated`` only: what the workers pretend to be (see ``thunderctl/workers/catalogue.py``)."""

    gpu: str | None = None
    """A GPU of the catalogue; ``workers.tensor_parallel`` says how many of them make a worker."""
    model: str | None = None
    """A model of the catalogue."""
    costs: Path | None = None
    """A file that ``thunderctl calibrate`` wrote, in place of ``gpu`` and ``model``."""
    time_scale: float = Field(default=1.0, gt=0)
    """Seconds that an emulated second takes here: above 1 for hosts that cannot keep pace."""
    draft_tokens: int = Field(default=0, ge=0, le=16)
    """Speculative decoding: tokens proposed for each step; 0 is none."""
    acceptance: float = Field(default=0.7, ge=0, le=1)
    """Probability that a proposed token is right, if those before it were."""


class WorkerSpec(_Section):
    """How many vLLM servers, and how each is sized. One server is one data-parallel worker."""

    count: int = Field(default=1, ge=1, le=256)
    tensor_parallel: int = Field(default=1, ge=1)
    gpus: list[int] | None = None
    """GPU indices to use, dealt out in blocks of ``tensor_parallel``; without it 0, 1, 2, …"""
    kv_tokens: int | None = Field(default=None, gt=0)
    """KV capacity of each worker in tokens (rounded down to whole blocks); without it what the engine finds."""
    kv_gib: float | None = Field(default=None, gt=0)
    """CPU engine only: memory set aside for the KV cache, in GiB."""
    block_size: int | None = Field(default=None, gt=0)
    """Tokens in a KV block; the CPU engine wants a multiple of 32."""
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    max_num_seqs: int | None = Field(default=None, gt=0)
    max_num_batched_tokens: int | None = Field(default=None, gt=0)
    threads: int | None = Field(default=None, gt=0)
    """CPU engine only: OpenMP threads; without it the number of cores."""
    replay: bool = False
    """Load the logits processor that lets a request carry a recorded answer (``vllm_xargs.replay``)."""
    weight_updates: bool = False
    """Let a trainer change the model's weights while agents work (``POST /v1/rollout/weights``). The servers then open
    vLLM's unauthenticated control paths, on loopback only; the gateway passes none of them on."""
    weight_update_timeout_s: float = Field(default=600, gt=0)
    """Longest wait for calls in flight before an update, and for a trainer that began to transfer weights by itself."""
    env: dict[str, str] = Field(default_factory=dict)
    """Extra environment variables of the server process."""
    extra_args: list[str] = Field(default_factory=list)
    """Appended to the ``vllm serve`` line as they are."""
    urls: list[str] = Field(default_factory=list)
    """``external`` only: base URLs of the servers, without ``/v1``."""
    startup_timeout_s: float = Field(default=600, gt=0)
    stop_grace_s: float = Field(default=10, gt=0)
    """Seconds between SIGTERM and SIGKILL."""


class SchedulerSpec(_Section):
    """Which policy schedules programs, and its knobs (see ``thunderctl/core/policies``)."""

    policy: str = "thunder"
    options: dict[str, float | int | bool | str] = Field(default_factory=dict)


class GatewaySpec(_Section):
    """The HTTP door that agents use."""

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    """0 lets the kernel choose; ``thunderctl status`` tells which."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key clients must send. Required off loopback."""
    max_body_mib: float = Field(default=64, gt=0)
    connections_per_worker: int = Field(default=2048, gt=0)
    connect_timeout_s: float = Field(default=5, gt=0)
    read_timeout_s: float = Field(default=3600, gt=0)
    """Longest silence of a worker in the middle of an answer."""
    retries: int = Field(default=2, ge=0, le=10)
    """Further attempts after a failed connection; never once a byte of the answer has arrived."""
    max_held: int = Field(default=65536, gt=0)
    """Calls that may wait for admission; further ones that would wait are answered 503 with Retry-After."""
    program_ttl_s: float = Field(default=1800, gt=0)
    """A program that was silent for so long is released."""


class ToolEnvironmentSpec(_Section):
    """Where tools run, and what an environment may use at most."""

    backend: Literal["auto", "docker", "local"] = "auto"
    """``auto`` is Docker where an engine answers, else ``local``."""
    image: str | None = None
    """Docker image; without it the one that the workload names."""
    cpus: float = Field(default=1.0, gt=0)
    memory_mib: int = Field(default=1024, ge=16)
    pids: int = Field(default=256, ge=8)
    exec_timeout_s: float = Field(default=60, gt=0)
    """Deadline of one command; its whole process tree dies with it."""
    output_bytes: int = Field(default=1_000_000, ge=1000)
    """Output kept of one command: the first and the last half."""
    wall_s: float = Field(default=43_200, gt=0)
    """Longest life of an environment; then it is reclaimed, and its agent is told."""
    disk_mib: int = Field(default=10_240, ge=16)
    """What an environment may write; a tool that goes beyond it is ended."""
    network: Literal["none", "bridge"] = "none"
    """``bridge`` is one network that all environments share without seeing each other."""
    prepare_ahead: int = Field(default=32, ge=0)
    """Most environments prepared for programs that still wait for a place: fewer, if the queue moves slowly. 0 prepares
    each when its program gets its place."""
    concurrent_creates: int = Field(default=8, ge=1)
    concurrent_reclaims: int = Field(default=8, ge=1)
    concurrent_pulls: int = Field(default=3, ge=1)
    pulls_per_hour: int | None = Field(default=None, gt=0)
    """Registries count pulls (100 in six hours for anonymous users of some); without it there is no limit."""
    reap_after_s: float = Field(default=30, ge=0)
    """Seconds after the daemon was killed until the reaper collects what it held; a daemon that is back by then goes on
    with it."""
    image_policy: Literal["keep", "run", "budget"] = "keep"
    """What becomes of images that were pulled or built here: ``keep`` them, remove those of a ``run`` when it is over
    and no lease needs them, or remove the least recently used when they exceed a ``budget``."""
    image_budget_gib: float = Field(default=50, gt=0)
    """``budget``: above so much, unused images go, the least recently used first …"""
    image_budget_low_gib: float | None = Field(default=None, gt=0)
    """… until so much is left; without it 80% of ``image_budget_gib``."""

    @model_validator(mode="after")
    def _marks_agree(self) -> ToolEnvironmentSpec:
        if self.image_budget_low_gib is not None and self.image_budget_low_gib > self.image_budget_gib:
            raise ValueError("image_budget_low_gib must not exceed image_budget_gib")
        return self


class RoleModelSpec(_Section):
    """Who serves one role of a workload that speaks with several models, what that costs, and how much of it is had at
    once. In replay every role is served by this cluster, since only its engine can be told what to answer."""

    base_url: str | None = None
    """OpenAI-compatible server of somebody else, up to and including ``/v1``; without it this cluster's own engine."""
    model: str | None = None
    """The model's name there; only, and always, beside ``base_url``."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key for it. The key itself stands nowhere."""
    input_usd_per_mtok: float = Field(default=0.0, ge=0)
    """Price of a million prompt tokens, in US dollars."""
    output_usd_per_mtok: float = Field(default=0.0, ge=0)
    """Price of a million tokens of answers, in US dollars."""
    concurrency: int = Field(default=8, ge=1)
    """``base_url`` only: calls at once, of all agents together; further ones wait."""
    max_tokens: int | None = Field(default=None, ge=1)
    """``base_url`` only: longest answer in tokens; without it the workload's ``limits.output_tokens``."""
    timeout_s: float = Field(default=300, gt=0)
    """``base_url`` only: longest wait for one answer."""


def _check_role(at: str, said: RoleModelSpec) -> None:
    if (said.base_url is None) != (said.model is None):
        raise ValueError(f"{at}.base_url and {at}.model go together: say both, or neither for this cluster's engine")
    if said.base_url is None:
        if said.api_key_env is not None:
            raise ValueError(f"{at}.api_key_env is only for a role that has a base_url")
        return
    address = urlsplit(said.base_url)
    if address.scheme not in ("http", "https") or not address.hostname or address.username or address.password:
        raise ValueError(f"{at}.base_url must be like https://HOST/v1, without a user or a password")
    if said.api_key_env and address.scheme == "http" and address.hostname not in LOOPBACK:
        raise ValueError(f"{at}.base_url must be https where a key is sent to another machine")


class RunSpec(_Section):
    """Defaults of ``thunderctl run``; its options win."""

    agents: int = Field(default=8, ge=1)
    max_error_share: float = Field(default=0.2, ge=0, le=1)
    """A run ends early, with exit code 4, once more than this share of its agents failed."""


class Profile(_Section):
    """Everything that ``thunderctl up`` converges on."""

    name: str
    description: str = ""
    engine: EngineSpec = Field(default_factory=EngineSpec)
    model: ModelSpec = Field(default_factory=ModelSpec)
    emulation: EmulationSpec = Field(default_factory=EmulationSpec)
    workers: WorkerSpec = Field(default_factory=WorkerSpec)
    scheduler: SchedulerSpec = Field(default_factory=SchedulerSpec)
    gateway: GatewaySpec = Field(default_factory=GatewaySpec)
    environments: ToolEnvironmentSpec = Field(default_factory=ToolEnvironmentSpec)
    models: dict[str, RoleModelSpec] = Field(default_factory=dict)
    """By role, for workloads with several models (``hle-routing``); a role that is not named is served by this cluster
    and costs nothing."""
    runs: RunSpec = Field(default_factory=RunSpec)

    @model_validator(mode="after")
    def _sections_agree(self) -> Profile:
        external = self.engine.kind == "external"
        if external and len(self.workers.urls) == 0:
            raise ValueError("workers.urls must name at least one server when engine.kind is external")
        if not external and self.workers.urls:
            raise ValueError("workers.urls is only for engine.kind external")
        if external and self.workers.weight_updates:
            raise ValueError("workers.weight_updates wants workers that thunderctl starts: engine.kind is external")
        if self.workers.weight_updates and self.model.load_format == "dummy":
            raise ValueError(
                "workers.weight_updates wants weights that are read from files: model.load_format is dummy"
            )
        self._check_emulation()
        if self.engine.kind == "cpu" and (self.workers.block_size or 32) % 32:
            raise ValueError("workers.block_size must be a multiple of 32 on the CPU engine")
        gpus = self.workers.gpus
        if gpus is not None and len(gpus) < self.workers.count * self.workers.tensor_parallel:
            raise ValueError(
                f"workers.gpus lists {len(gpus)} GPUs, but workers.count × workers.tensor_parallel "
                f"needs {self.workers.count * self.workers.tensor_parallel}"
            )
        if self.gateway.host not in LOOPBACK and not self.gateway.api_key_env:
            raise ValueError("gateway.api_key_env is required when gateway.host is not a loopback address")
        for role, said in self.models.items():
            _check_role(f"models.{role}", said)
        return self

    def _check_emulation(self) -> None:
        said = self.emulation
        if self.engine.kind != "emulated":
            if said != EmulationSpec():
                raise ValueError("emulation is only for engine.kind emulated")
            return
        if said.costs is not None:
            if said.gpu or said.model:
                raise ValueError("emulation.costs takes the place of emulation.gpu and emulation.model: say either")
            if self.workers.kv_tokens is None:
                raise ValueError("emulation.costs says nothing of memory: workers.kv_tokens is required beside it")
        elif not (said.gpu and said.model):
            raise ValueError("engine.kind emulated wants emulation.gpu and emulation.model (or emulation.costs)")
        if self.model.source != "small":
            raise ValueError("model.source must be small when engine.kind is emulated: only its tokenizer is used")

    @property
    def time_scale(self) -> float:
        """Seconds that a second of this node takes on the wall; 1 unless it is emulated."""
        return self.emulation.time_scale

    @property
    def can_replay(self) -> bool:
        """Whether a request may carry the answer that it is to get."""
        return self.workers.replay or self.engine.kind in ("emulated", "external")

    @property
    def served_name(self) -> str:
        """The model name that clients put into their requests."""
        return self.model.served_name or self.model.source

    def digest(self) -> str:
        """Hash of everything that is said; ``up`` converges by it."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
