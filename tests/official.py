"""The official evaluation's package, for tests that run it."""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path

from thunderctl import paths


def swebench_python() -> Path:
    """A Python that has ``swebench``: ``THUNDERCTL_TEST_SWEBENCH_PYTHON`` names it; else it is installed, once."""
    given = os.environ.get("THUNDERCTL_TEST_SWEBENCH_PYTHON")
    if given:
        return Path(given)
    folder = paths.cache() / "tests" / "swebench"
    python = folder / "bin" / "python"
    if not (folder / "done").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "swebench>=5,<6"], check=True)
        (folder / "done").touch()
    return python
