"""Folders are measured when they may have changed, and only then; the watch ends who crosses the limit."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from thunderctl.environments import sizes
from thunderctl.environments.sizes import FolderSizes

MIB = 1 << 20


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the folders that were walked."""
    names: list[str] = []
    walk = sizes.folder_bytes
    monkeypatch.setattr(sizes, "folder_bytes", lambda folder: names.append(folder.name) or walk(folder))
    monkeypatch.setattr(sizes, "PAUSE_S", 0.02)
    return names


def filled(root: Path, name: str, size: int = MIB) -> None:
    (root / name).mkdir(exist_ok=True)
    with (root / name / "data").open("ab") as file:
        file.write(b"x" * size)


async def test_only_what_may_have_changed_is_measured_again(tmp_path: Path, walked: list[str]) -> None:
    for name in ("a", "b"):
        filled(tmp_path, name)
    known = FolderSizes(tmp_path)
    with known.changing("a"), known.changing("b"):
        pass
    first = await known.all()
    assert first["a"] >= MIB
    assert sorted(walked) == ["a", "b"]
    with known.changing("b"):
        filled(tmp_path, "b")
    second = await known.all()
    assert second["b"] >= first["b"] + MIB
    assert second["a"] == first["a"]
    assert sorted(walked) == ["a", "b", "b"]


async def test_while_a_command_runs_a_size_is_never_taken_for_true(tmp_path: Path, walked: list[str]) -> None:
    filled(tmp_path, "a")
    known = FolderSizes(tmp_path)
    with known.watched("a", 1000 * MIB):
        before = await known.all()
        filled(tmp_path, "a")
        assert (await known.all())["a"] > before["a"]
        assert known.forget("a") is None


async def test_a_size_measured_during_a_change_does_not_outlive_it(tmp_path: Path, walked: list[str]) -> None:
    filled(tmp_path, "a")
    known = FolderSizes(tmp_path)
    with known.changing("a"):
        before = await known.all()
        filled(tmp_path, "a")
    assert (await known.all())["a"] > before["a"]


async def test_the_watch_tells_who_crosses_the_limit_and_spares_who_does_not_grow(
    tmp_path: Path, walked: list[str]
) -> None:
    filled(tmp_path, "a")
    known = FolderSizes(tmp_path)
    with known.watched("a", 2 * MIB) as one, known.watched("a", 2 * MIB) as other:
        assert one is other
        await asyncio.sleep(0.1)
        assert not one.done()
        filled(tmp_path, "a", 3 * MIB)
        assert await one >= 4 * MIB
    with known.watched("a", 2 * MIB) as later:
        seen = len(walked)
        while len(walked) < seen + 3:
            await asyncio.sleep(0.01)
        assert not later.done()
        filled(tmp_path, "a")
        assert await later >= 5 * MIB


async def test_a_folder_that_is_gone_holds_nothing(tmp_path: Path, walked: list[str]) -> None:
    known = FolderSizes(tmp_path)
    with known.watched("gone", MIB) as watch:
        await asyncio.sleep(0.1)
        assert not watch.done()
    assert await known.all() == {}
    assert await FolderSizes(tmp_path / "nowhere").all() == {}
