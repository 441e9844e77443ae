"""A group is stored whole or not at all, exactly as it was, in two forms that say the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pandas
import pyarrow.dataset
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings

from tests.rollouts.made_groups import groups, many_groups
from tests.rollouts.seeded_groups import seeded_group
from thunderctl.errors import ThunderError, UsageError
from thunderctl.rollouts.files import COLUMNS, GroupFiles, describe, from_table, is_whole, read_parquet, to_table
from thunderctl.rollouts.schema import SCHEMA, Group, Sample, Segment

ROOT = Path(__file__).resolve().parents[2]
unhurried = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def paths_of(files: GroupFiles, form: str) -> list[Path]:
    return sorted(files.folder.glob(f"groups*/*.{form}"))


@unhurried
@given(groups())
def test_a_group_survives_parquet_exactly(group: Group) -> None:
    assert from_table(to_table(group)) == group


@unhurried
@given(many_groups())
def test_what_is_read_is_what_was_written_in_either_form(
    tmp_path_factory: pytest.TempPathFactory, written: list[Group]
) -> None:
    files = GroupFiles(tmp_path_factory.mktemp("out"))
    for group in written:
        files.write(group)
    assert list(files.read()) == written
    assert files.done() == {group.name for group in written}
    for lines in paths_of(files, "jsonl"):
        lines.unlink()
    assert list(files.read()) == written, "from Parquet alone"


def test_names_that_would_leave_the_folder_or_are_no_file_names_come_back_as_they_were(tmp_path: Path) -> None:
    names = ["../../etc/passwd", "/abs", "a/b", ".hidden", "ümläut ☃", "..", "astropy__astropy-12907", "%2e%2e", "x\n"]
    files = GroupFiles(tmp_path / "out")
    for name in names:
        files.write(Group(name, "t"))
    assert [group.name for group in files.read()] == names
    assert files.done() == set(names)
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    assert len(paths_of(files, "parquet")) == len(paths_of(files, "jsonl")) == len(names)


@pytest.mark.parametrize("name", ["", "x" * 201, "ü" * 50])
def test_a_name_that_makes_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="a name of 1 to 200 characters is wanted"):
        GroupFiles(tmp_path).write(Group(name, "t"))


def test_no_group_is_stored_twice(tmp_path: Path) -> None:
    GroupFiles(tmp_path).write(seeded_group("g", 1))
    with pytest.raises(ThunderError, match="has a group 'g' already"):
        GroupFiles(tmp_path).write(seeded_group("g", 2))
    assert list(GroupFiles(tmp_path).read()) == [seeded_group("g", 1)]


def test_a_group_that_the_layout_cannot_say_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    segment = Segment([1, 2**40], [0, 1], [-1, 0], [0.0, -1.0])
    group = Group("g", "t", [Sample("t", "g", 0, 1, "p", "live", "submitted", segments=[segment])])
    files = GroupFiles(tmp_path)
    with pytest.raises(ThunderError, match="group 'g' cannot be stored"):
        files.write(group)
    assert files.done() == set()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


# ---------------------------------------------------------------------- loading


def test_pandas_and_pyarrow_take_the_folder_as_it_is(tmp_path: Path) -> None:
    files = GroupFiles(tmp_path)
    written = [seeded_group(f"g{i}", i) for i in range(3)]
    for group in written:
        files.write(group)
    frame = pandas.read_parquet(tmp_path / "groups")
    table = pyarrow.dataset.dataset(tmp_path / "groups").to_table()
    assert list(frame.columns) == table.column_names == [column.name for column in COLUMNS]
    assert len(frame) == table.num_rows == 12
    assert frame.groupby("group").reward.mean().to_dict() == {
        g.name: sum(s.reward or 0.0 for s in g.samples) / 4 for g in written
    }
    first = written[0].samples[0].segments[0]
    row = frame[(frame.group == "g0") & (frame["sample"] == 0)].iloc[0]
    assert row.ids.tolist() == first.ids
    assert row.ids.dtype == "int32" and row["mask"].dtype == "int8" and row.logprobs.dtype == "float64"
    assert row.logprobs.tolist() == first.logprobs
    lines = pandas.read_json(paths_of(files, "jsonl")[0], lines=True)
    assert lines.name[0] == "g0" and len(lines.samples[0]) == 4


def test_the_table_is_every_group_typed_and_versioned_whichever_form_is_left(tmp_path: Path) -> None:
    files = GroupFiles(tmp_path)
    assert files.table().num_rows == 0
    for i in range(3):
        files.write(seeded_group(f"g{i}", i))
    whole = files.table()
    paths_of(files, "parquet")[1].unlink()
    assert files.table().equals(whole)
    assert whole.schema.metadata == {b"thunderctl.schema": str(SCHEMA).encode()}
    assert whole.schema.field("ids").type == pyarrow.list_(pyarrow.int32())
    assert [field.nullable for field in whole.schema] == [column.nullable for column in COLUMNS]


def test_the_layout_is_described_column_by_column() -> None:
    text = describe()
    assert f"Layout {SCHEMA}." in text
    for column in COLUMNS:
        assert f"\n  {column.name} " in text and column.about in text


# ---------------------------------------------------------------------- whole or not at all


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_file_cut_short_anywhere_does_not_count(tmp_path: Path, form: str) -> None:
    files = GroupFiles(tmp_path)
    files.write(seeded_group("g", 1))
    [path], [other] = paths_of(files, form), paths_of(files, {"parquet": "jsonl", "jsonl": "parquet"}[form])
    other.unlink()
    whole = path.read_bytes()
    rng = random.Random(4)
    for length in [0, 1, 7, 8, 12, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(40))]:
        path.write_bytes(whole[:length])
        assert not is_whole(path), length
        assert files.done() == set() and list(files.read()) == [] and files.torn() == [path]
    path.write_bytes(whole)
    assert files.done() == {"g"} and files.torn() == []


def test_a_torn_form_is_made_again_from_the_other(tmp_path: Path) -> None:
    written = [seeded_group(f"g{i}", i) for i in range(3)]
    files = GroupFiles(tmp_path)
    for group in written:
        files.write(group)
    for path in (paths_of(files, "parquet")[0], paths_of(files, "jsonl")[1]):
        path.write_bytes(path.read_bytes()[:-9])
    left = tmp_path / "groups" / ".00003-g3.parquet.1.writing"
    left.write_bytes(b"PAR1")
    assert files.done() == {"g0", "g1", "g2"}, "the other form of each is whole"
    GroupFiles(tmp_path).make_ready()
    assert files.torn() == [] and not left.exists()
    assert [read_parquet(path) for path in paths_of(files, "parquet")] == list(files.read()) == written


def test_a_file_that_ends_well_and_holds_nonsense_is_named_with_what_to_do(tmp_path: Path) -> None:
    files = GroupFiles(tmp_path)
    files.write(seeded_group("g", 1))
    [path] = paths_of(files, "jsonl")
    path.write_text('{"schema": 1, "name": "g"}\n')
    with pytest.raises(UsageError, match=r"00000-g\.jsonl cannot be read: 'samples'") as raised:
        list(files.read())
    assert "--resume" in (raised.value.hint or "")


def test_a_group_stored_by_a_newer_thunderctl_is_refused_in_either_form(tmp_path: Path) -> None:
    files = GroupFiles(tmp_path)
    files.write(seeded_group("g", 1))
    [lines], [parquet] = paths_of(files, "jsonl"), paths_of(files, "parquet")
    lines.write_text(json.dumps(json.loads(lines.read_text()) | {"schema": SCHEMA + 1}) + "\n")
    table = pyarrow.parquet.read_table(parquet)
    newer = table.schema.metadata | {b"thunderctl.schema": str(SCHEMA + 1).encode()}
    pyarrow.parquet.write_table(table.replace_schema_metadata(newer), parquet)
    said = rf"newer thunderctl \(layout {SCHEMA + 1}, this one reads {SCHEMA}\)"
    with pytest.raises(UsageError, match=said):
        list(files.read())
    with pytest.raises(UsageError, match=said):
        files.table()
    lines.unlink()
    with pytest.raises(UsageError, match=said):
        list(files.read())


def test_killed_at_many_moments_a_writer_leaves_whole_groups_only_and_another_goes_on(tmp_path: Path) -> None:
    """One folder through thirty kills: nothing twice, nothing lost that was said to be in, nothing half."""
    rng, said, files = random.Random(8), set[int](), GroupFiles(tmp_path)
    writers = subprocess.Popen(
        [sys.executable, "-m", "tests.rollouts.group_writer", str(tmp_path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert writers.stdin is not None and writers.stdout is not None
    for _ in range(30):
        writers.stdin.write("\n")
        writers.stdin.flush()
        writer = int(writers.stdout.readline())
        said |= {int(writers.stdout.readline()) for _ in range(rng.randrange(3))}
        time.sleep(rng.random() * 0.02)  # somewhere in the midst of the next one, whose two files take about that
        os.kill(writer, signal.SIGKILL)
        while (line := writers.stdout.readline()) != "over\n":
            said.add(int(line))
        assert files.torn() == []
        there = [int(entry.name[1:]) for entry in files.entries()]
        assert len(there) == len(set(there)) and set(there) >= said
    writers.stdin.close()
    writers.wait()
    files.make_ready()
    found = list(files.read())
    assert found == [seeded_group(f"g{n}", n) for n in range(len(found))], "each whole, none missing in between"
    assert [read_parquet(path) for path in paths_of(files, "parquet")] == found
    assert [path for path in tmp_path.rglob(".*")] == []


# ---------------------------------------------------------------------- without pyarrow


WITHOUT = """
import sys
sys.modules["pyarrow"] = None
from pathlib import Path
from tests.rollouts.seeded_groups import seeded_group
from thunderctl.errors import PreflightError
from thunderctl.rollouts.files import GroupFiles
files = GroupFiles(Path(sys.argv[1]), parquet=False)
files.write(seeded_group("g", 1))
assert list(files.read()) == [seeded_group("g", 1)]
for wanted in (files.table, lambda: GroupFiles(Path(sys.argv[1]), parquet=True).make_ready()):
    try:
        wanted()
    except PreflightError as error:
        print(error.message, "|", error.hint)
