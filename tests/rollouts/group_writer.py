"""Writes groups into a folder, one after another, in processes that can be killed.

``python -m tests.rollouts.group_writer FOLDER``: each line of stdin begins a writer, which says its pid and then each
number when that group is in; ``over`` follows when it is gone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pyarrow.parquet  # noqa: F401 - here, not in every writer

from tests.rollouts.seeded_groups import seeded_group
from thunderctl.rollouts.files import GroupFiles, to_table


def say(line: object) -> None:
    os.write(1, f"{line}\n".encode())


def write(folder: Path) -> None:
    say(os.getpid())
    files = GroupFiles(folder)
    files.make_ready()
    done = files.done()
    for number in range(10_000):
        if f"g{number}" not in done:
            files.write(seeded_group(f"g{number}", number))
            say(number)


if __name__ == "__main__":
    to_table(seeded_group("warm", 0))  # brings in what pyarrow imports when it is first used
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            write(Path(sys.argv[1]))
        os.waitpid(child, 0)
        say("over")
