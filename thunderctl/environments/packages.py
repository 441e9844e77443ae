"""Python packages that tool environments have beside their base: what ``base:science`` means on either back-end.

pip brings them into the cache once, from wherever its own configuration says. Docker's image is the bundled base with
that folder in it; a local environment sees the folder read-only. So both have the same versions, and neither needs a
network once the folder is there. Everything here blocks and runs in a thread.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from thunderctl import paths
from thunderctl.errors import EngineError, PreflightError
from thunderctl.workers.folder_lock import folder_lock, write_atomically
from thunderctl.workers.pip import Pip

Progress = Callable[[str], None]

INSIDE = "/opt/packages"
"""Where an environment has them; bare local environments, which see this machine as it is, use the cache's folder."""
BASE_PYTHON = "3.11"
"""Of the bundled base image (Debian bookworm)."""
OWN_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Of local environments: their ``python`` is the one that runs this."""
READY = "ready"
_GLIBC = ("manylinux_2_28", "manylinux_2_27", "manylinux2014")
"""Wheels that run on bookworm, for a Python that is not ours (pip looks at no other then)."""


@dataclass(frozen=True, slots=True)
class PackageSet:
    """What is installed, and what must be importable then. The pins are complete: no dependencies are resolved."""

    name: str
    pins: tuple[str, ...]
    imports: tuple[str, ...]

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.pins).encode()).hexdigest()[:8]

    @property
    def tag(self) -> str:
        """Of the image: the base with these packages."""
        return f"thunderctl/base:{self.name}-{self.digest}"


SETS = {
    "science": PackageSet(
        "science",
        (
            "cloudpickle==3.1.2",
            "contourpy==1.3.3",
            "cycler==0.12.1",
            "fonttools==4.68.0",
            "joblib==1.6.0",
            "kiwisolver==1.5.1",
            "matplotlib==3.11.2",
            "narwhals==2.29.0",
            "numpy==2.4.6",
            "packaging==26.3",
            "pandas==3.1.1",
            "pillow==13.0.0",
            "pyparsing==3.3.3",
            "python-dateutil==4.0.0",
            "scikit-learn==1.9.1",
            "scipy==1.17.1",
            "threadpoolctl==3.8.0",
            "tzdata==2026.6",
        ),
        ("matplotlib.pyplot", "numpy", "pandas", "scipy.signal", "sklearn.linear_model"),
    )
}
"""By NAME of ``base:NAME``."""


def set_of(image: str | None) -> PackageSet | None:
    """The packages that an environment of ``image`` (``base:NAME``, or the image's tag) has beside its base."""
    for packages in SETS.values():
        if image in (f"base:{packages.name}", packages.tag):
            return packages
    return None


def folder_of(packages: PackageSet, python: str = OWN_PYTHON) -> Path:
    """Where the cache has them for this Python; its name changes with the pins."""
    return paths.cache() / "packages" / f"{packages.name}-{packages.digest}-{python}"


def ensure_packages(
    packages: PackageSet, python: str = OWN_PYTHON, progress: Progress = lambda line: None
) -> Path:  # fmt: skip
    """The folder to import from, installed if it is not there yet; two processes may ask at once.

    Raises:
        PreflightError: pip could not bring them; nothing half-made is left.
    """
    folder = folder_of(packages, python)
    if not (folder / READY).is_file():
        with folder_lock(folder, lambda: progress(f"waiting: another process is installing {folder.name}")) as lock:
            if not (folder / READY).is_file():
                _make(packages, python, folder, lock, progress)
    return folder / "site"


def dockerfile(packages: PackageSet, base: str, python: str = BASE_PYTHON) -> str:
    """Of the image; its context is :func:`folder_of` these packages for the base's Python."""
    compiled = "" if python == OWN_PYTHON else f"RUN python3 -m compileall -q -j 0 {INSIDE}\n"
    return (
        f"FROM {base}\nCOPY site {INSIDE}\nENV PYTHONPATH={INSIDE}\n{compiled}"
        f'RUN PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp/m python3 -c "import {", ".join(packages.imports)}" '
        "&& rm -rf /tmp/m\n"
    )


def _make(packages: PackageSet, python: str, folder: Path, lock: int, progress: Progress) -> None:
    """Fill ``folder`` while holding its ``lock``; on any failure, an interrupt included, nothing of it remains."""
    progress(f"installing {', '.join(name.split('.')[0] for name in packages.imports)} for tool environments, once")
    shutil.rmtree(folder, ignore_errors=True)
    site, tool = folder / "site", folder / "pip"
    try:
        folder.mkdir(parents=True)
        pip = Pip(_with_pip(tool), lock, progress)
        pip.install("--target", str(site), "--no-deps", *_foreign(python), *packages.pins, total=len(packages.pins))
        for tests in [path for path in site.rglob("tests") if path.is_dir()]:  # a third of all files
            shutil.rmtree(tests, ignore_errors=True)
        shutil.rmtree(tool, ignore_errors=True)
        if python == OWN_PYTHON:
            progress("compiling them")
            _compile_and_try(packages, site)
        write_atomically(folder / READY, "\n".join(packages.pins) + "\n")
    except (EngineError, OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        said = error.message if isinstance(error, EngineError) else str(error)
        raise PreflightError(
            f"the Python packages of base:{packages.name} could not be installed for Python {python}: {said}",
            hint="they come from where pip's configuration says (`pip config list`); "
            f"or, with Docker, give an image that has {', '.join(packages.imports)}: -c environments.image=NAME",
            details=error.details if isinstance(error, EngineError) else [],
        ) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _with_pip(otherwise: Path) -> Path:
    """A Python environment that has pip: ours, or one that is made for it."""
    ours = Path(sys.prefix)
    if importlib.util.find_spec("pip") is not None and (ours / "bin" / "python").exists():
        return ours
    venv.create(otherwise, with_pip=True, symlinks=True)
    configuration = ours / "pip.conf"
    if configuration.is_file():  # ours may say where packages come from
        (otherwise / "pip.conf").symlink_to(configuration)
    return otherwise


def _compile_and_try(packages: PackageSet, site: Path) -> None:
    """Environments see the folder read-only: none of them could keep what it compiled."""
    line = [sys.executable, "-m", "compileall", "-q", "-j", str(os.cpu_count() or 1), str(site)]
    subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    line = [sys.executable, "-c", f"import {', '.join(packages.imports)}"]
    told = subprocess.run(
        line,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "MPLCONFIGDIR": str(site.parent)},
    )
    if told.returncode:
        raise EngineError("they cannot be imported", details=told.stderr.splitlines()[-5:])


def _foreign(python: str) -> list[str]:
    """pip's options for another Python than the one that runs it."""
    if python == OWN_PYTHON:
        return ["--only-binary=:all:"]
    machine = platform.machine()
    wheels = [option for kind in _GLIBC for option in ("--platform", f"{kind}_{machine}")]
    return ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, *wheels]
