"""Rows of a user's data set are read from every form, and one that cannot be used is told and left out."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub import constants

from thunderctl.errors import PreflightError, WorkloadError
from thunderctl.workload.base import Task
from thunderctl.workload.rows import load_rows, read_rows, splits_of

ROWS = [{"instance_id": "a__a-1", "text": "one, two\nthree"}, {"instance_id": "b__b-2", "text": "ünï"}]


def task_of(fields: dict[str, Any]) -> Task:
    if "text" not in fields:
        raise WorkloadError("text: field required")
    return Task(instance_id=fields["instance_id"], title=fields["text"])


def write(folder: Path, name: str) -> Path:
    """``ROWS`` in the form that the name's end says."""
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n\n" for row in ROWS), encoding="utf-8-sig")
    elif name.endswith(".json"):
        path.write_text(json.dumps(ROWS, indent=1))
    elif name.endswith(".csv"):
        path.write_text('instance_id,text\r\na__a-1,"one, two\nthree"\r\nb__b-2,ünï\r\n', encoding="utf-8", newline="")
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{**row, "hints": None} for row in ROWS]), path)
    return path


@pytest.mark.parametrize("name", ["r.jsonl", "r.json", "r.csv", "r.parquet"])
def test_the_same_rows_come_from_every_form(name: str, tmp_path: Path) -> None:
    file = write(tmp_path, name)
    assert [row.fields for row in read_rows(str(file))] == ROWS
    found = load_rows(str(file), task_of)
    assert [(task.instance_id, task.title) for task in found] == [(r["instance_id"], r["text"]) for r in ROWS]
    assert found.refused == []


def test_rows_that_cannot_be_used_are_told_with_file_line_and_name_and_the_rest_is_read(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    lines = [b'{"instance_id": "a", "text": "t"}', b"{", b"[1]", b'{"instance_id": "b"}', b"", b'{"text": "\xff"}']
    file.write_bytes(b"\n".join([*lines, lines[0], b'{"instance_id": "c", "text": "t"}']))
    found = load_rows(str(file), task_of)
    assert [task.instance_id for task in found] == ["a", "c"]
    assert [str(refused) for refused in found.refused] == [
        "r.jsonl line 2: not valid JSON: expecting property name enclosed in double quotes at column 2",
        "r.jsonl line 3: wanted an object, found a list",
        "r.jsonl line 4: b: text: field required",
        "r.jsonl line 6: not UTF-8 at byte 11",
        "r.jsonl line 7: a: r.jsonl line 1 has the same instance_id",
    ]
    assert found.refused[2].as_dict() == {
        "row": "r.jsonl line 4",
        "instance_id": "b",
        "reason": "text: field required",
    }


def test_a_csv_row_of_another_length_is_refused_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    file.write_text("instance_id,text\na\nb,t\nc,t,more\n")
    found = load_rows(str(file), task_of)
    assert [task.instance_id for task in found] == ["b"]
    assert [refused.reason for refused in found.refused] == [
        "text: field required",
        "it has more fields than the first line names",
    ]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("r.jsonl", b"", "has no rows"),
        ("r.jsonl", b'{"a": 1}\n{', "none of its 2 rows can be used"),
        ("r.json", b'{"a": 1}', "wanted a list of rows, found an object"),
        ("r.json", b'[{"a": 1}\n{"a": 2}]', "line 2: not valid JSON"),
        ("r.json", b"\xff", "not UTF-8"),
        ("r.csv", b'a,b\n"c', "after line 1: not valid CSV"),
        ("r.parquet", b"not one", "not a Parquet file"),
        ("r.txt", b"", "rows come as .jsonl, .json, .csv, .parquet"),
    ],
)
def test_a_file_that_holds_nothing_to_use_is_an_error(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WorkloadError, match=reason):
        load_rows(str(tmp_path / name), task_of)


@pytest.mark.parametrize("source", ["nowhere/rows.jsonl", "rows", "/no/such/place", "a/b/c"])
def test_what_is_neither_a_file_nor_a_name_is_said_to_be_missing(source: str) -> None:
    with pytest.raises(WorkloadError, match="there is no file of rows"):
        list(read_rows(source))


