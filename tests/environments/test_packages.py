"""Python packages of tool environments: brought once by pip, importable on either back-end, or one clear error."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.environments.conftest import MakeManager
from thunderctl.environments import packages
from thunderctl.environments.ahead import bring_base
from thunderctl.environments.images import Images
from thunderctl.environments.manager import EnvironmentManager
from thunderctl.environments.packages import OWN_PYTHON, PackageSet, ensure_packages, folder_of, set_of
from thunderctl.environments.recipes import name_of
from thunderctl.environments.spec import EnvironmentSpec
from thunderctl.errors import EnvironmentFailure, PreflightError
from thunderctl.profile import ToolEnvironmentSpec

TINY = PackageSet("tiny", ("thunder-tiny==1.0",), ("thunder_tiny",))


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one wheel is all that pip knows, and the cache is empty."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    about = "Metadata-Version: 2.1\nName: thunder-tiny\nVersion: 1.0\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(folder / "thunder_tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("thunder_tiny/__init__.py", "GREETING = 'tiny'\n")
        wheel.writestr("thunder_tiny/tests/test_tiny.py", "")
        wheel.writestr("thunder_tiny-1.0.dist-info/METADATA", about)
        wheel.writestr("thunder_tiny-1.0.dist-info/WHEEL", tags)
        wheel.writestr("thunder_tiny-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("THUNDERCTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setitem(packages.SETS, "tiny", TINY)
    return folder


def test_a_bundled_base_with_packages_is_known_by_its_name_and_by_its_tag() -> None:
    science = packages.SETS["science"]
    assert set_of("base:science") is set_of(name_of("base:science")) is science
    assert set_of("base:default") is set_of("python:3.11") is set_of(None) is None
    assert len({PackageSet("x", pins, ()).tag for pins in (("a==1",), ("a==2",))}) == 2
    with pytest.raises(EnvironmentFailure, match="no bundled base image 'scince'") as caught:
        name_of("base:scince")
    assert "base:science" in str(caught.value.hint)


def test_packages_are_installed_once_and_without_their_tests() -> None:
    told: list[str] = []
    site = ensure_packages(TINY, progress=told.append)
    assert told and told[0].startswith("installing thunder_tiny for tool environments")
    said = subprocess.run(
        [sys.executable, "-c", "import thunder_tiny; print(thunder_tiny.GREETING)"],
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert said.stdout == "tiny\n", said.stderr
    assert not (site / "thunder_tiny" / "tests").exists() and list(site.rglob("*.pyc"))
    told.clear()
    assert ensure_packages(TINY, progress=told.append) == site and told == []


def test_another_python_than_ours_has_a_folder_of_its_own() -> None:
    other = "3.12" if OWN_PYTHON == "3.11" else "3.11"
    site = ensure_packages(TINY, other)
    assert site.parent != folder_of(TINY) and (site / "thunder_tiny" / "__init__.py").is_file()


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (PackageSet("none", ("thunder-absent==1.0",), ("x",)), "could not be installed"),
        (PackageSet("none", TINY.pins, ("thunder_other",)), "cannot be imported"),
    ],
)
def test_packages_that_cannot_be_had_are_one_clear_error_and_leave_nothing(broken: PackageSet, told: str) -> None:
    with pytest.raises(PreflightError, match=told) as caught:
        ensure_packages(broken)
    assert "base:none" in caught.value.message and "pip config list" in str(caught.value.hint)
    assert "vLLM" not in str(caught.value.hint)
    assert not folder_of(broken).exists()


async def test_local_environments_import_them_with_and_without_bubblewrap(local_manager: EnvironmentManager) -> None:
    bring_base("base:tiny", ToolEnvironmentSpec(backend="local"))
    lease = await local_manager.request("p", "r", EnvironmentSpec(image="base:tiny"))
    said = await local_manager.execute(lease.id, "python3 -c 'import thunder_tiny; print(thunder_tiny.GREETING)'")
    assert (said.returncode, said.output) == (0, "tiny\n")
    plain = await local_manager.request("p", "r", EnvironmentSpec())
    assert (await local_manager.execute(plain.id, "python3 -c 'import thunder_tiny'")).returncode == 1


def test_nothing_is_brought_for_a_base_without_packages(tmp_path: Path) -> None:
    bring_base(None, ToolEnvironmentSpec(backend="local"))
    bring_base("base:default", ToolEnvironmentSpec(backend="local"))
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def tiny_image() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    with contextlib.suppress(docker.errors.ImageNotFound):
        client.images.remove(TINY.tag, force=True)
    client.close()


@pytest.mark.docker
async def test_a_container_of_the_base_imports_them_without_a_network(
    tiny_image: docker.DockerClient, make_manager: MakeManager
) -> None:
    Images(tiny_image).ensure("base:default")
    bring_base("base:tiny", ToolEnvironmentSpec(backend="docker"))
    manager = await make_manager(backend="docker")
    lease = await manager.request("p", "r", EnvironmentSpec(image="base:tiny"))
    said = await manager.execute(lease.id, "python3 -c 'import thunder_tiny; print(thunder_tiny.__file__)'")
    assert (said.returncode, said.output) == (0, "/opt/packages/thunder_tiny/__init__.py\n")