"""


def test_without_pyarrow_lines_are_written_and_read_and_parquet_is_one_clear_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["groups-jsonl"]
    said = done.stdout.splitlines()
    assert len(said) == 2 and len(set(said)) == 1
    assert "pyarrow, which is not installed" in said[0] and "pip install 'thunderctl[rollouts]'" in said[0]


def test_a_folder_begun_without_pyarrow_gets_its_parquet_when_it_is_there(tmp_path: Path) -> None:
    GroupFiles(tmp_path, parquet=False).write(seeded_group("g0", 0))
    files = GroupFiles(tmp_path)
    files.write(seeded_group("g1", 1))
    assert [read_parquet(path).name for path in paths_of(files, "parquet")] == ["g0", "g1"]


# ---------------------------------------------------------------------- the manifest


def test_the_manifest_is_kept_with_the_layouts_version(tmp_path: Path) -> None:
    files = GroupFiles(tmp_path / "out")
    files.write_manifest({"workload": "swebench", "engine": "emulated"})
    assert files.manifest() == {"schema": SCHEMA, "workload": "swebench", "engine": "emulated"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "holds no roll-out: it has no rollout.json"),
        ("[", "cannot be read"),
        ("[]", "wanted an object"),
        ("{}", "does not say which layout"),
        (json.dumps({"schema": SCHEMA + 1}), "newer thunderctl"),
    ],
)
def test_a_folder_that_is_no_roll_out_of_ours_is_refused(tmp_path: Path, text: Any, said: str) -> None:
    if text is not None:
        (tmp_path / "rollout.json").write_text(text)
    with pytest.raises(UsageError, match=said):
        GroupFiles(tmp_path).manifest()


def test_the_extra_that_the_error_names_brings_pyarrow() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any(each.startswith("pyarrow") for each in extras["rollouts"])
