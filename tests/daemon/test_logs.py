"""The daemon's log: its two forms, its levels, what it must never hold, and how large it gets."""

from __future__ import annotations

import json
import logging
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.killable import KillableNode
from thunderctl.daemon import logs
from thunderctl.errors import UsageError

SECRET = 'hunter2 "and" some more'


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """``begin`` sets the whole process up; the other tests want their own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for component in logs.COMPONENTS:
        logging.getLogger(f"thunderctl.{component}").setLevel(logging.NOTSET)


def test_json_lines_say_when_how_grave_and_who(capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin([], {"THUNDERCTL_LOG_FORMAT": "json"})
    logging.getLogger("thunderctl.workers").warning("%s is\ngone", "w0")
    logging.getLogger("aiohttp.server").error("broken")
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["component"], line["message"]) for line in said] == [
        ("warning", "workers", "w0 is\ngone"),
        ("error", "aiohttp.server", "broken"),
    ]
    assert all(line["time"].endswith("Z") for line in said)


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_are_hidden_in_messages_and_in_tracebacks(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    environ = {
        "THUNDERCTL_LOG_FORMAT": form,
        "MY_API_KEY": SECRET,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-team=abc,auth=s3cr3t",
    }
    kept = logs.begin(["the node's token"], environ)
    log = logging.getLogger("thunderctl.daemon")
    log.warning("sent %s with s3cr3t and %s", SECRET, "the node's token")
    try:
        raise ValueError(f"refused: {SECRET}")
    except ValueError:
        log.exception("no")
    told = capsys.readouterr().err + json.dumps(list(kept))
    assert "hunter2" not in told and "s3cr3t" not in told and "the node's token" not in told
    assert told.count("[hidden]") >= 4 and "ValueError" in told


def test_each_component_can_have_a_level_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin([], {"THUNDERCTL_LOG_LEVEL": "warning, workers=debug"})
    for component in ("daemon", "workers"):
        logging.getLogger(f"thunderctl.{component}").debug("%s talks", component)
    assert "workers talks" in (said := capsys.readouterr().err) and "daemon talks" not in said


@pytest.mark.parametrize(
    "environ",
    [{"THUNDERCTL_LOG_LEVEL": "loud"}, {"THUNDERCTL_LOG_LEVEL": "gatewy=info"}, {"THUNDERCTL_LOG_FORMAT": "xml"}],
)
def test_what_is_no_level_or_form_is_refused_with_those_there_are(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError) as refused:
        logs.begin([], environ)
    assert refused.value.hint


def test_the_latest_warnings_are_remembered_and_no_more_than_some() -> None:
    kept = logs.begin([], {})
    for number in range(logs.REMEMBERED + 5):
        logging.getLogger("thunderctl.daemon").warning("trouble %d", number)
    logging.getLogger("thunderctl.daemon").info("all is well")
    assert len(kept) == logs.REMEMBERED and kept[-1]["text"] == f"trouble {logs.REMEMBERED + 4}"


def test_a_large_log_is_rotated_and_its_writer_goes_on_in_an_empty_one(tmp_path: Path) -> None:
    file = tmp_path / "worker-0.log"
    with file.open("ab", buffering=0) as writer:
        for generation in range(6):
            writer.write(b"%d\n" % generation * 1000)
            logs.rotate_large(tmp_path, limit=1500)
            assert file.stat().st_size == 0
    kept = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert set(kept) == {"worker-0.log", "worker-0.log.1", "worker-0.log.2", "worker-0.log.3"}
    assert [kept[f"worker-0.log.{n}"][:1] for n in (1, 2, 3)] == [b"5", b"4", b"3"]


def test_a_small_log_and_a_file_that_is_no_log_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "daemon.log").write_text("x" * 1000)
    (tmp_path / "worker-0.steps").write_text("x" * 9000)
    logs.rotate_large(tmp_path, limit=1500)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["daemon.log", "worker-0.steps"]


def test_a_node_that_was_told_to_logs_json_and_neither_key_nor_token(tmp_path: Path) -> None:
    node = KillableNode(tmp_path / "home", {"LOG_KEY": SECRET, "THUNDERCTL_LOG_FORMAT": "json"})
    node.prepare(workers={"count": 1}, gateway={"api_key_env": "LOG_KEY"})
    node.start()
    try:
        token = (node.folder / "token").read_text()
        request = urllib.request.Request(node.url + "/live", headers={"Authorization": f"Bearer {SECRET}"})
        urllib.request.urlopen(request, timeout=10).read()
    finally:
        node.end()
    said = (node.home / "daemon.log").read_text()
    lines = [json.loads(line) for line in said.splitlines()]
    assert any(line["message"].startswith("ready: 1 worker") for line in lines)
    assert token not in said and "hunter2" not in said
