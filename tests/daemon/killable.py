"""A node in a folder of its own, with a real daemon process before stub engines: it can be killed and started again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.commandline import CommandLine, until
from thunderctl.agents.client import DaemonClient
from thunderctl.profile import Profile

STUB = Path(__file__).with_name("stub_engine.py")


@dataclass
class KillableNode:
    """A node folder, and the daemon's process on it."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        return self.home / "nodes" / "n"

    def prepare(self, *, engine: Path | None = None, served: str = "small", **sections: Any) -> None:
        """``engine``: the interpreter of a real engine, which serves the model ``served``; without it the stub."""
        python = engine or self.home / "python"
        self.folder.mkdir(parents=True)
        if engine is None:
            python.write_text(f'#!/bin/sh\nexec {sys.executable} {STUB} "$@"\n')
            python.chmod(0o755)
        profile = Profile.model_validate(
            {
                "name": "test",
                "workers": {"count": 2, "startup_timeout_s": 60, "stop_grace_s": 2},
                "environments": {"backend": "local"},
                **sections,
            }
        )
        launch = {
            "profile": profile.model_dump(mode="json"),
            "engine": {"kind": "cpu", "version": "0", "python": str(python)},
            "model": served,
        }
        (self.folder / "launch.json").write_text(json.dumps(launch))

    def start(self, *, wait: bool = True, patience_s: float = 60) -> None:
        with (self.home / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "thunderctl.daemon", "n"],
                env={**os.environ, "THUNDERCTL_HOME": str(self.home), **self.env},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if wait:
            until(lambda: self.is_up(), patience_s)

    def is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.home / "daemon.log").read_text()
        record = self.folder / "node.json"
        if not record.exists() or json.loads(record.read_text())["pid"] != self.process.pid:
            return False
        try:
            return bool(self.get("/health")["status"] == "ok")
        except OSError:
            return False

    @property
    def url(self) -> str:
        return str(json.loads((self.folder / "node.json").read_text())["url"])

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def client(self) -> DaemonClient:
        return DaemonClient(self.url, token=(self.folder / "token").read_text(), model="small", patience_s=60)

    def programs(self) -> dict[str, Any]:
        """What must be the same after a restart: times go on, and nobody is in the middle of a call."""
        gone_on = {"in_phase_s", "waited_s"}
        return {name: {k: v for k, v in row.items() if k not in gone_on} for name, row in self.get("/programs").items()}

    def end(self) -> None:
        """Stop it in order, and see that nothing of it is left."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        left = CommandLine(self.home).processes()
        for process in left:
            process.kill()
        assert not left, f"{left} outlived an orderly end"
