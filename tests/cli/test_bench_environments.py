"""``bench environments``: its arithmetic, and each part end to end in tiny form; its figures are not promised here."""

from __future__ import annotations

import contextlib
import json
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.commandline import CommandLine, until
from thunderctl import paths
from thunderctl.cli.bench_environments import disk_page
from thunderctl.cli.main import app
from thunderctl.environments.bench import Arm, DiskWork, Sample, growth, mean_over_time, summary
from thunderctl.environments.bench_cost import median_of, ratio_of_medians
from thunderctl.environments.docker import connect
from thunderctl.environments.image_store import record
from thunderctl.environments.images import BASE
from thunderctl.errors import UsageError
from thunderctl.runs.bench_hidden import Agent, HiddenWork, told

runner = CliRunner()
figures = st.lists(st.floats(0.001, 1000), min_size=1, max_size=30)


def an_arm(name: str, held: list[int], collected: list[int] | None = None, used: int | None = 0) -> Arm:
    gone = collected or [0] * len(held)
    samples = [
        Sample(float(at), bytes_, gone[at], {"containers": bytes_}, at, None if used is None else bytes_ + used)
        for at, bytes_ in enumerate(held)
    ]
    return Arm(name, work_s=float(len(held)), samples=samples)


def test_the_mean_of_a_line_weighs_each_stretch_by_its_length() -> None:
    assert mean_over_time([(0, 0), (1, 10), (9, 10), (10, 0)]) == 9
    assert mean_over_time([(3, 7)]) == 7
    assert mean_over_time([]) == 0


def test_growth_is_one_for_a_level_and_five_thirds_for_a_straight_line_from_nothing() -> None:
    assert growth([(at, 5) for at in range(100)], 100) == 1
    assert growth([(at, at) for at in range(1000)], 1000) == pytest.approx(5 / 3, rel=0.01)
    assert growth([(0, 1)], 100) is None


def test_what_was_saved_is_the_ratio_of_the_peaks_and_what_was_computed_stands_beside() -> None:
    collected = an_arm("with collection", [0, 10, 10, 0], collected=[0, 0, 10, 42])
    kept = an_arm("without", [0, 10, 20, 40])
    found = summary(DiskWork(programs=4), [collected, kept])
    assert found["saved_at_peak"] == 4
    assert found["saved_at_peak_of_file_system"] == 4
    assert found["computed_without_collection"] == pytest.approx(42 / 40)
    assert found["arms"]["with collection"]["final_bytes"] == 0
    page = disk_page(found)
    assert "Plotly.react" in page and "4.00×" in page and 'src="http' not in page


def test_an_engine_elsewhere_has_no_file_system_to_look_at() -> None:
    arms = [an_arm("with collection", [1, 2], used=None), an_arm("without", [1, 4], used=None)]
    assert summary(DiskWork(), arms)["saved_at_peak_of_file_system"] is None


def test_layers_are_the_same_for_the_same_seed_and_within_their_bounds() -> None:
    work = DiskWork(programs=50, layer_mib=(30, 60), seed=3)
    assert work.layers() == DiskWork(programs=50, layer_mib=(30, 60), seed=3).layers()
    assert work.layers() != DiskWork(programs=50, layer_mib=(30, 60), seed=4).layers()
    assert min(work.layers()) >= 30 and max(work.layers()) <= 60


@given(figures)
def test_an_interval_holds_its_median_and_lies_within_the_values(values: list[float]) -> None:
    found = median_of(values)
    assert min(values) <= found.low <= found.value <= found.high <= max(values)


def test_a_ratio_of_pairs_that_move_together_is_certain_however_much_they_move() -> None:
    theirs = [1.0, 50.0, 3.0, 700.0, 2.0, 9.0]
    found = ratio_of_medians([2 * value for value in theirs], theirs)
    assert (found.low, found.value, found.high) == (2, 2, 2)


