"""The small model: made once, the same every time, with a tokenizer and a template that suit a prefix cache."""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path

import pytest

from thunderctl.errors import EngineError
from thunderctl.workers.command import SMALL_CONTEXT
from thunderctl.workers.doors import tensor_shapes
from thunderctl.workers.engine import EngineEnvironment
from thunderctl.workers.model import INSIDE, ensure_small_model


def test_an_interpreter_without_a_tokenizer_trainer_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THUNDERCTL_CACHE", str(tmp_path))
    venv.create(tmp_path / "bare")
    with pytest.raises(EngineError, match="could not make the small model") as caught:
        ensure_small_model(tmp_path / "bare" / "bin" / "python")
    assert "tokenizers" in caught.value.details[-1]
    assert "engine remove" in (caught.value.hint or "")
    with pytest.raises(EngineError, match="cannot be run"):
        ensure_small_model(tmp_path / "python")


@pytest.mark.engine
def test_it_is_made_once_and_the_same_bytes_each_time(
    engine_environment: EngineEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = []
    for name in ("first", "second"):
        monkeypatch.setenv("THUNDERCTL_CACHE", str(tmp_path / name))
        lines: list[str] = []
        folders.append(ensure_small_model(engine_environment.python, lines.append))
        assert len(lines) == 1
        assert ensure_small_model(engine_environment.python, lines.append) == folders[-1]
        assert len(lines) == 1
    contents = [{file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders]
    assert contents[0] == contents[1]
    assert folders[0].name == folders[1].name
    assert json.loads(contents[0]["config.json"])["max_position_embeddings"] == SMALL_CONTEXT
    shapes = tensor_shapes(folders[0])
    assert shapes["lm_head.weight"] == (8192, 256) and len(shapes) == 21


@pytest.mark.engine
def test_any_text_survives_the_tokenizer(engine_environment: EngineEnvironment, small_model: Path) -> None:
    program = (
        "import sys; from tokenizers import Tokenizer; t = Tokenizer.from_file(sys.argv[1]);"
        "text = ''.join(map(chr, [*range(1, 0x3000), 0x1f680, 0xfeff])) + ' don\\'t  \\n\\n\\t x';"
        "assert t.decode(t.encode(text).ids) == text; print(t.get_vocab_size())"
    )
    said = subprocess.run(
        [engine_environment.python, "-c", program, small_model / "tokenizer.json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "8192\n"
    assert (INSIDE / "make_small_model.py").is_file()
