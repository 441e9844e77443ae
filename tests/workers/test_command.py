"""The whole command line and environment of servers, for profiles as people have them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from thunderctl import paths
from thunderctl.errors import UsageError
from thunderctl.profile import Profile
from thunderctl.workers.catalogue import step_cost
from thunderctl.workers.inside.thunderctl_timing import from_json
from thunderctl.workers.launch import serve_command
from thunderctl.workers.model import INSIDE

QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


@pytest.fixture(autouse=True)
def _no_gpus_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def profile(**sections: Any) -> Profile:
    return Profile.model_validate({"name": "test", **sections})


LAPTOP = profile(
    model={"source": "small", "served_name": "small", "max_model_len": 32768},
    workers={"kv_tokens": 61440, "block_size": 32, "threads": 2, "replay": True},
)
ONE_GPU = profile(
    engine={"kind": "cuda"},
    model={"source": "Qwen/Qwen3-8B", "tool_call_parser": "hermes", "reasoning_parser": "qwen3"},
    workers={"gpu_memory_utilization": 0.9, "max_num_seqs": 256},
)
EIGHT_GPUS = profile(
    engine={"kind": "cuda"},
    model={
        "source": "zai-org/GLM-4.6-FP8",
        "served_name": "glm-4.6",
        "max_model_len": 131072,
        "tool_call_parser": "glm45",
        "reasoning_parser": "glm45",
    },
    workers={"tensor_parallel": 8, "extra_args": ["--enable-expert-parallel"], "env": {"NCCL_DEBUG": "WARN"}},
)


def test_a_laptop_serves_the_small_model_with_replay() -> None:
    command = serve_command(LAPTOP, 0, 8001, Path("/engine/bin/python"), Path("/models/small-1"))
    assert command.argv == shlex.split(
        "/engine/bin/python -m vllm.entrypoints.launchers.api_server.entry --model /models/small-1"
        " --served-model-name small --host 127.0.0.1 --port 8001"
        " --enable-prompt-tokens-details --disable-uvicorn-access-log"
        " --enable-auto-tool-choice --tool-call-parser hermes --distributed-executor-backend uni"
        " --logits-processors thunderctl_replay:Replay"
        " --max-model-len 32768 --load-format dummy --enforce-eager"
        " --block-size 32 --num-gpu-blocks-override 1920 --kv-cache-memory-bytes 1073741824"
    )
    assert command.env == QUIET | {
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "2",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "TORCHDYNAMO_DISABLE": "1",
        "PYTHONPATH": str(INSIDE),
        "VLLM_USE_V2_MODEL_RUNNER": "0",
        "THUNDERCTL_REPLAY_TOKENIZER": json.dumps(
            {"model": "/models/small-1", "revision": None, "trust_remote_code": False}
        ),
    }


def test_one_gpu_serves_a_model_of_the_hub() -> None:
    command = serve_command(ONE_GPU, 0, 8001, Path("/engine/bin/python"), "Qwen/Qwen3-8B")
    assert command.argv == shlex.split(
        "/engine/bin/vllm serve Qwen/Qwen3-8B --served-model-name Qwen/Qwen3-8B --host 127.0.0.1 --port 8001"
        " --enable-prompt-tokens-details --disable-uvicorn-access-log"
        " --enable-auto-tool-choice --tool-call-parser hermes --reasoning-parser qwen3"
        " --gpu-memory-utilization 0.9 --max-num-seqs 256"
    )
    assert command.env == QUIET | {"CUDA_VISIBLE_DEVICES": "0"}


def test_eight_gpus_serve_one_model_tensor_parallel() -> None:
    command = serve_command(EIGHT_GPUS, 0, 8001, None, None)
    assert command.argv == shlex.split(
        "vllm serve zai-org/GLM-4.6-FP8 --served-model-name glm-4.6 --host 127.0.0.1 --port 8001"
        " --enable-prompt-tokens-details --disable-uvicorn-access-log"
        " --enable-auto-tool-choice --tool-call-parser glm45 --reasoning-parser glm45"
        " --max-model-len 131072 --tensor-parallel-size 8 --enable-expert-parallel"
    )
    assert command.env == QUIET | {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7", "NCCL_DEBUG": "WARN"}


def test_an_emulated_worker_is_the_cpu_engine_with_a_gpus_sizes_and_no_model() -> None:
    emulated = profile(
        engine={"kind": "emulated"},
        model={"served_name": "glm-4.6", "max_model_len": 131072},
        emulation={"gpu": "h100-sxm", "model": "glm-4.6-fp8", "draft_tokens": 3},
        workers={"tensor_parallel": 8, "kv_tokens": 574_000, "max_num_batched_tokens": 16384},
    )
    command = serve_command(emulated, 0, 8001, Path("/engine/bin/python"), Path("/models/small-1"))
    assert command.argv == [
        *shlex.split(
            "/engine/bin/python -m vllm.entrypoints.launchers.api_server.entry --model /models/small-1"
            " --served-model-name glm-4.6 --host 127.0.0.1 --port 8001"
            " --enable-prompt-tokens-details --disable-uvicorn-access-log"
            " --enable-auto-tool-choice --tool-call-parser hermes"
            " --distributed-executor-backend uni --logits-processors thunderctl_emulated:Checks"
            " --max-model-len 131072 --load-format dummy --enforce-eager"
            " --worker-cls thunderctl_emulated.EmulatedWorker"
            " --block-size 16 --num-gpu-blocks-override 35875 --max-num-seqs 256 --max-num-batched-tokens 16384"
        ),
        "--hf-overrides",
        '{"max_position_embeddings": 131072}',
        "--speculative-config",
        '{"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4}',
    ]
    told = json.loads(command.env["THUNDERCTL_EMULATION"])
    assert (told["kv_tokens"], told["time_scale"], told["acceptance"]) == (574_000, 1.0, 0.7)
    assert from_json(json.dumps(told["cost"])) == step_cost("h100-sxm", "glm-4.6-fp8", 8)
    assert command.env["OMP_NUM_THREADS"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in command.env


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"emulation": {"gpu": "h100-sxm"}}, "emulation is only for engine.kind emulated"),
        ({"engine": {"kind": "emulated"}}, "wants emulation.gpu and emulation.model"),
        (
            {"engine": {"kind": "emulated"}, "emulation": {"costs": "c.json", "gpu": "h200"}},
            "takes the place of emulation.gpu",
        ),
        ({"engine": {"kind": "emulated"}, "emulation": {"costs": "c.json"}}, "workers.kv_tokens is required"),
        (
            {"engine": {"kind": "emulated"}, "emulation": {"gpu": "h200", "model": "m"}, "model": {"source": "x"}},
            "model.source must be small",
        ),
        ({"engine": {"kind": "emulated"}, "emulation": {"gpu": "h200", "model": "m", "time_scale": 0}}, "time_scale"),
    ],
)
def test_an_emulation_that_contradicts_itself_is_refused(sections: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        profile(**sections)


def test_a_file_of_costs_that_is_none_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text('{"cost": {"kind": "measured"}}')
    emulated = profile(
        engine={"kind": "emulated"}, emulation={"costs": str(tmp_path / "costs.json")}, workers={"kv_tokens": 16384}
    )
    with pytest.raises(UsageError, match=r"costs\.json is no file of costs"):
        serve_command(emulated, 0, 8001, None, None)


def test_gpus_are_dealt_out_in_blocks_of_tensor_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    def visible(index: int, **workers: Any) -> str:
        two = profile(engine={"kind": "cuda"}, workers={"count": 2, "tensor_parallel": 2, **workers})
        return serve_command(two, index, 1, None, "m").env["CUDA_VISIBLE_DEVICES"]

    assert [visible(0), visible(1)] == ["0,1", "2,3"]
    assert [visible(i, gpus=[7, 5, 3, 1]) for i in (0, 1)] == ["7,5", "3,1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 5,GPU-a,GPU-b")  # as a batch system gives them
    assert [visible(0), visible(1)] == ["4,5", "GPU-a,GPU-b"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES, which lists 2"):
        visible(1)


def test_the_shell_line_can_be_pasted(tmp_path: Path) -> None:
    odd = profile(model={"source": str(tmp_path), "served_name": "it's $HOME"}, workers={"env": {"A": "b c"}})
    command = serve_command(odd, 0, 8001, None, None)
    words = shlex.split(command.shell_line())
    settings = [f"{name}={value}" for name, value in command.env.items()]
    assert words == [*settings, *command.argv]
    assert "HF_HUB_OFFLINE=1" in words


def test_an_engine_without_launchers_is_started_through_its_older_module(tmp_path: Path) -> None:
    entrypoints = tmp_path / "lib" / "python3.11" / "site-packages" / "vllm" / "entrypoints"
    entrypoints.mkdir(parents=True)
    python = tmp_path / "bin" / "python"
    assert "vllm.entrypoints.openai.api_server" in serve_command(LAPTOP, 0, 1, python, None).argv
    (entrypoints / "launchers" / "api_server").mkdir(parents=True)
    (entrypoints / "launchers" / "api_server" / "entry.py").touch()
    assert "vllm.entrypoints.launchers.api_server.entry" in serve_command(LAPTOP, 0, 1, python, None).argv


def test_a_cache_smaller_than_the_small_models_context_shortens_the_context() -> None:
    tiny = profile(workers={"kv_tokens": 4096})
    argv = serve_command(tiny, 0, 1, None, None).argv
    assert argv[argv.index("--max-model-len") + 1] == "4064"
    assert argv[argv.index("--model") + 1] == str(paths.models() / "small")
    assert "--max-model-len" not in serve_command(profile(workers={"kv_tokens": 131072}), 0, 1, None, None).argv


def test_the_doors_for_other_weights_are_open_only_where_a_profile_asks_for_them() -> None:
    shut = serve_command(LAPTOP, 0, 1, None, None)
    assert "VLLM_SERVER_DEV_MODE" not in shut.env
    assert shut.argv[shut.argv.index("--load-format") + 1] == "dummy"
    open_ = serve_command(profile(workers={"weight_updates": True}), 0, 1, None, None)
    assert open_.env["VLLM_SERVER_DEV_MODE"] == "1"
    assert open_.argv[open_.argv.index("--host") + 1] == "127.0.0.1"
    # Made-up weights cannot be loaded again: the model's own are read.
    assert "--load-format" not in open_.argv


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"workers": {"env": {"VLLM_SERVER_DEV_MODE": "1"}}}, "must not set VLLM_SERVER_DEV_MODE"),
        ({"workers": {"weight_updates": True, "extra_args": ["--host", "0.0.0.0"]}}, "must not say where to listen"),
        ({"workers": {"kv_tokens": 40}}, "less than two blocks of 32"),
        ({"engine": {"kind": "external"}, "workers": {"urls": ["http://localhost:1"]}}, "not started by thunderctl"),
    ],
)
def test_what_must_not_be_started_is_refused(sections: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        serve_command(profile(**sections), 0, 1, None, None)