def test_hidden_is_the_share_of_preparation_that_nobody_waited_for() -> None:
    work = HiddenWork(agents=2, ahead=0)
    found = told(work, [Agent(4.0, 1.0, 9.0), Agent(6.0, 0.0, 5.0, held_s=3.0)])
    assert (found["queued"], found["hidden_of_queued"]) == (1, 1.0)
    assert (found["prepared_s"], found["waited_s"], found["hidden"]) == (10, 1, 0.9)
    assert found["median_first_result_s"] == 7
    assert told(work, [Agent(0.0, 0.0, 1.0)])["hidden"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--layer-mb-min", "9", "--layer-mb-max", "3"], "--layer-mb-max is below"),
        (["--agents", "8;16"], "not '8;16'"),
        (["--agents", "0"], "not '0'"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(arguments: list[str], said: str) -> None:
    done = runner.invoke(app, ["bench", "environments", *arguments])
    assert isinstance(done.exception, UsageError)
    assert said in done.exception.message


# ------------------------------------------------------------------ on a real engine


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("THUNDERCTL_HOME", str(folder))
    return folder


def nothing_is_left(home: Path) -> bool:
    with contextlib.closing(connect()) as client:
        mine = {"label": [f"thunderctl.owner={paths.owner()}"]}
        return (
            client.api.containers(all=True, filters=mine) == []
            and {tag for image in client.api.images(all=True, filters=mine) for tag in image["RepoTags"] or ["?"]}
            <= {BASE}
            and set(record()) <= {BASE}
            and list((home / "nodes").iterdir()) == []
        )


@pytest.mark.docker
def test_disk_does_the_same_work_both_ways_and_removes_all_of_it(home: Path, tmp_path: Path) -> None:
    asked = ["--programs", "3", "--at-once", "1", "--layer-mb-min", "1", "--layer-mb-max", "2"]
    folder = tmp_path / "figures"
    done = runner.invoke(
        app, ["bench", "environments", "--part", "disk", *asked, "--out", str(folder), "--json"],
        catch_exceptions=False,
    )  # fmt: skip
    found = json.loads(done.stdout)["disk"]
    kept = found["arms"]["without"]
    layers = sum(DiskWork(3, 1, (1, 2)).layers()) * 2**20
    # Three layers, and what two commands of each program wrote.
    assert layers + 3 * 6 * 2**20 <= kept["peak_bytes"] == kept["final_bytes"] < layers + 3 * 7 * 2**20
    assert found["saved_at_peak"] > 1
    assert found["computed_without_collection"] == pytest.approx(1, abs=0.05)
    assert json.loads((folder / "environments-disk.json").read_text()) == found
    assert "Disk over time" in (folder / "environments-disk.html").read_text()
    assert nothing_is_left(home)


@pytest.mark.docker
def test_cost_measures_every_way_and_removes_all_of_it(home: Path) -> None:
    asked = ["--rounds", "2", "--execs", "1", "--creates", "3"]
    done = runner.invoke(app, ["bench", "environments", "--part", "cost", *asked, "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)["cost"]
    assert len(found["ways"]) == 5 and len(found["ratios"]) == 6
    assert all(way["create_s"]["median"] > way["exec_s"]["median"] > 0 for way in found["ways"])
    assert [each["errors"] for each in found["together"]] == [[], []]
    assert nothing_is_left(home)


@pytest.mark.docker
@pytest.mark.slow
def test_hidden_runs_all_its_arms_and_removes_all_of_them(home: Path) -> None:
    asked = ["--agents", "2", "--places", "1", "--setup-s", "0.5", "--model-s", "0.2"]
    done = runner.invoke(app, ["bench", "environments", "--part", "hidden", *asked, "--json"], catch_exceptions=False)
    arms = json.loads(done.stdout)["hidden"]["arms"]
    assert [arm["arm"] for arm in arms] == ["asked for and waited for", "with the place", "ahead of need, 32"]
    assert all(arm["prepared_s"] >= 1.0 for arm in arms)
    assert arms[0]["waited_s"] >= 1.0
    assert nothing_is_left(home)


@pytest.mark.docker
def test_interrupted_it_leaves_nothing(home: Path) -> None:
    line = CommandLine(home)
    process = line.start("bench", "environments", "--part", "disk", "--programs", "50", "--at-once", "2")
    try:
        with contextlib.closing(connect()) as client:
            label = f"thunderctl.owner={paths.owner()}"
            until(lambda: len(client.api.containers(filters={"label": label})) > 0)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert nothing_is_left(home)
