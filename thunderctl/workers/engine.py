"""Engine environments: a virtual environment with vLLM per kind and version, made on first use from a lock.

Nothing here imports vLLM or starts a server. An environment counts only once its ``ready.json`` is there, which is
written last; a folder without it is a ruin of an interrupted installation and is made anew. Packages come from
where pip's own configuration says, so pip does the work, not a faster installer with a configuration of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from thunderctl import paths
from thunderctl.errors import EngineError, UsageError
from thunderctl.workers.folder_lock import folder_lock, write_atomically
from thunderctl.workers.locks import MISFITS, TOP, lock_file, locked_version, pins
from thunderctl.workers.pip import Pip

Progress = Callable[[str], None]

READY = "ready.json"

_PROBE = "import json, vllm, torch; print(json.dumps({'vllm': vllm.__version__, 'torch': torch.__version__}))"
_PROBE_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class EngineEnvironment:
    """An interpreter that can run vLLM. ``folder`` is None where it is the user's own."""

    kind: str
    version: str
    python: Path
    folder: Path | None


def ensure_engine(
    kind: str,
    version: str | None = None,
    *,
    python: Path | None = None,
    progress: Progress = lambda line: None,
) -> EngineEnvironment:
    """The environment of ``kind`` (``cpu`` or ``cuda``), installed if it is not there yet.

    ``version`` other than the locked one is resolved by pip; ``python`` is an interpreter of the user's that is
    only probed. Two processes may call this at once: the second waits for the first.

    Raises:
        EngineError: the interpreter has no working vLLM, or the installation failed; nothing half-made is left.
    """
    if kind not in TOP:
        raise UsageError(f"no engine of kind {kind!r} can be installed", hint=f"kinds: {', '.join(TOP)}")
    if python is not None:
        return _probe(kind, python)
    wanted = version or locked_version(kind)
    folder = engine_folder(kind, wanted)
    if not (folder / READY).is_file():
        with folder_lock(folder, lambda: progress(f"waiting: another process is installing {folder.name}")) as lock:
            if not (folder / READY).is_file():
                _make(kind, wanted, folder, lock, progress)
    return EngineEnvironment(kind, wanted, folder / "bin" / "python", folder)


def engine_folder(kind: str, version: str) -> Path:
    """Where the environment of this version lives; its name changes when its requirements do."""
    requirements, _ = _requirements(kind, version)
    digest = hashlib.sha256(requirements.encode()).hexdigest()[:8]
    return paths.engines() / paths.safe_name(f"{kind}-{version}-{digest}", "engine version")


def installed_engines() -> list[EngineEnvironment]:
    """Every finished environment of this cache, by name."""
    found = []
    for marker in sorted(paths.engines().glob(f"*/{READY}")):
        said = json.loads(marker.read_text())
        folder = marker.parent
        found.append(EngineEnvironment(said["kind"], said["version"], folder / "bin" / "python", folder))
    return found


def remove_engine(kind: str, version: str | None = None) -> list[Path]:
    """Delete the environments of ``kind`` (and ``version``); the folders that are gone.

    Raises:
        EngineError: a running process uses one of them; nothing was deleted.
    """
    doomed = [
        engine.folder
        for engine in installed_engines()
        if engine.folder and engine.kind == kind and version in (None, engine.version)
    ]
    for folder in doomed:
        users = _users(folder)
        if users:
            raise EngineError(
                f"{folder.name} is in use by process {', '.join(map(str, users))}",
                hint="`thunderctl down` stops the workers of a node",
            )
    for folder in doomed:
        with folder_lock(folder):
            (folder / READY).unlink(missing_ok=True)  # from here on it is a ruin, whatever happens to us
            shutil.rmtree(folder)
    return doomed


def _requirements(kind: str, version: str) -> tuple[str, bool]:
    """Text of the requirements file, and whether it is the whole environment (then no dependencies are resolved)."""
    if version == locked_version(kind):
        return lock_file(kind).read_text(), True
    return f"{TOP[kind]}=={version}\n", False


def _make(kind: str, version: str, folder: Path, lock: int, progress: Progress) -> None:
    """Fill ``folder`` while holding its ``lock``; on any failure, an interrupt included, nothing of it remains."""
    requirements, locked = _requirements(kind, version)
    if folder.exists():
        progress(f"removing what an interrupted installation left of {folder.name}")
        shutil.rmtree(folder)
    try:
        progress(f"making the environment {folder.name}")
        _make_venv(folder, lock)
        file = folder / "requirements.txt"
        file.write_text(requirements)
        pip = Pip(folder, lock, progress)
        if locked:
            # Without .pyc files: pip would compile 30,000 modules on one core, of which a server imports a
            # third. The first start compiles those (15 s on two cores, once).
            pip.install("--no-deps", "-r", str(file), total=len(pins(requirements)))
        else:
            pip.install("-r", str(file))
            if MISFITS[kind]:
                pip.uninstall(*MISFITS[kind])
        marker = {"kind": kind, "version": version, "locked": locked}
        write_atomically(folder / READY, json.dumps(marker) + "\n")
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise EngineError(
                f"{folder} could not be made: {error}", hint="THUNDERCTL_CACHE moves the folder elsewhere"
            ) from error
        raise


def _make_venv(folder: Path, lock: int) -> None:
    """A virtual environment with pip, of the interpreter that runs us."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(folder)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        pass_fds=(lock,),
    )
    if made.returncode:
        raise EngineError(
            f"{sys.executable} cannot make a virtual environment",
            hint="on Debian and Ubuntu the package python3-venv is needed; check also that the disk is not full",
            details=(made.stderr or made.stdout).splitlines()[-8:],
        )
    # pip reads a configuration file beside the environment that it runs in; ours may have one that says where
    # packages come from.
    ours = Path(sys.prefix) / "pip.conf"
    if ours.is_file():
        (folder / "pip.conf").symlink_to(ours)


def _probe(kind: str, python: Path) -> EngineEnvironment:
    """``python`` as an engine, after it has shown that it can import vLLM."""
    hint = "set engine.python to an interpreter whose environment has vLLM, or leave it out to have one installed"
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        answer = subprocess.run(
            [str(python), "-c", _PROBE],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_PROBE_TIMEOUT_S,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"engine.python {python} cannot be run: {error}", hint=hint) from error
    if answer.returncode:
        raise EngineError(
            f"engine.python {python} cannot import vLLM", hint=hint, details=answer.stderr.splitlines()[-5:]
        )
    said = json.loads(answer.stdout.splitlines()[-1])
    # Not resolved: a virtual environment's interpreter is a link, and following it would leave the environment.
    return EngineEnvironment(kind, said["vllm"], python.absolute(), None)


def _users(folder: Path) -> list[int]:
    """Processes that run this environment's interpreter."""
    ours = f"{folder}{os.sep}"
    users = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        command = process.info["cmdline"] or [""]
        if command[0].startswith(ours) and process.info["pid"] != os.getpid():
            users.append(process.info["pid"])
    return users
