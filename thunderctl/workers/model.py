"""The ``small`` model: a random two-layer Llama that is generated here, so that a laptop needs no download.

What it looks like is said in ``inside/make_small_model.py``, which runs in the engine's interpreter; this file finds
it a folder. The folder's name is a hash of all that its bytes depend on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from thunderctl import paths
from thunderctl.errors import EngineError
from thunderctl.workers.folder_lock import folder_lock

INSIDE = Path(__file__).resolve().parent / "inside"
"""Files that run in an engine's interpreter."""

_RECIPE = INSIDE / "make_small_model.py"
# The tokenizer is learned from the standard library, so its version counts as well as the trainer's.
_VERSIONS = (
    "import sys, importlib.metadata as m; print(sys.version_info[:3], m.version('tokenizers'), m.version('torch'))"
)


def ensure_small_model(python: Path, progress: Callable[[str], None] = lambda line: None) -> Path:
    """The folder of the small model, generated with the engine's interpreter ``python`` if it is not there yet.

    Raises:
        EngineError: the interpreter could not make it; nothing half-made is left.
    """
    versions = _run(python, "-c", _VERSIONS)
    digest = hashlib.sha256(_RECIPE.read_bytes() + versions.encode()).hexdigest()[:12]
    folder = paths.models() / f"small-{digest}"
    if folder.is_dir():
        return folder
    with folder_lock(folder, lambda: progress(f"waiting: another process is making {folder.name}")):
        if not folder.is_dir():
            progress("making the small model (a few seconds)")
            try:
                with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".small-") as scratch:
                    made = Path(scratch) / "model"
                    _run(python, str(_RECIPE), str(made))
                    made.rename(folder)
            except OSError as error:
                shutil.rmtree(folder, ignore_errors=True)
                raise EngineError(f"{folder} could not be made: {error}") from error
    return folder


def _run(python: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        done = subprocess.run(
            [str(python), *arguments],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    except OSError as error:
        raise EngineError(f"{python} cannot be run: {error}", hint="`thunderctl engine list` shows engines") from error
    if done.returncode:
        raise EngineError(
            f"{python} could not make the small model",
            hint="the engine environment may be damaged: `thunderctl engine remove cpu`, then try again",
            details=(done.stderr or done.stdout).splitlines()[-6:],
        )
    return done.stdout
