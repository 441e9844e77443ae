"""GPUs and their driver, as the driver's own tool tells of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from thunderctl.doctor.engines import gpus
from thunderctl.doctor.examine import examine
from thunderctl.doctor.finding import Finding, State
from thunderctl.profile_files import load_profile

TWO = "NVIDIA H100 80GB HBM3, 81559, {used}, {driver}, 9.0\n"


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that comes first among those of programs; what lies there answers as ``nvidia-smi``."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "nvidia-smi"


def answers(tool: Path, cards: str, cuda: str) -> None:
    tool.write_text(
        f'#!/bin/sh\ncase "$1" in\n--query-gpu=name) printf "{cards}" | cut -d, -f1;;\n'
        f'--query*) printf "{cards}";;\n*) echo "| Driver Version: 1  CUDA Version: {cuda} |";;\nesac\n'
    )
    tool.chmod(0o755)


def found() -> dict[str, Finding]:
    return {finding.what: finding for finding in gpus()}


def test_cards_are_counted_and_a_new_driver_is_fine(driver: Path) -> None:
    answers(driver, TWO.format(used=0, driver="580.95") * 2, "13.0")
    told = found()
    assert told["GPUs"].found == "2 × NVIDIA H100 80GB HBM3, 80 GiB"
    assert told["GPU driver"].state is State.ok and "GPU memory" not in told


def test_a_driver_older_than_the_engines_cuda_is_to_be_renewed(driver: Path) -> None:
    answers(driver, TWO.format(used=0, driver="535.10"), "12.2")
    told = found()["GPU driver"]
    assert told.state is State.wanted and "535.10" in told.found and "newer" in told.fix


def test_memory_that_others_hold_is_named_by_card(driver: Path) -> None:
    answers(driver, TWO.format(used=0, driver="580") + TWO.format(used=60000, driver="580"), "13.0")
    assert "GPU 1" in found()["GPU memory"].found


def test_a_driver_that_does_not_fit_its_kernel_part_wants_a_restart(driver: Path) -> None:
    driver.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n")
    driver.chmod(0o755)
    told = found()["GPUs"]
    assert told.state is State.wanted and "mismatch" in told.found and "restart" in told.fix


def test_a_profile_for_more_cards_than_there_are_is_broken(driver: Path) -> None:
    answers(driver, TWO.format(used=0, driver="580.95") * 2, "13.0")
    told = {f.what: f for f in examine(load_profile("h100x8").profile)}
    assert told["number of GPUs"].state is State.broken and told["number of GPUs"].found == "2, of 8"
