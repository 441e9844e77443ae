"""What tests of what people see have in common: an engine that counts, and a profile that uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commandline import CommandLine, until

ENGINE = Path(__file__).with_name("counting_engine.py")


@dataclass(frozen=True)
class Counting:
    """A node that is up before an engine without arithmetic, and a trace that it can run at once."""

    cli: CommandLine
    trace: Path

    def run(self, agents: int, seconds: int, *more: str) -> list[str]:
        return ["run", "trace", "--trace", str(self.trace), "--agents", str(agents), "--duration", str(seconds), *more]

    def argv(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "thunderctl.cli.main", *args]


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counting]:
    """Its 256 programs are of a thousand tokens with short tools: together more than the KV cache holds."""
    folder = tmp_path_factory.mktemp("counting")
    port, profile, trace = folder / "port", folder / "counting.yaml", folder / "short.jsonl"
    steps = [[20, 0, 40, 0.2]] * 200
    programs = [{"id": f"p{n}", "first_prompt": 900 + n, "gap": "tool", "steps": steps} for n in range(256)]
    trace.write_text("".join(json.dumps(program) + "\n" for program in programs))
    engine = subprocess.Popen([sys.executable, str(ENGINE), str(port)])
    cli = CommandLine(folder / "home")
    try:
        until(port.exists, 60)
        profile.write_text(
            "engine: {kind: external}\n"
            "model: {served_name: small}\n"
            f"workers: {{urls: ['http://127.0.0.1:{port.read_text()}'], replay: true}}\n"
            "environments: {backend: local}\n"
        )
        up = cli.run("up", str(profile))
        assert up.returncode == 0, up.stderr
        yield Counting(cli, trace)
    finally:
        cli.run("down")
        engine.terminate()
        engine.wait(30)
