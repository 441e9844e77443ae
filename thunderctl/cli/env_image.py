"""``thunderctl env image`` and ``thunderctl env prefetch``: bring, make, list and remove images of environments."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import docker
import typer
from docker.errors import DockerException
from rich.table import Table

from thunderctl.cli import complete
from thunderctl.cli.dataset import Dataset, load_dataset
from thunderctl.cli.gc import age
from thunderctl.cli.show import AsJson, out, print_json, ticker
from thunderctl.environments.docker import connect
from thunderctl.environments.image_policy import ImageLayers, image_bytes, removable
from thunderctl.environments.image_store import images_in_use, record, remove_images
from thunderctl.environments.images import Images
from thunderctl.environments.pulls import PullLimits
from thunderctl.environments.recipes import name_of
from thunderctl.environments.task_images import TaskImage, make_task_images, sources_of
from thunderctl.errors import EnvironmentFailure, ExitCode, PreflightError, ThunderError, UsageError
from thunderctl.profile import ToolEnvironmentSpec
from thunderctl.report.tables import size
from thunderctl.workload.base import Task, Workload
from thunderctl.workload.load import find_workload, kind_of, load_tasks, load_workload

DEFAULTS = ToolEnvironmentSpec()

image_app = typer.Typer(
    name="image",
    help="Make, list and remove images of tool environments.",
    no_args_is_help=True,
    rich_markup_mode=None,  # examples keep their lines, and brackets stay brackets
)

Only = Annotated[list[str] | None, typer.Option("--task", help="Only this task; may be repeated.")]
Concurrent = Annotated[int, typer.Option("--concurrent-pulls", min=1, help="Pulls at once.")]
PerHour = Annotated[int | None, typer.Option("--pulls-per-hour", min=1, help="Pulls in any hour; without it no limit.")]


@image_app.command("build")
def build_command(
    workload: Annotated[
        str, typer.Argument(help="Bundled workload, or a folder of your own.", autocompletion=complete.workloads)
    ] = "swebench",
    task: Only = None,
    as_json: AsJson = False,
) -> None:
    """Make an image for each task of a workload. No registry is needed.

    The base image comes from a registry if one answers, else from a Debian mirror (debootstrap, as root). Each task
    adds one small layer to it: its files, set up and committed. What is there already stays.

    \b
    Examples:
      thunderctl env image build
      thunderctl env image build ./my-workload --task first-one
    """
    loaded, tasks = _tasks(workload, None, task)
    made: list[TaskImage] = []
    with _engine() as client, ticker() as progress, _images(client, PullLimits()) as images:
        for each in make_task_images(client, images, loaded, tasks, progress):
            made.append(each)
        layers = image_bytes(client)
    rows = [{"task": x.task, "image": x.name, "made": x.made, "unique_bytes": layers.unique(x.name)} for x in made]
    if as_json:
        print_json({"images": rows})
        return
    _table(
        ("task", "image", "own layer", ""),
        [(x.task, x.name, size(layers.unique(x.name)), "made" if x.made else "was there") for x in made],
    )


@image_app.command("ls")
def ls_command(as_json: AsJson = False) -> None:
    """List the images that this home brought: pulled, built, imported or prepared. Others are not shown.

    "unique" goes with the image; "shared" is needed by others too.

    \b
    Examples:
      thunderctl env image ls
      thunderctl env image ls --json
    """
    with _engine() as client:
        layers = image_bytes(client)
        rows = _rows(layers, images_in_use(client))
    if as_json:
        print_json({"images": rows, "bytes": layers.bytes(layers.layers)})
        return
    if not rows:
        out.print("no image was brought by this home", highlight=False)
        return
    now = time.time()
    _table(
        ("name", "how", "unique", "shared", "last used", "in use by", "run"),
        [
            (
                x["name"], x["how"], size(x["unique_bytes"]) if x["present"] else "gone",
                size(x["shared_bytes"]) if x["present"] else "", f"{age(now - x['last_used'])} ago",
                x["in_use_by"] or "", x["run"],
            )
            for x in rows
        ],
    )  # fmt: skip
    out.print(f"{len(rows)} images, {size(layers.bytes(layers.layers))}", highlight=False)


@image_app.command("rm")
def rm_command(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME…", help="Images, as `ls` names them.")] = None,
    unused: Annotated[bool, typer.Option("--unused", help="All that no lease and no container needs.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go and remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove images that this home brought. What is in use stays, and so does whatever was there before.

    \b
    Examples:
      thunderctl env image rm --unused --dry-run
      thunderctl env image rm python:3.12-slim
    """
    if bool(names) == unused:
        raise UsageError("say which images: names, or --unused", hint="`thunderctl env image ls` shows what there is")
    known = record()
    foreign = [name for name in names or () if name not in known]
    if foreign:
        raise UsageError(
            f"{', '.join(foreign)}: not brought by this home, so not its to remove",
            hint="`thunderctl env image ls` shows what is; `docker rmi` removes anything",
        )
    with _engine() as client:
        layers = image_bytes(client)
        using = images_in_use(client)
        gone = [name for name in known if name not in layers.layers]  # to be forgotten
        going = [*removable(known, layers, using.keys()), *gone] if unused else list(dict.fromkeys(names or ()))
        frees = layers.freed(going)
        if not as_json:
            _show_plan(going, layers, using, frees)
        if not going or dry_run:
            if as_json:
                print_json({"plan": going, "bytes": frees})
            return
        if not yes and not as_json and sys.stdin.isatty() and not typer.confirm("Remove them?", default=False):
            return
        done = remove_images(client, going)
        freed = layers.freed(done.removed)
    if as_json:
        print_json({"plan": going, "removed": done.removed, "kept": done.kept, "bytes": freed})
    else:
        out.print(f"removed {len(done.removed)}, {size(freed)}", highlight=False)
        for name, reason in done.kept.items():
            out.print(f"left alone: {name}: {reason}", markup=False, highlight=False, soft_wrap=True)
    if names and done.kept:
        raise typer.Exit(ExitCode.FAILED)


