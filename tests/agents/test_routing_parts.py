"""What routing agents stand on: findings that only grow, searching a corpus, time that tools take on purpose."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from thunderctl.agents.routing_context import Findings
from thunderctl.agents.routing_latency import tool_latency_s
from thunderctl.agents.routing_models import check_models
from thunderctl.agents.routing_search import Corpus, Passage, load_corpus
from thunderctl.errors import PreflightError, WorkloadError
from thunderctl.profile import RoleModelSpec

MOTH = Passage("moth", "Glass moth", "Its wings are clear, smoky or black.")
BELL = Passage("bell", "The bells of Pell", "The largest sounds at 233 hertz.")


def test_findings_only_grow_at_their_end_until_they_must_make_room() -> None:
    findings = Findings(limit=100, left_out="(gone)")
    texts = []
    for number in range(40):
        findings.add(f"finding {number:02d};", [MOTH] if number == 0 else [])
        texts.append(str(findings))
    breaks = [n for n, (before, now) in enumerate(zip(texts, texts[1:], strict=False), 1) if not now.startswith(before)]
    # 11 characters each: nine fit, and room is made down to half of the limit, so the prefix breaks each sixth time.
    assert breaks == [9, 15, 21, 27, 33, 39] and findings.made_room == len(breaks)
    assert max(map(len, texts)) <= 100 + len("(gone)") and texts[-1].startswith("(gone)")
    assert findings.unknown([MOTH]) == [MOTH]  # it went, so it may be shown again


def test_a_passage_that_stands_there_is_known() -> None:
    findings = Findings(limit=100, left_out="")
    findings.add("a", [MOTH])
    assert findings.unknown([MOTH, BELL]) == [BELL]


def test_one_finding_beyond_the_limit_stays() -> None:
    findings = Findings(limit=10, left_out="")
    findings.add("x" * 30)
    assert str(findings) == "x" * 30


def test_a_search_finds_passages_by_their_words_and_none_without_any() -> None:
    corpus = Corpus([MOTH, BELL])
    assert corpus.search("hertz of the largest bell", 5) == [BELL]
    assert corpus.search("wings", 1) == [MOTH]
    assert corpus.search("quarrel", 5) == [] and corpus.search("the of", 5) == [] and corpus.search("", 5) == []


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["{"], "line 1"),
        (['{"id": "a", "text": "x"}', '{"id": "b"}'], "line 2"),
        (['{"id": "a", "text": "x"}', '{"id": "a", "text": "y"}'], "there is a passage 'a'"),
        (["7"], "line 1"),
        ([""], "no passages"),
        (['{"id": "a", "text": "x y"}'], "no words"),
    ],
)
def test_a_corpus_that_cannot_be_used_is_refused_by_its_line(lines: list[str], reason: str, tmp_path: Path) -> None:
    file = tmp_path / "corpus.jsonl"
    file.write_text("\n".join(lines))
    with pytest.raises(WorkloadError, match=reason):
        load_corpus(file)


def test_a_corpus_is_indexed_once(tmp_path: Path) -> None:
    file = tmp_path / "corpus.jsonl"
    file.write_text(json.dumps({"id": "a", "text": "glass moth"}) + "\n")
    assert load_corpus(file) is load_corpus(file)
    with pytest.raises(WorkloadError, match="cannot be read"):
        load_corpus(tmp_path / "none.jsonl")


def test_latency_follows_from_seed_agent_and_call_alone() -> None:
    first = tool_latency_s("long-tail", "search", 7, "agent-001", 3)
    assert first == tool_latency_s("long-tail", "search", 7, "agent-001", 3)
    others = [(8, "agent-001", 3), (7, "agent-002", 3), (7, "agent-001", 5)]
    assert first not in [tool_latency_s("long-tail", "search", *other) for other in others]
    assert tool_latency_s("none", "search", 7, "agent-001", 3) == 0 == tool_latency_s("fast", "answer", 7, "a", 3)


def test_the_long_tail_is_long() -> None:
    waits = sorted(tool_latency_s("long-tail", "search", 0, "agent", call) for call in range(4000))
    assert 1.2 < statistics.median(waits) < 3 and 4 < statistics.fmean(waits) < 9
    assert 40 < waits[int(0.99 * len(waits))] < 150 and waits[-1] <= 300
    fast = [tool_latency_s("fast", "search", 0, "agent", call) for call in range(4000)]
    assert max(fast) < 5 and statistics.fmean(fast) < 0.4


def test_a_key_that_is_not_in_the_environment_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"base_url": "https://models.example/v1", "model": "big", "api_key_env": "ROUTING_TEST_KEY"}
    models = {"expert": RoleModelSpec.model_validate(said), "coder": RoleModelSpec()}
    monkeypatch.delenv("ROUTING_TEST_KEY", raising=False)
    with pytest.raises(PreflightError, match=r"models\.expert\.api_key_env.*ROUTING_TEST_KEY"):
        check_models(models)
    monkeypatch.setenv("ROUTING_TEST_KEY", "sk-1")
    check_models(models)