@pytest.mark.parametrize(("source", "module"), [("r.parquet", "pyarrow"), ("owner/name", "huggingface_hub")])
def test_a_library_that_is_missing_is_named_with_what_installs_it(
    source: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "r.parquet")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PreflightError, match=module) as caught:
        list(read_rows(source))
    assert "thunderctl[datasets]" in (caught.value.hint or "")


# ---------------------------------------------------------------------- Hugging Face, as far as its library asks


@dataclass
class Hub:
    """What stands for Hugging Face: data sets by name, each with its files."""

    url: str
    files: dict[str, dict[str, bytes]]
    gated: set[str]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    commit = "0" * 40

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = self.path.strip("/").split("?")[0].split("/")
            listing = parts[:2] == ["api", "datasets"]
            name = "/".join(parts[2:4] if listing else parts[1:3])
            files = offers.files.get(name)
            if files is None:
                self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            elif name in offers.gated and not listing:
                self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
            elif listing:
                tree = [{"type": "file", "path": file, "oid": commit, "size": len(files[file])} for file in files]
                self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
            else:
                file = "/".join(parts[5:])
                self._send(200, files[file], {"ETag": f'"{abs(hash(file))}"', "X-Repo-Commit": commit})

        do_HEAD = do_GET

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    offers = Hub(f"http://127.0.0.1:{server.server_port}", {}, set())
    download = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, offers.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", download)
    monkeypatch.setattr(constants, "ENDPOINT", offers.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    try:
        yield offers
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def lines(*names: str) -> bytes:
    return "".join(json.dumps({"instance_id": name, "text": "t"}) + "\n" for name in names).encode()


def test_a_name_is_fetched_with_all_its_shards_and_the_test_split_unless_another_is_named(
    hub: Hub, tmp_path: Path
) -> None:
    shard = write(tmp_path, "r.parquet").read_bytes()
    hub.files["owner/set"] = {
        "README.md": b"",
        "data/dev-00000-of-00001.parquet": shard,
        "data/test-00000-of-00002.jsonl": lines("a"),
        "data/test-00001-of-00002.jsonl": lines("b"),
    }
    assert [task.instance_id for task in load_rows("owner/set", task_of)] == ["a", "b"]
    assert [task.instance_id for task in load_rows("owner/set:dev", task_of)] == ["a__a-1", "b__b-2"]
    with pytest.raises(WorkloadError, match="no split 'train'") as caught:
        load_rows("owner/set:train", task_of)
    assert "owner/set:data/dev, owner/set:data/test" in (caught.value.hint or "")


def test_the_only_split_is_taken_and_one_that_several_folders_have_must_be_named_in_full(hub: Hub) -> None:
    hub.files["o/one"] = {"train.jsonl": lines("a")}
    hub.files["o/two"] = {"easy/test.jsonl": lines("a"), "hard/test.jsonl": lines("b")}
    assert [task.instance_id for task in load_rows("o/one", task_of)] == ["a"]
    with pytest.raises(WorkloadError, match="several splits"):
        load_rows("o/two", task_of)
    assert [task.instance_id for task in load_rows("o/two:hard/test", task_of)] == ["b"]


def test_names_that_cannot_be_fetched_are_told_apart(hub: Hub) -> None:
    hub.files["o/closed"] = {"test.jsonl": lines("a")}
    hub.gated.add("o/closed")
    with pytest.raises(WorkloadError, match="agreed to its terms"):
        load_rows("o/closed", task_of)
    with pytest.raises(WorkloadError, match="has no data set 'o/missing'"):
        load_rows("o/missing", task_of)


def test_without_a_network_a_name_is_an_error_that_says_what_to_give_instead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WorkloadError, match="could not be fetched") as caught:
        load_rows("owner/set", task_of)
    assert "file of rows" in (caught.value.hint or "")


def test_splits_go_by_the_names_of_their_files() -> None:
    assert splits_of(["data/test-00000-of-00001.parquet", "a.jsonl", "x/README.md"]) == {
        "data/test": ["data/test-00000-of-00001.parquet"],
        "a": ["a.jsonl"],
    }