def prefetch(
    workload: Annotated[
        str | None, typer.Argument(help="Bundled workload, or a folder of your own.", autocompletion=complete.workloads)
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option("--image", help="A name, base:NAME, build:FOLDER or import:FILE; may be repeated."),
    ] = None,
    dataset: Dataset = None,
    task: Only = None,
    concurrent: Concurrent = DEFAULTS.concurrent_pulls,
    per_hour: PerHour = DEFAULTS.pulls_per_hour,
    as_json: AsJson = False,
) -> None:
    """Bring every image that a workload needs, now: then no run waits for one.

    \b
    Examples:
      thunderctl env prefetch swebench
      thunderctl env prefetch swebench --dataset swe-bench-lite.jsonl --pulls-per-hour 16
      thunderctl env prefetch --image python:3.12-slim
    """
    sources = list(image or ())
    if workload is not None:
        sources += sources_of(*_tasks(workload, dataset, task))
    elif dataset is not None or task:
        raise UsageError(
            "--dataset and --task belong to a workload", hint="thunderctl env prefetch swebench --dataset …"
        )
    if not sources:
        raise UsageError("say what to bring: a workload, or --image NAME")
    sources = list(dict.fromkeys(sources))
    limits = PullLimits(concurrent, per_hour)
    with _engine() as client, ticker() as progress, _images(client, limits) as images:
        there = {source: _present(images, source) for source in sources}
        came, failed = _bring_all(images, sources, concurrent, progress)
    if as_json:
        print_json({
            "images": [{"source": x, "image": name, "was_there": there[x]} for x, name in came.items()],
            "failed": {x: error.message for x, error in failed.items()},
        })  # fmt: skip
    else:
        _table(("wanted", "image", ""), [(x, name, "was there" if there[x] else "brought") for x, name in came.items()])
    if failed:
        details = [f"{source}: {error.message}" for source, error in failed.items()]
        raise EnvironmentFailure(
            f"{len(failed)} of {len(sources)} images could not be brought", details=details[:20],
            hint=next(iter(failed.values())).hint,
        )  # fmt: skip


def _bring_all(
    images: Images, sources: list[str], at_once: int, progress: Any
) -> tuple[dict[str, str], dict[str, ThunderError]]:
    came: dict[str, str] = {}
    failed: dict[str, ThunderError] = {}

    def bring(source: str) -> None:
        try:
            came[source] = images.ensure(source, progress)
        except ThunderError as error:
            failed[source] = error
        if len(sources) > 1:
            progress(f"{len(came) + len(failed)} of {len(sources)} images are done")

    with ThreadPoolExecutor(at_once) as threads:
        try:
            list(threads.map(bring, sources))
        except BaseException:  # Ctrl-C: nobody waits for pulls that nobody wants any more
            images.close()
            raise
    return {source: came[source] for source in sources if source in came}, failed


def _present(images: Images, source: str) -> bool:
    try:
        return images.present(name_of(source))
    except EnvironmentFailure:
        return False  # why not is told when it is brought


def _tasks(workload: str, dataset: str | None, only: list[str] | None) -> tuple[Workload, list[Task]]:
    folder = find_workload(workload)
    loaded = load_workload(folder)
    tasks = load_dataset(kind_of(loaded), dataset) if dataset else load_tasks(folder, loaded)
    names = {task.instance_id for task in tasks}
    unknown = [name for name in only or () if name not in names]
    if unknown:
        raise UsageError(f"{workload} has no task {', '.join(unknown)}", hint=f"it has {', '.join(sorted(names)[:20])}")
    return loaded, [task for task in tasks if not only or task.instance_id in only]


def _rows(layers: ImageLayers, using: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "name": known.name,
            "id": known.id,
            "how": known.how,
            "present": known.name in layers.layers,
            "unique_bytes": layers.unique(known.name),
            "shared_bytes": layers.shared(known.name),
            "brought": known.when,
            "last_used": known.last_used,
            "in_use_by": using.get(known.name),
            "run": known.run,
        }
        for known in sorted(record().values(), key=lambda each: (-each.last_used, each.name))
    ]


def _show_plan(going: list[str], layers: ImageLayers, using: dict[str, str], frees: int) -> None:
    if not going:
        out.print("nothing to remove")
        return
    _table(("image", "unique", ""), [
        (name, size(layers.unique(name)), f"in use by {using[name]}: stays" if name in using else "") for name in going
    ])  # fmt: skip
    out.print(f"{len(going)} to remove, {size(frees)}", highlight=False)


def _table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table, markup=False, highlight=False)


@contextlib.contextmanager
def _images(client: docker.DockerClient, limits: PullLimits) -> Iterator[Images]:
    images = Images(client, limits)
    try:
        yield images
    finally:
        images.close()


@contextlib.contextmanager
def _engine() -> Iterator[docker.DockerClient]:
    """An engine that answers; images are nothing without one."""
    try:
        client = connect()
    except EnvironmentFailure as error:
        raise PreflightError(
            error.message, hint="images belong to a Docker engine: start one, or set DOCKER_HOST"
        ) from None
    try:
        yield client
    except DockerException as error:
        raise EnvironmentFailure(
            f"the Docker engine refused: {getattr(error, 'explanation', None) or error}"
        ) from error
    finally:
        client.close()
