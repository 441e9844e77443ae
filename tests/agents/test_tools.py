"""The tools of heavy coding agents, carried out for real in a folder: editor, Python cells, shell and submission."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.agents.tool_node import LEASE, ToolNode, repository, tool_node
from thunderctl.agents.tool_schemas import BadCall
from thunderctl.agents.tools import LONGEST_CALL, Toolbox

FILES = {"pack/one.py": "A = 1\nB = 2\nC = 3\n", "README.md": "# pack\n", ".hidden": "x\n"}


class Tools:
    """A toolbox whose calls are short to write."""

    def __init__(self, node: ToolNode) -> None:
        self.node = node
        self.box = Toolbox(node.client, LEASE)

    async def edit(self, action: str, path: str, **arguments: Any) -> tuple[int, str]:
        ran = await self.box.use("edit_file", {"action": action, "path": path, **arguments})
        return ran.result.returncode, ran.result.output

    async def cell(self, code: str) -> tuple[int, str]:
        ran = await self.box.use("python", {"code": code})
        return ran.result.returncode, ran.result.output

    def text(self, path: str) -> str:
        return (self.node.testbed / path).read_text()


@pytest_asyncio.fixture
async def tools(tmp_path: Path) -> AsyncIterator[Tools]:
    repository(tmp_path / "testbed", FILES)
    async with tool_node(tmp_path) as node:
        tools = Tools(node)
        yield tools
        await tools.box.close()


async def test_files_are_viewed_with_numbers_and_folders_two_levels_deep(tools: Tools) -> None:
    assert await tools.edit("view", "pack/one.py") == (
        0,
        "pack/one.py, lines 1 to 3 of 3:\n     1  A = 1\n     2  B = 2\n     3  C = 3\n",
    )
    assert await tools.edit("view", "pack/one.py", lines=[2, -1]) == (
        0,
        "pack/one.py, lines 2 to 3 of 3:\n     2  B = 2\n     3  C = 3\n",
    )
    assert await tools.edit("view", ".") == (0, "., two levels deep:\nREADME.md\npack/\npack/one.py\n")


async def test_edits_are_shown_and_can_be_undone_one_by_one(tools: Tools) -> None:
    code, told = await tools.edit("replace", "pack/one.py", old="B = 2\n", new="B = 20\n")
    assert code == 0 and "     2  B = 20\n" in told
    assert (await tools.edit("insert", "pack/one.py", after=3, text="D = 4"))[0] == 0
    assert (await tools.edit("create", "pack/sub/two.py", text="E = 5\n"))[0] == 0
    assert tools.text("pack/one.py") == "A = 1\nB = 20\nC = 3\nD = 4\n" and tools.text("pack/sub/two.py") == "E = 5\n"
    for expected in ("A = 1\nB = 20\nC = 3\n", "A = 1\nB = 2\nC = 3\n"):
        assert (await tools.edit("undo", "pack/one.py"))[0] == 0
        assert tools.text("pack/one.py") == expected
    assert (await tools.edit("undo", "pack/sub/two.py"))[0] == 0
    assert not (tools.node.testbed / "pack/sub/two.py").exists()
    code, told = await tools.edit("undo", "pack/one.py")
    assert code == 1 and "nothing to undo" in told


@pytest.mark.parametrize(
    ("action", "path", "arguments", "reason"),
    [
        ("replace", "pack/one.py", {"old": "Z", "new": ""}, "stands 0 times"),
        ("replace", "pack/one.py", {"old": " = ", "new": ""}, "stands 3 times"),
        ("replace", "pack/one.py", {"old": "", "new": "x"}, "stands 0 times"),
        ("replace", "pack/none.py", {"old": "a", "new": "b"}, "does not exist"),
        ("replace", "pack/one.py", {"old": "A"}, "needs `new`"),
        ("create", "pack/one.py", {"text": ""}, "exists"),
        ("insert", "pack/one.py", {"after": 4, "text": "x"}, "has 3 lines"),
        ("insert", "pack", {"after": 0, "text": "x"}, "is a folder"),
        ("view", "pack/one.py", {"lines": [9, 12]}, "has 3 lines"),
        ("view", "pack/one.py", {"lines": [1]}, "a pair of numbers"),
        ("move", "pack/one.py", {}, "must be one of"),
    ],
)
async def test_what_the_editor_refuses_changes_nothing(
    tools: Tools, action: str, path: str, arguments: dict[str, Any], reason: str
) -> None:
    code, told = await tools.edit(action, path, **arguments)
    assert code == 1 and reason in told
    assert tools.text("pack/one.py") == FILES["pack/one.py"]


async def test_odd_bytes_and_line_ends_survive_an_edit(tools: Tools) -> None:
    (tools.node.testbed / "odd").write_bytes(b"a\r\n\xff\xfe\r\nb")
    assert (await tools.edit("replace", "odd", old="b", new="ü"))[0] == 0
    assert (tools.node.testbed / "odd").read_bytes() == b"a\r\n\xff\xfe\r\n\xc3\xbc"


async def test_cells_keep_variables_and_see_the_repository(tools: Tools) -> None:
    assert await tools.cell("from pack.one import A\nx = A + 1\nx") == (0, "2\n")
    assert await tools.cell("import os\nprint('x is', x)\n_ = os.system('echo from a program')") == (
        0,
        "x is 2\nfrom a program\n",
    )
    code, told = await tools.cell("def f():\n    return 1 / 0\nf()")
    assert code == 1 and "ZeroDivisionError" in told and "return 1 / 0" in told and "cell.py" not in told
    assert await tools.cell("x += 1\nprint(x)") == (0, "3\n")
    assert (await tools.cell("x = ("))[0] == 1


async def test_a_process_that_ends_is_replaced_and_its_loss_told(tools: Tools) -> None:
    await tools.cell("x = 1")
    code, told = await tools.cell("import os\nos._exit(3)")
    assert code == 75 and "variables are gone" in told
    code, told = await tools.cell("x")
    assert code == 1 and "NameError" in told


async def test_the_process_ends_with_the_toolbox(tools: Tools) -> None:
    await tools.cell("x = 1")
    (process,) = tools.node.running
    await tools.box.close()
    for _ in range(100):
        if not tools.node.running:
            break
        await asyncio.sleep(0.05)
    assert not tools.node.running
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


async def test_the_submission_is_the_difference_without_the_tools(tools: Tools) -> None:
    await tools.cell("x = 1")
    await tools.edit("replace", "README.md", old="pack", new="bag")
    await tools.edit("create", "new.txt", text="new\n")
    ran = await tools.box.use("finish", {"message": "done"})
    assert ran.result.returncode == 0 and "+# bag" in ran.result.output and "new.txt" in ran.result.output
    assert "thunderctl" not in ran.result.output


async def test_waiting_for_the_environment_is_told_once_even_if_the_tools_come_first(tools: Tools) -> None:
    first = await tools.box.use("edit_file", {"action": "view", "path": "README.md"})
    second = await tools.box.use("edit_file", {"action": "view", "path": "README.md"})
    assert (first.result.waited_s, second.result.waited_s) == (0.5, 0.25)  # the node tells 0.25 for each command
    assert first.command == "edit_file view README.md" and len(tools.node.commands) == 3


async def test_a_call_that_no_command_line_can_hold_is_refused(tools: Tools) -> None:
    with pytest.raises(BadCall, match=str(LONGEST_CALL)):
        await tools.cell("#" * (LONGEST_CALL + 1))
    assert await tools.cell("len('" + "y" * (LONGEST_CALL - 20) + "')") == (0, f"{LONGEST_CALL - 20}\n")
