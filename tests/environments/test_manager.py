"""The manager: what is asked for becomes ready or leaves nothing, whatever goes wrong on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.environments.conftest import MakeManager, live_node
from thunderctl.environments.lease import Lease, LeaseLedger
from thunderctl.environments.local import LocalBackend
from thunderctl.environments.manager import EnvironmentManager
from thunderctl.environments.spec import EnvironmentSpec
from thunderctl.errors import EnvironmentFailure, PreflightError
from thunderctl.profile import ToolEnvironmentSpec


def folders(home: Path) -> list[str]:
    return [path.name for path in (home / "nodes" / "n1" / "environments").iterdir()]


async def test_every_change_is_told_in_order(make_manager: MakeManager) -> None:
    told: list[tuple[str, str]] = []
    manager = await make_manager(on_event=lambda kind, lease: told.append((kind, lease.program)))
    lease = await manager.request("p", "r", EnvironmentSpec())
    await manager.execute(lease.id, "true")
    await manager.release(lease.id)
    kinds = ["requested", "preparing", "ready", "in_use", "tool_started", "tool_finished", "reclaimed"]
    assert told == [(kind, "p") for kind in kinds]


async def test_a_failed_set_up_says_what_failed_and_leaves_nothing(make_manager: MakeManager, home: Path) -> None:
    manager = await make_manager()
    with pytest.raises(EnvironmentFailure, match="ended with 3: echo why; exit 3") as caught:
        await manager.request("p", "r", EnvironmentSpec(setup=("echo why; exit 3",)))
    assert caught.value.details == ["why"]
    assert folders(home) == []
    assert [lease.state for lease in manager.leases()] == ["reclaimed"]


async def test_a_cancelled_preparation_leaves_nothing(make_manager: MakeManager, home: Path) -> None:
    manager = await make_manager()
    asked = asyncio.create_task(manager.request("p", "r", EnvironmentSpec(setup=("touch started; sleep 1000",))))
    while not list(home.glob("nodes/n1/environments/*/root/testbed/started")):
        await asyncio.sleep(0.01)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert folders(home) == []
    assert [lease.state for lease in manager.leases()] == ["reclaimed"]


async def test_a_request_cancelled_in_the_queue_is_closed_too(make_manager: MakeManager, home: Path) -> None:
    manager = await make_manager(concurrent_creates=1)
    slow = EnvironmentSpec(setup=("sleep 1000",))
    asked = [asyncio.create_task(manager.request(f"p{n}", "r", slow)) for n in range(3)]
    while len(manager.leases()) < 3:
        await asyncio.sleep(0.01)
    for task in reversed(asked):
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    assert {lease.state for lease in manager.leases()} == {"reclaimed"}
    assert folders(home) == []


async def test_no_more_are_prepared_at_once_than_the_profile_allows(make_manager: MakeManager) -> None:
    preparing: set[str] = set()
    most = 0

    def watch(kind: str, lease: Lease) -> None:
        nonlocal most
        if kind == "preparing":
            preparing.add(lease.id)
        elif kind == "ready":
            preparing.discard(lease.id)
        most = max(most, len(preparing))

    manager = await make_manager(concurrent_creates=2, on_event=watch)
    await asyncio.gather(*(manager.request(f"p{n}", "r", EnvironmentSpec()) for n in range(6)))
    assert most == 2


async def test_commands_of_one_environment_run_side_by_side_and_count_as_one_time_of_acting(
    make_manager: MakeManager,
) -> None:
    told: list[str] = []
    manager = await make_manager(on_event=lambda kind, lease: told.append(kind))
    lease = await manager.request("p", "r", EnvironmentSpec())
    commands = (
        "until test -e there; do sleep 0.02; done; touch back",
        "touch there; until test -e back; do sleep 0.02; done",
    )
    done = await asyncio.gather(*(manager.execute(lease.id, command) for command in commands))
    assert [each.returncode for each in done] == [0, 0]
    assert [kind for kind in told if kind.startswith("tool")] == ["tool_started", "tool_finished"]


async def test_a_command_in_the_background_is_no_tool_and_lets_others_start_and_end(make_manager: MakeManager) -> None:
    told: list[str] = []
    manager = await make_manager(on_event=lambda kind, lease: told.append(kind))
    lease = await manager.request("p", "r", EnvironmentSpec())
    serving = asyncio.create_task(manager.execute(lease.id, "until test -e over; do sleep 0.02; done", background=True))
    for command in ("true", "touch over"):
        assert (await manager.execute(lease.id, command)).returncode == 0
    assert (await serving).returncode == 0
    assert [kind for kind in told if kind.startswith("tool")] == ["tool_started", "tool_finished"] * 2


async def test_an_announced_environment_is_prepared_when_somebody_says_so_or_uses_it(make_manager: MakeManager) -> None:
    manager = await make_manager()
    first, second = (manager.announce(name, "r", EnvironmentSpec()) for name in ("p", "q"))
    await asyncio.sleep(0.05)
    assert [lease.state for lease in manager.leases()] == ["requested", "requested"]
    manager.prepare_program("p")
    manager.prepare_program("p")
    assert (await manager.ready(first.id)).state == "ready"
    assert manager.seconds_to_prepare(first.id) > 0
    assert [lease.state for lease in manager.leases()] == ["ready", "requested"]
    assert (await manager.execute(second.id, "echo here")).output == "here\n"


async def test_an_announced_environment_that_is_released_is_never_prepared(make_manager: MakeManager) -> None:
    manager = await make_manager()
    lease = manager.announce("p", "r", EnvironmentSpec())
    await manager.release_program("p")
    manager.prepare_program("p")
    with pytest.raises(EnvironmentFailure, match="reclaimed"):
        await manager.ready(lease.id)


async def test_a_failed_preparation_is_told_to_every_command_that_comes(make_manager: MakeManager) -> None:
    manager = await make_manager()
    lease = manager.announce("p", "r", EnvironmentSpec(setup=("exit 3",)))
    manager.prepare_program("p")
    for _ in range(2):
        with pytest.raises(EnvironmentFailure, match="ended with 3"):
            await manager.execute(lease.id, "true")


async def test_an_environment_that_is_too_old_is_ended_and_its_agent_is_told_why(make_manager: MakeManager) -> None:
    manager = await make_manager(wall_s=0.2)
    lease = await manager.request("p", "r", EnvironmentSpec())
    while manager.leases(active=True):
        await asyncio.sleep(0.02)
    with pytest.raises(EnvironmentFailure, match=r"ended after 0.2 s \(environments.wall_s\)"):
        await manager.execute(lease.id, "true")


async def test_a_daemon_that_takes_over_goes_on_with_environments_that_were_only_announced(
    make_manager: MakeManager,
) -> None:
    killed = await make_manager()
    asked = killed.announce("p", "r", EnvironmentSpec())
    half_way = killed.announce("q", "r", EnvironmentSpec())
    LeaseLedger(killed._ledger.path).move(half_way.id, "preparing")
    heir = await make_manager(take_over=True)
    for lease in (asked, half_way):
        assert (await heir.execute(lease.id, "echo here")).output == "here\n"


async def test_releasing_a_program_takes_all_of_its_environments_and_no_other(make_manager: MakeManager) -> None:
    manager = await make_manager()
    for program in ("p", "p", "q"):
        await manager.request(program, "r", EnvironmentSpec())
    await manager.release_program("p")
    assert [lease.program for lease in manager.leases(active=True)] == ["q"]


async def test_releasing_twice_at_once_is_fine(make_manager: MakeManager) -> None:
    manager = await make_manager()
    lease = await manager.request("p", "r", EnvironmentSpec())
    done = await asyncio.gather(*(manager.release(lease.id) for _ in range(3)))
    assert {each.state for each in done} == {"reclaimed"}


async def test_close_gives_everything_back_and_takes_no_more(make_manager: MakeManager, home: Path) -> None:
    manager = await make_manager()
    await asyncio.gather(*(manager.request(f"p{n}", "r", EnvironmentSpec()) for n in range(5)))
    await manager.close()
    assert folders(home) == []
    assert manager.leases(active=True) == []
    with pytest.raises(EnvironmentFailure, match="closing"):
        await manager.request("late", "r", EnvironmentSpec())


async def test_docker_without_an_engine_is_refused_before_anything_starts(
    make_manager: MakeManager, no_engine: None
) -> None:
    with pytest.raises(PreflightError, match="no Docker engine answers"):
        await make_manager(backend="docker")


async def test_auto_without_an_engine_is_local(make_manager: MakeManager, no_engine: None) -> None:
    assert isinstance((await make_manager(backend="auto")).backend, LocalBackend)


async def test_a_link_out_of_the_files_fails_the_request_and_not_the_manager(
    make_manager: MakeManager, tmp_path: Path, home: Path
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "passwd").symlink_to("/etc/passwd")
    manager = await make_manager()
    with pytest.raises(EnvironmentFailure, match="leads out of"):
        await manager.request("p", "r", EnvironmentSpec(files=files))
    assert folders(home) == []
    assert (await manager.request("p", "r", EnvironmentSpec())).state == "ready"


async def test_what_a_dead_daemon_of_the_same_node_left_is_cleared_at_the_start(home: Path) -> None:
    folder = live_node("n1")
    ledger = LeaseLedger(folder / "state.db")
    left = ledger.open("p", "r", "local")
    ledger.move(left.id, "preparing")
    (folder / "environments" / left.id / "root").mkdir(parents=True)
    elsewhere = ledger.open("p", "r", "docker")
    manager = EnvironmentManager(ToolEnvironmentSpec(backend="local"), ledger, folder, "n1")
    await manager.start()
    assert ledger.get(left.id).state == "reclaimed"
    assert folders(home) == []
    assert ledger.get(elsewhere.id).state == "failed"
    await manager.close()
    ledger.close()
