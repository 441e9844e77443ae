"""Tests are run by their names, in whichever of the two forms, by whatever Python an environment has."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from thunderctl.agents.judging import touched_files

SCRIPT = Path(str(resources.files("thunderctl.agents") / "inside" / "run_tests.py"))
BY_UNITTEST = """\
import unittest

class TestA(unittest.TestCase):
    def test_right(self):
        pass

    def test_wrong(self):
        self.fail()
"""
BY_PYTEST = """\
import pytest

def test_right():
    print("{}")

@pytest.mark.parametrize("x", [1, 2])
def test_several(x):
    assert x < 2

@pytest.mark.xfail
def test_expected():
    assert False

@pytest.fixture
def broken():
    yield
    assert False

def test_torn_down_badly(broken):
    pass
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").touch()
    (tmp_path / "tests" / "test_a.py").write_text(BY_UNITTEST)
    (tmp_path / "tests" / "test_b.py").write_text(BY_PYTEST)
    (tmp_path / "tests" / "test_broken.py").write_text("import no_such_module\n")
    return tmp_path


def outcome(repo: Path, python: Path | str, *names: str) -> dict[str, Any]:
    (repo / "names.json").write_text(json.dumps(names))
    done = subprocess.run([python, SCRIPT, "names.json"], cwd=repo, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_both_forms_are_run_and_what_cannot_be_found_or_imported_fails_by_itself(repo: Path) -> None:
    expected = {
        "tests.test_a.TestA.test_right": True,
        "tests.test_a.TestA.test_wrong": False,
        "tests.test_none.TestA.test_right": False,
        "tests/test_a.py::TestA::test_right": True,
        "tests/test_a.py::TestA::test_none": False,
        "tests/test_b.py::test_right": True,
        "tests/test_b.py::test_several[1]": True,
        "tests/test_b.py::test_several[2]": False,
        "tests/test_b.py::test_several": False,
        "tests/test_b.py::test_expected": True,
        "tests/test_b.py::test_torn_down_badly": False,
        "tests/test_broken.py::test_right": False,
        "tests/test_none.py::test_right": False,
    }
    assert outcome(repo, sys.executable, *expected) == {"passed": expected, "cannot": []}


def test_without_pytest_its_names_are_run_by_unittest_and_functions_are_said_to_be_impossible(
    repo: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("python")
    venv.create(folder, with_pip=False)
    names = ["tests/test_a.py::TestA::test_right", "tests/test_a.py::TestA::test_wrong", "tests/test_b.py::test_right"]
    found = outcome(repo, folder / "bin" / "python", *names)
    assert found == {"passed": dict(zip(names, [True, False, False], strict=True)), "cannot": names[2:]}


def test_a_patch_tells_the_files_that_it_touches() -> None:
    patch = (
        "diff --git a/tests/a b.py b/tests/a b.py\n--- a/tests/a b.py\n+++ b/tests/a b.py\n@@ -1 +1 @@\n-a\n+b\n"
        "diff --git a/new.py b/new.py\nnew file mode 100644\n--- /dev/null\n+++ b/new.py\n@@ -0,0 +1 @@\n+x\n"
    )
    assert touched_files(patch) == ["new.py", "tests/a b.py"]
