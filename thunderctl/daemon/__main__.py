"""``python -m thunderctl.daemon NODE``: the process that ``thunderctl up`` starts. Its output is the daemon's log."""

from __future__ import annotations

import gc
import json
import logging
import sys

import uvloop

from thunderctl.daemon.node import Node
from thunderctl.errors import ThunderError
from thunderctl.node import node_dir


def leaf(failure: BaseException) -> BaseException:
    """The first real exception inside nested groups."""
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure


async def _serve(name: str) -> None:
    node = Node(name)
    gc.freeze()  # what is loaded by now stays for good: the collector need not look at it again
    await node.serve()


def main(name: str) -> int:
    """Serve the node; a failure to come up is written to ``failure.json`` for whoever waits."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        uvloop.run(_serve(name))
    except BaseException as group:
        failure = leaf(group)
        if not isinstance(failure, ThunderError):
            logging.getLogger("thunderctl.daemon").exception("the node ends")
            failure = ThunderError(
                f"{type(failure).__name__}: {failure}", hint=f"the daemon's log is in {node_dir(name) / 'logs'}"
            )
        record = {
            "message": failure.message,
            "hint": failure.hint,
            "details": failure.details,
            "exit_code": int(failure.exit_code),
        }
        (node_dir(name) / "failure.json").write_text(json.dumps(record))
        return int(failure.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
