"""Images of bundled tasks: the base, and one small layer with the task's files, set up and committed.

They are made without any registry, once, before a measurement, so that an environment of a task is a container and
nothing more. The tag ends in a digest of all that went in: a task that changes gets another image, and
``prepared.find_prepared`` finds it by that digest alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import docker
from docker.errors import APIError, NotFound

from thunderctl import paths
from thunderctl.environments.backend import COMMIT, COMMIT_ENV, Progress
from thunderctl.environments.files import tree_archive
from thunderctl.environments.images import BASE, Images
from thunderctl.environments.prepared import commit, workspace_key
from thunderctl.environments.recipes import OWN, OWNER
from thunderctl.environments.spec import EnvironmentSpec
from thunderctl.errors import EnvironmentFailure
from thunderctl.workload.base import Task, Workload

LONGEST_TAG = 128
MAKING_S = 1800
"""A container in which an image is made ends by itself after so long, should its maker be killed."""


@dataclass(frozen=True, slots=True)
class TaskImage:
    task: str
    name: str
    made: bool
    """Made just now; else it was there."""


def task_spec(workload: Workload, task: Task) -> EnvironmentSpec:
    """What an agent asks for on this task."""
    said = workload.environment
    return EnvironmentSpec(
        image=task.image or said.image, files=task.files, setup=tuple(said.setup), env=dict(said.env)
    )  # fmt: skip


def sources_of(workload: Workload, tasks: list[Task]) -> list[str]:
    """Every image that the workload starts environments from, each once."""
    return sorted({task_spec(workload, task).image or BASE for task in tasks})


def task_image_name(workload: Workload, task: Task, digest: str) -> str:
    """``thunderctl/task:<workload>-<task>-<digest>``."""
    words = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{workload.name}-{task.instance_id}")
    return f"{OWN}task:{words[: LONGEST_TAG - len(digest) - 1]}-{digest}"


def make_task_images(
    client: docker.DockerClient, images: Images, workload: Workload, tasks: list[Task], progress: Progress
) -> Iterator[TaskImage]:
    """One image a task, as each is ready. Tasks that live in an image of their own are left out."""
    for number, task in enumerate(tasks, 1):
        if task.files is None:
            continue
        spec = task_spec(workload, task)
        base = images.ensure(spec.image or BASE, progress)
        key = workspace_key(images.id_of(base), spec)
        name = task_image_name(workload, task, key)
        if images.present(name):
            yield TaskImage(task.instance_id, name, made=False)
            continue
        progress(f"task {number} of {len(tasks)}: {task.instance_id}")
        with _container(client, base) as container:
            _fill(client, container, spec)
            if commit(client, container, name, key, "built") is None:
                raise EnvironmentFailure(f"{base} declares volumes: what is set up in them cannot be kept in an image")
        yield TaskImage(task.instance_id, name, made=True)


@contextmanager
def _container(client: docker.DockerClient, base: str) -> Iterator[str]:
    # No lease stands behind it, so no lease label: what it leaves behind if we are killed, its own end takes away.
    made = client.containers.create(
        base,
        command=[str(MAKING_S)],
        entrypoint=["sleep"],
        labels={OWNER: paths.owner()},
        network_mode="none",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        healthcheck={"test": ["NONE"]},
        working_dir="/",
        auto_remove=True,
        init=True,
    )
    try:
        made.start()
        yield str(made.id)
    finally:
        try:
            made.remove(force=True, v=True)
        except NotFound:
            pass
        except APIError as error:
            if error.status_code != 409:  # it is going already
                raise


def _fill(client: docker.DockerClient, container: str, spec: EnvironmentSpec) -> None:
    uid, gid = _run(client, container, "id -u; id -g", "/", {}).split()
    with tree_archive(spec.files, spec.workdir, int(uid), int(gid)) as archive:
        client.api.put_archive(container, "/", archive)
    for command in spec.setup:
        _run(client, container, command, spec.workdir, spec.env)
    if spec.git:
        _run(client, container, COMMIT, spec.workdir, {**spec.env, **COMMIT_ENV})


def _run(client: docker.DockerClient, container: str, command: str, workdir: str, env: Mapping[str, str]) -> str:
    argv = ["/bin/sh", "-c", 'b=$(command -v bash) || b=sh; exec "$b" -c "$1" 2>&1', "tool", command]
    made = client.api.exec_create(container, argv, workdir=workdir, environment=dict(env))["Id"]
    said = client.api.exec_start(made).decode(errors="replace")
    code = client.api.exec_inspect(made)["ExitCode"]
    if code:
        raise EnvironmentFailure(
            f"a set-up command of a task ended with {code}: {command}", details=said.splitlines()[-10:]
        )
    return str(said)
