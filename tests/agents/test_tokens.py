"""Token mode: prompts are what was there and what came between, and what the engine said is kept as it said it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.agents import test_routing as routing
from tests.agents.routing_node import a_routing_node
from tests.agents.test_coding_tools import FINISH, FIX, WORKLOAD, task
from tests.agents.token_engine import (
    END,
    Template,
    TokenEngine,
    a_token_engine,
    chat,
    counting,
    decode,
    encode,
    flat,
    forgetful,
    spell,
)
from tests.agents.tool_node import call, tool_node
from thunderctl.agents.chat_template import ANSWERS, QUESTION
from thunderctl.agents.client import Answer, DaemonClient
from thunderctl.agents.desk import Desk
from thunderctl.agents.tokens import ContextFull, Transcript
from thunderctl.agents.tool_schemas import SCHEMAS
from thunderctl.agents.trace import ProgramRollout, TraceAgent
from thunderctl.errors import DaemonError
from thunderctl.rollouts.schema import NOT_THE_MODEL, Segment, digest_of
from thunderctl.traces.trace import Assignment, TraceProgram, TraceStep
from thunderctl.workload.files import RecordedStep

texts = st.text(st.sampled_from('abthin \n":é\U0001f680<'), max_size=12)
spelt = st.lists(texts.flatmap(lambda t: st.sampled_from([spell(t), encode(t)])), max_size=3).map(lambda x: sum(x, []))


@dataclass
class Exchange:
    """An answer, and what the model is told then."""

    said: list[int]
    cut: int | None
    """After how many tokens the limit cuts it off, before the end of its turn; ``None``: not at all."""
    aborts: list[int]
    user: str | None
    results: list[str]
    """Of tools, if the user says nothing."""

    def told(self) -> list[dict[str, Any]]:
        if self.user is not None:
            return [{"role": "user", "content": self.user}]
        return [{"role": "tool", "tool_call_id": f"c{n}", "content": text} for n, text in enumerate(self.results)]

    def answer(self, content: str) -> dict[str, Any]:
        """As agents put it back into the conversation."""
        if self.user is not None:
            return {"role": "assistant", "content": content}
        function = {"name": "f", "arguments": "{}"}
        calls = [{"id": f"c{n}", "type": "function", "function": function} for n in range(len(self.results))]
        return {"role": "assistant", "content": content[: len(content) // 2], "tool_calls": calls}


exchanges = st.builds(
    Exchange,
    said=spelt,
    cut=st.none() | st.integers(1, 20),
    aborts=st.lists(st.integers(0, 6), max_size=3),
    user=st.none() | texts,
    results=st.lists(texts, min_size=1, max_size=3),
)


async def converse(engine: TokenEngine, client: DaemonClient, talk: list[Exchange]) -> Transcript:
    """Carry a conversation out; each prompt has to read as the chat template has it."""
    transcript = Transcript(client)
    messages = [{"role": "system", "content": "ab\n"}, {"role": "user", "content": "thin"}]
    shown = list(messages)
    for number, each in enumerate(talk, 1):
        cut = each.cut if each.cut is not None and each.cut <= len(each.said) else None
        engine.answers, engine.aborts = [[*each.said, END]], list(each.aborts)
        first = len(engine.calls)
        limit = cut or len(each.said) + 3
        answer = await transcript.ask("p", messages, step=number, max_tokens=limit, tools=SCHEMAS, group="g")
        assert decode(engine.calls[first]["prompt"]) == chat(shown, SCHEMAS, True)
        assert answer.content == decode(each.said[:cut]) and answer.finish_reason == ("length" if cut else "stop")
        assert answer.output_tokens == len(each.said[:cut]) + (cut is None)
        messages = [*messages, each.answer(answer.content), *each.told()]
        shown = [*shown, {"role": "assistant", "content": answer.content}, *each.told()]
    return transcript


@settings(deadline=None, max_examples=40)
@given(st.lists(exchanges, min_size=1, max_size=5))
def test_every_prompt_extends_the_ids_before_it_and_every_token_is_marked_by_who_made_it(talk: list[Exchange]) -> None:
    engine = TokenEngine()

    async def carried_out() -> Transcript:
        async with a_token_engine(engine) as client:
            return await converse(engine, client, talk)

    transcript = asyncio.run(carried_out())
    (segment,) = transcript.segments
    assert transcript.breaks == []
    assert len(segment.ids) == len(segment.mask) == len(segment.versions)
    assert segment.logprobs is not None and len(segment.logprobs) == len(segment.ids)
    # As the engine saw it: each request goes on exactly where the one before it had ended.
    past: list[int] = []
    made: set[int] = set()
    for request, said in zip(engine.calls, engine.said, strict=True):
        assert request["prompt"][: len(past)] == past and request["group_id"] == "g"
        past = [*request["prompt"], *said]
        made |= set(range(len(request["prompt"]), len(past)))
    assert segment.ids == past
    for place, (mask, version, logprob) in enumerate(
        zip(segment.mask, segment.versions, segment.logprobs, strict=True)
    ):
        wanted = (1, *engine.made[place]) if place in made else (0, NOT_THE_MODEL, 0.0)
        assert (mask, version, logprob) == wanted
    assert [turn.step for turn in segment.turns] == list(range(1, len(talk) + 1))
    assert sum(turn.end - turn.start for turn in segment.turns) == len(made)
    assert all(turn.prompt_digest == digest_of(segment.ids[: turn.start]) for turn in segment.turns)
    # What was tokenised: the beginning, the fixed base, and then nothing but what is new.
    beginning, *later = [body["messages"] for body in engine.tokenised]
    assert [message["role"] for message in beginning] == ["system", "user"]
    told = [each.told() for each in talk[:-1]]
    for messages in later:
        assert messages[0] == QUESTION
        assert messages[1:2] in ([], *([answer] for answer in ANSWERS)) or messages[1]["tool_calls"]
    behind = [messages[2:] for messages in later if messages[2:]]
    assert behind == told and len(later) <= len(told) + 4


async def one_answer(client: DaemonClient, messages: list[dict[str, Any]], **how: Any) -> tuple[Transcript, Answer]:
    transcript = Transcript(client)
    answer = await transcript.ask("p", messages, step=1, max_tokens=90, **how)
    return transcript, answer


BEGINNING = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]


def then(answer: str, observation: str = "in") -> list[dict[str, Any]]:
    return [*BEGINNING, {"role": "assistant", "content": answer}, {"role": "user", "content": observation}]


async def test_an_answer_gets_what_the_context_leaves_and_a_full_context_is_told() -> None:
    engine = TokenEngine([[*encode("ab"), END]])
    async with a_token_engine(engine) as client:
        room = len(encode(chat(BEGINNING, None, True))) + 5
        engine.max_model_len = room
        transcript, answer = await one_answer(client, BEGINNING)
        assert engine.calls[0]["max_tokens"] == 5
        with pytest.raises(ContextFull):
            await transcript.ask("p", then(answer.content), step=2, max_tokens=90)
    assert len(engine.calls) == 1 and len(transcript.segments[0].turns) == 1, "what there is stays"


async def test_an_answer_that_the_tokenizer_would_spell_otherwise_stays_as_it_was_said() -> None:
    said = spell("abab in thin")
    assert encode(decode(said)) != said
    engine = TokenEngine([[*said, END], [*encode("ab"), *spell("ab"), END]])
    async with a_token_engine(engine) as client:
        transcript, answer = await one_answer(client, BEGINNING)
        await transcript.ask("p", then(answer.content), step=2, max_tokens=90)
    (segment,) = transcript.segments
    for turn, ids in zip(segment.turns, ([*said, END], [*encode("ab"), *spell("ab"), END]), strict=True):
        assert segment.ids[turn.start : turn.end] == ids
    assert segment.ids != [*encode(chat(then(answer.content), None, True)), *engine.said[-1]]
    assert not any("abab in thin" in str(body) for body in engine.tokenised)


@pytest.mark.parametrize("text", ["abab thin", "é\U0001f680\U0001f680 in", ""])
async def test_a_replay_that_new_weights_cut_off_goes_on_within_its_recorded_text(text: str) -> None:
    ids = encode(text)
    engine = TokenEngine(aborts=[0, len(ids) // 2, len(ids) - len(ids) // 2])
    async with a_token_engine(engine) as client:
        transcript, answer = await one_answer(client, BEGINNING, replay=text)
    assert (answer.content, answer.finish_reason) == (text, "stop")
    (segment,) = transcript.segments
    (turn,) = segment.turns
    assert segment.ids[turn.start : turn.end] == [*ids, END]
    assert segment.versions[turn.start : turn.end] == [v for v, said in enumerate(engine.said) for _ in said]
    assert [sum(map(len, engine.said[:n])) + body["max_tokens"] for n, body in enumerate(engine.calls)] == [90] * len(
        engine.calls
    )


async def test_a_call_that_is_aborted_without_end_is_given_up() -> None:
    engine = TokenEngine([spell("ab")], aborts=[0] * 100)
    async with a_token_engine(engine) as client:
        with pytest.raises(DaemonError, match="aborted a call 20 times"):
            await one_answer(client, BEGINNING)


async def test_counts_of_a_call_in_pieces_are_added_up_and_its_cache_hits_are_those_of_the_first() -> None:
    engine = TokenEngine([[*spell("thin" * 9), END]], aborts=[20])
    async with a_token_engine(engine) as client:
        transcript, answer = await one_answer(client, BEGINNING)
    first, second = (len(body["prompt"]) for body in engine.calls)
    assert (answer.prompt_tokens, answer.output_tokens, answer.attempts) == (first + second, 37, 2)
    assert answer.cached_tokens == (first - 1) // 16 * 16 + (second - 1) // 16 * 16
    assert transcript.segments[0].turns[0].cached_tokens == (first - 1) // 16 * 16


async def test_an_engine_without_probabilities_is_not_asked_for_them() -> None:
    engine = TokenEngine([[*spell("ab"), END], [*spell("in"), END]], kind="emulated")
    async with a_token_engine(engine) as client:
        transcript, answer = await one_answer(client, BEGINNING)
        await transcript.ask("p", then(answer.content), step=2, max_tokens=90)
    (segment,) = transcript.segments
    assert segment.logprobs is None and len(segment.turns) == 2 and sum(segment.mask) == 6


async def test_an_engine_that_computed_on_other_ids_is_an_error() -> None:
    engine = TokenEngine([[END]], lies=True)
    async with a_token_engine(engine) as client:
        with pytest.raises(DaemonError, match="other token ids"):
            await one_answer(client, BEGINNING)


# ------------------------------------------------------------------ templates


async def test_reasoning_that_a_template_drops_later_stays_in_the_ids_and_out_of_what_the_agent_sees() -> None:
    thought = "<think>ab</think>in"
    engine = TokenEngine([[*spell(thought), END], [*spell("th"), END]], template=forgetful)
    async with a_token_engine(engine) as client:
        transcript, answer = await one_answer(client, BEGINNING)
        assert answer.content == "in"
        await transcript.ask("p", then("in"), step=2, max_tokens=90)
    first, second = engine.calls
    assert "ab" not in forgetful(then(thought), None, True)
    assert second["prompt"][len(first["prompt"]) :][: len(thought)] == spell(thought)
    assert decode(second["prompt"]) == chat(then(thought), None, True)
    assert transcript.breaks == [] and len(transcript.segments) == 1


@pytest.mark.parametrize(
    ("said", "seen"),
    [("ab</think>\n\nin <think>", "\n\nin <think>"), ("ab, and the limit", "")],
)
async def test_reasoning_that_the_template_begins_is_left_out_of_what_the_agent_sees(said: str, seen: str) -> None:
    engine = TokenEngine([[*spell(said), END]], template=lambda *what: chat(*what) + ("<think>\n" if what[2] else ""))
    async with a_token_engine(engine) as client:
        transcript, answer = await one_answer(client, BEGINNING)
        assert answer.content == seen
        replayed, answer = await one_answer(client, BEGINNING, replay=said)
        assert answer.content == said
    assert transcript.segments[0].ids[-len(said) - 1 :] == [*spell(said), END]


@pytest.mark.parametrize(
    ("template", "observation"), [(flat, "in"), (counting, "in"), (chat, "refused"), (lambda *_: "", "in")]
)
async def test_a_template_that_lets_nothing_be_put_behind_an_answer_begins_a_segment_each_time(
    template: Template, observation: str
) -> None:
    engine = TokenEngine([[*spell("abab"), END], [*spell("in"), END]], template=template)
    async with a_token_engine(engine) as client:
        transcript, answer = await one_answer(client, BEGINNING)
        again = transcript.ask("p", then(answer.content, observation), step=2, max_tokens=90)
        if observation == "refused":  # not as an extension, and not at all
            with pytest.raises(DaemonError, match="takes no such message"):
                await again
            assert len(transcript.segments) == 1 and transcript.breaks == []
            return
        await again
    assert transcript.breaks == ["template"] and [len(s.turns) for s in transcript.segments] == [1, 1]
    assert decode(engine.calls[1]["prompt"]) == template(then("abab"), None, True)


REWRITTEN: dict[str, list[dict[str, Any]]] = {
    "another beginning": [{"role": "system", "content": "other"}, *then("ab")[1:]],
    "nothing new": then("ab")[:3],
    "another answer": then("abc"),
    "words put into its mouth": [*then("ab"), {"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}],
    "the answer left out": [*BEGINNING, *BEGINNING],
    "a history cut short": [BEGINNING[0], *then("ab")[2:]],
}


@pytest.mark.parametrize("messages", REWRITTEN.values(), ids=REWRITTEN)
async def test_messages_that_are_not_the_old_ones_with_more_behind_them_begin_a_segment(
    messages: list[dict[str, Any]],
) -> None:
    engine = TokenEngine([[*spell("ab"), END], [*spell("in"), END], [END]])
    async with a_token_engine(engine) as client:
        transcript, _ = await one_answer(client, BEGINNING)
        await transcript.ask("p", messages, step=2, max_tokens=90)
        assert transcript.breaks == ["rewritten"]
        assert transcript.segments[1].ids[: transcript.segments[1].turns[0].start] == encode(chat(messages, None, True))
        following = [*messages, {"role": "assistant", "content": "in"}, {"role": "user", "content": "on"}]
        await transcript.ask("p", following, step=3, max_tokens=90)
    assert [len(segment.turns) for segment in transcript.segments] == [1, 2]


# ------------------------------------------------------------------ agents


async def test_an_agent_with_tools_has_one_segment_and_its_samples_one_beginning(tmp_path: Path) -> None:
    engine = TokenEngine([[*spell(text), END] for text in (FIX, "Hm.", FINISH)] * 2)
    async with tool_node(tmp_path, engine=engine) as node:
        rollout = await node.run(WORKLOAD, task(tmp_path), tokens=True, group="t-1", sampling={"temperature": 0.7})
        assert (rollout.status, rollout.resolved, rollout.error) == ("submitted", True, None)
        transcript = node.transcript
        assert transcript is not None and [len(s.turns) for s in transcript.segments] == [3]
        assert {(body["group_id"], body["temperature"]) for body in engine.calls} == {("t-1", 0.7)}
        assert "Session run-1, t-1." in decode(engine.calls[0]["prompt"]) and node.requests == []
        seen = decode(transcript.segments[0].ids)
        assert "call a tool" in seen and "m.py" in seen
        await node.run(WORKLOAD, task(tmp_path / "again"), tokens=True, group="t-1")
    assert engine.calls[3]["prompt"] == engine.calls[0]["prompt"]


async def test_a_replay_draws_nothing_and_says_what_was_recorded(tmp_path: Path) -> None:
    steps = [RecordedStep(content=FIX), RecordedStep(content=FINISH)]
    engine = TokenEngine()
    async with tool_node(tmp_path, engine=engine) as node:
        rollout = await node.run(WORKLOAD, task(tmp_path, *steps), "replay", tokens=True, sampling={"temperature": 1})
        assert (rollout.status, rollout.resolved) == ("submitted", True)
    assert all("temperature" not in body for body in engine.calls)
    assert [body["vllm_xargs"]["replay"] for body in engine.calls] == [FIX, FINISH]


async def test_an_agent_that_fails_or_is_cut_off_leaves_what_it_did(tmp_path: Path) -> None:
    thoughts = [[*spell(call("think", thought="a")), END]] * 2
    engine = TokenEngine([*thoughts, 500])
    async with tool_node(tmp_path, engine=engine) as node:
        failed = await node.run(WORKLOAD, task(tmp_path), tokens=True)
        assert failed.status == "failed" and node.transcript is not None
        assert [len(s.turns) for s in node.transcript.segments] == [2]
        assert node.transcript.segments[0].ids[-1] == END
        engine.answers, node.steps = [*thoughts], []
        done = node.steps
        cut = await node.run(WORKLOAD, task(tmp_path / "2"), tokens=True, over=lambda: len(done) == 1)
        assert cut.status == "cut off" and [len(s.turns) for s in node.transcript.segments] == [1]


async def test_without_token_mode_there_is_no_transcript(tmp_path: Path) -> None:
    async with tool_node(tmp_path, FIX, FINISH) as node:
        await node.run(WORKLOAD, task(tmp_path), group="g", sampling={"top_p": 0.5})
        assert node.transcript is None
        assert {(body["group_id"], body["top_p"]) for body in node.requests} == {("g", 0.5)}


async def test_a_routing_agent_begins_a_segment_with_every_call(tmp_path: Path) -> None:
    said = [*routing.SEARCH, *routing.ANSWER]
    engine = TokenEngine([[*spell(text), END] for text in said])
    async with a_routing_node(tmp_path, engine) as node, DaemonClient(node.url, model="small") as client:
        rollout = await node.run_with(client, routing.WORKLOAD, routing.TASK, tokens=True)
        assert (rollout.status, rollout.resolved) == ("submitted", True) and node.calls == []
        assert node.transcript is not None and node.transcript.breaks == ["rewritten"] * 3
    for number, (segment, text) in enumerate(zip(node.transcript.segments, said, strict=True), 1):
        (turn,) = segment.turns
        assert turn.step == number and segment.ids[turn.start :] == [*spell(text), END]


async def trace(engine: TokenEngine, program: TraceProgram, *names: str, **how: Any) -> list[Transcript]:
    """Transcripts of a program that was run as each of ``names``."""
    found = []
    async with a_token_engine(engine) as client:
        for name in names:
            rollout = ProgramRollout("a", name, program.id, 0, **how)
            desk = Desk(client, "r", lambda: 0.0, lambda _rollout, _step: None, tokens=True)
            agent = TraceAgent(desk, Assignment(name, program, 0), rollout)
            await agent.run()
            assert rollout.status == "finished" and agent.transcript is not None
            found.append(agent.transcript)
    return found


def lengths(segments: list[Segment]) -> list[tuple[int, int]]:
    return [(len(segment.ids), sum(segment.mask)) for segment in segments]


async def test_a_trace_is_told_as_one_segment_and_breaks_where_its_past_is_changed() -> None:
    plain = (TraceStep(30, 0, 40, 0.0), TraceStep(10, 0, 5, 0.0), TraceStep(20, 0, 0, 0.0))
    (straight,) = await trace(TokenEngine(), TraceProgram("a", 100, plain), "p0")
    assert lengths(straight.segments) == [(100 + 30 + 40 + 10 + 5 + 20, 60)] and straight.breaks == []
    (cut,) = await trace(TokenEngine(), TraceProgram("a", 100, plain, context_limit=150), "p0")
    assert lengths(cut.segments) == [(130, 30), (160, 10), (170, 20)] and cut.breaks == ["truncated"] * 2
    thinking = (TraceStep(30, 7, 40, 0.0), TraceStep(10, 0, 0, 0.0))
    (dropped,) = await trace(TokenEngine(), TraceProgram("a", 100, thinking), "p0")
    assert lengths(dropped.segments) == [(137, 37), (180, 10)] and dropped.breaks == ["rewritten"]


async def test_samples_of_a_trace_share_their_first_prompt_and_nothing_else() -> None:
    engine = TokenEngine(kind="emulated", aborts=[3])
    program = TraceProgram("a", 100, (TraceStep(30, 0, 0, 0.0),))
    (first,), (second,) = [each.segments for each in await trace(engine, program, "p0", "p1", group="g1")]
    assert first.ids[:100] == second.ids[:100] and first.ids[100:] != second.ids[100:]
    assert {body["group_id"] for body in engine.calls} == {"g1"} and first.logprobs is None
    assert first.versions == [NOT_THE_MODEL] * 100 + [0] * 3 + [1] * 27
