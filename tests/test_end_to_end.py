"""The whole path for real: a vLLM on the CPU, the daemon, agents, environments, a stored run and its report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import docker
import psutil
import pytest

from tests.commandline import ENGINE, LOCAL, CommandLine, until
from tests.report.recompute import differences
from thunderctl.core.policies import make_policy
from thunderctl.core.scheduler import Scheduler
from thunderctl.daemon import journal

pytestmark = pytest.mark.engine

QUICK = ["--task", "fieldpress__cut-in-quotes-1590", "--task", "stratum__double-dollar-0412"]


def test_one_command_leads_from_nothing_to_a_report_that_its_folder_bears_out(cli: CommandLine) -> None:
    summary = cli.json("run", "swebench", "--agents", "3", "-p", "laptop", *LOCAL, *QUICK)
    assert summary["agents"]["by_status"] == {"submitted": 3}
    assert summary["agents"]["resolved"] == 3
    assert summary["kind"] == "replay" and summary["tasks_are"].startswith("bundled")
    folder = Path(summary["folder"])
    assert differences(folder, summary) == []
    assert cli.json("report")["hit_rate"] == summary["hit_rate"]
    # The client's exact sums and the engine's own counters see the same cache (the engine counts the same tokens).
    assert abs(summary["hit_rate"] - summary["engine_hit_rate"]) < 0.02
    assert summary["hit_rate"] > 0.85 and summary["scheduler"]["pauses"] == 0
    predictions = json.loads((folder / "preds.json").read_text())
    assert all(set(p) == {"model_name_or_path", "instance_id", "model_patch"} for p in predictions.values())
    assert (folder / "report.html").read_text().lower().startswith("<!doctype html>")
    assert cli.nothing_runs()
    assert cli.run("gc", "--dry-run").stdout.strip() == "nothing to collect"


def test_up_and_down_converge_on_what_is_asked(cli: CommandLine) -> None:
    first = cli.json("up", "laptop", *LOCAL)
    again = cli.json("up", "laptop", *LOCAL)
    assert (first["was_up"], again["was_up"]) == (False, True)
    assert again["health"]["pid"] == first["health"]["pid"]
    assert cli.json("status")["workers"][0]["capacity_tokens"] == 524288
    changed = cli.json("up", "laptop", *LOCAL, "-c", "workers.kv_tokens=65536")
    assert changed["health"]["workers"][0]["capacity_tokens"] == 65536
    assert not psutil.pid_exists(first["health"]["pid"])
    streams_pass(changed["url"])
    # A run uses what is up and leaves it up; it does not replace another profile's node.
    refused = cli.run("run", "swebench", "-p", "laptop", *LOCAL)
    assert refused.returncode == 2 and "another profile" in refused.stderr
    summary = cli.json("run", "swebench", "--agents", "1", *QUICK)
    assert summary["agents"]["resolved"] == 1
    health = cli.json("status")
    assert health["pid"] == changed["health"]["pid"] and health["programs_count"] == 0
    assert cli.json("ps") == {}
    replay_matches(cli.home / "nodes" / "default" / "state.db")
    assert cli.json("down")["was_up"] is True
    assert cli.json("down")["was_up"] is False
    assert cli.nothing_runs()


def streams_pass(url: str) -> None:
    """Chat and plain completions, streamed and not, through the gateway to the real engine."""
    chat = {"messages": [{"role": "user", "content": "Say something."}], "vllm_xargs": {"replay": "Something."}}
    for path, body in (("chat/completions", chat), ("completions", {"prompt": "Once upon"})):
        for stream in (False, True):
            sent = {"model": "small", "max_tokens": 8, "program_id": f"{path}-{stream}", "stream": stream, **body}
            request = urllib.request.Request(f"{url}/v1/{path}", json.dumps(sent).encode())
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read().decode()
                assert answer.headers["X-Thunderctl-Worker"] == "w0"
            if stream:
                events = [json.loads(line[6:]) for line in text.split("\n\n") if line and line != "data: [DONE]"]
                assert text.endswith("data: [DONE]\n\n") and all("usage" not in e or not e["usage"] for e in events)
                said = "".join(e["choices"][0].get("delta", {}).get("content") or "" for e in events)
            else:
                assert json.loads(text)["usage"]["completion_tokens"] > 0
                said = json.loads(text)["choices"][0].get("message", {}).get("content", "")
            assert path == "completions" or said == "Something."
    with urllib.request.urlopen(f"{url}/programs", timeout=10) as answer:
        programs = json.load(answer)
    assert {p["status"] for p in programs.values()} == {"acting"} and len(programs) == 4
    assert all(p["context_len"] > 0 for p in programs.values())
    for name in programs:
        release = urllib.request.Request(f"{url}/programs/release", json.dumps({"program_id": name}).encode())
        with urllib.request.urlopen(release, timeout=10) as answer:
            assert json.load(answer) == {"program_id": name, "released": True}


def replay_matches(state: Path) -> None:
    """The journal of the live daemon gives the same admissions when it is replayed, twice."""
    boot, _started, settings = journal.boots(state)[-1]
    seen = []
    for _ in range(2):
        scheduler = Scheduler(make_policy(str(settings["policy"])), program_ttl_s=float(str(settings["program_ttl_s"])))
        seen.append([repr(item) for item in journal.replay(state, boot, scheduler)])
    assert seen[0] == seen[1]
    assert sum("Admit" in line for line in seen[0]) > 20


def test_ctrl_c_while_coming_up_leaves_nothing(cli: CommandLine) -> None:
    process = cli.start("up", "laptop", *LOCAL)
    until(lambda: any("vllm" in " ".join(p.cmdline()) for p in cli.processes() if p.is_running()), 120)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=90)
    assert process.returncode == 130
    assert cli.nothing_runs() and not list(cli.home.glob("nodes/*/node.json"))


def test_ctrl_c_during_a_run_stores_what_was_done_and_takes_everything_down(cli: CommandLine) -> None:
    process = cli.start("run", "swebench", "--agents", "4", "-p", "laptop", *LOCAL)
    until(lambda: any(f.stat().st_size for f in cli.home.glob("runs/*/steps.jsonl")), 240)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=90)
    assert process.returncode == 130
    assert cli.nothing_runs()
    summary = cli.json("report")
    assert summary["complete"] is False and summary["throughput"]["steps"] >= 1


def test_a_worker_that_cannot_start_is_reported_in_its_own_words_and_taken_down(cli: CommandLine) -> None:
    done = cli.run("up", "laptop", *LOCAL, "-c", "workers.extra_args=['--max-model-len', '-5']")
    assert done.returncode == 3
    assert "max" in done.stderr and "Traceback" not in done.stderr
    assert cli.nothing_runs()


def test_a_full_disk_is_one_clear_message(cli: CommandLine) -> None:
    cli.home.mkdir()
    inside = f"mount -t tmpfs -o size=1m none {cli.home} && exec {sys.executable} -m thunderctl.cli.main run swebench"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside],
        env=cli.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("error:") == 1 and "disk space" in done.stderr and str(cli.home) in done.stderr
    assert cli.nothing_runs()


@pytest.mark.docker
def test_after_kill_9_of_run_and_daemon_gc_finds_and_removes_everything_of_ours_only(cli: CommandLine) -> None:
    engine = docker.from_env()
    run = cli.start(
        "run", "swebench", "--agents", "4", "-p", "laptop", *ENGINE, "-c", "environments.backend=docker", "--keep"
    )
    until(lambda: any(f.stat().st_size for f in cli.home.glob("runs/*/steps.jsonl")), 600)
    owner = {"label": f"thunderctl.owner={(cli.home / 'owner').read_text().strip()}"}
    ours = engine.containers.list(all=True, filters=owner)
    foreign = engine.containers.run(ours[0].image.id, ["sleep", "600"], detach=True)
    try:
        daemon = json.loads(next(cli.home.glob("nodes/*/node.json")).read_text())["pid"]
        run.kill()
        os.kill(daemon, signal.SIGKILL)
        run.communicate()
        until(lambda: not psutil.pid_exists(daemon), 10)
        plan = cli.json("gc", "--dry-run")
        assert len([i for i in plan["items"] if i["kind"] == "container"]) >= len(ours)
        assert any(i["kind"] == "process" for i in plan["items"])
        assert engine.containers.list(all=True, filters=owner), "a dry run removes nothing"
        cli.json("gc", "--yes")
        assert engine.containers.list(all=True, filters=owner) == []
        until(cli.nothing_runs)  # the reaper looks once a second
        assert cli.json("gc")["items"] == []
        foreign.reload()
        assert foreign.status == "running"
    finally:
        foreign.remove(force=True)
        engine.close()
