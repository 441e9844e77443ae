"""mini-SWE-agent's ``DefaultAgent``, unchanged, on a bundled task.

    thunderctl up laptop
    python -m thunderctl.integrations.mini_swe_agent_example --replay

``--replay`` forces the recorded answers, since the laptop's small random model solves nothing; without it the model
decides. The patch is printed; what the agent did is saved if ``--output`` names a file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from minisweagent.agents.default import DefaultAgent

from thunderctl.integrations.mini_swe_agent import GatewayModel, LeasedEnvironment
from thunderctl.integrations.program import Program
from thunderctl.workload.coding import CodingTask, CodingWorkload
from thunderctl.workload.load import find_workload, load_tasks, load_workload


def main() -> None:
    parser = argparse.ArgumentParser(description="mini-SWE-agent on a bundled task, through a thunderctl node")
    parser.add_argument("--task", default="fieldpress__cut-in-quotes-1590")
    parser.add_argument("--replay", action="store_true", help="force the recorded answers")
    parser.add_argument("--output", type=Path, help="where the agent saves its trajectory")
    asked = parser.parse_args()

    folder = find_workload("swebench")
    workload = load_workload(folder)
    assert isinstance(workload, CodingWorkload)  # noqa: S101
    task = next(task for task in load_tasks(folder, workload) if task.instance_id == asked.task)
    assert isinstance(task, CodingTask)  # noqa: S101
    recorded = [step.content for step in task.trajectory or []]

    with Program() as program:
        agent = DefaultAgent(
            GatewayModel(program, replay=recorded if asked.replay else None),
            LeasedEnvironment(program, files=task.files),
            system_template=workload.prompts.system,
            instance_template=workload.prompts.instance,
            step_limit=workload.limits.steps,
            output_path=asked.output,
        )
        ended = agent.run(task.problem_statement, tag=program.name)
    print(f"{ended['exit_status']} after {agent.n_calls} model calls, as program {program.name}", file=sys.stderr)  # noqa: T201
    print(ended["submission"], end="")  # noqa: T201


if __name__ == "__main__":
    main()
