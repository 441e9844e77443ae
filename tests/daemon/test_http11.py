"""Heads and chunks as bytes: what is read, in whatever pieces it comes, and what is refused because it is ambiguous."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderctl.daemon.http11 import LAST_CHUNK, Chunked, Malformed, answer_head, chunk, parse_head


def head(*lines: str) -> bytes:
    return "\r\n".join(lines).encode("latin-1")


def test_a_head_says_what_is_asked_and_how_long_the_body_is() -> None:
    found = parse_head(head("POST /v1/completions?a=1 HTTP/1.1", "Host: x", "content-length:  12 ", "X-Name: a b"))
    assert (found.method, found.target, found.length, found.chunked) == ("POST", "/v1/completions?a=1", 12, False)
    assert found.headers["Content-Length"] == "12" and found.headers["x-name"] == "a b"
    assert found.raw_headers[2] == (b"X-Name", b"a b")
    assert found.keep_alive and not found.expects


@pytest.mark.parametrize(
    ("lines", "keep_alive"),
    [
        (["GET / HTTP/1.1"], True),
        (["GET / HTTP/1.1", "Connection: close"], False),
        (["GET / HTTP/1.0"], False),
        (["GET / HTTP/1.0", "Connection: Keep-Alive"], True),
    ],
)
def test_a_connection_stays_as_the_client_says(lines: list[str], keep_alive: bool) -> None:
    assert parse_head(head(*lines)).keep_alive is keep_alive


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["GET /"], 400),
        (["GET  / HTTP/1.1"], 400),
        (["GET / HTTP/2"], 505),
        (["GET /a b HTTP/1.1"], 400),
        (["G(T / HTTP/1.1"], 400),
        (["GET / HTTP/1.1", "no colon"], 400),
        (["GET / HTTP/1.1", "Name : value"], 400),
        (["GET / HTTP/1.1", " folded: line"], 400),
        (["GET / HTTP/1.1", ": nameless"], 400),
        (["GET / HTTP/1.1", "A: b\nContent-Length: 5"], 400),
        (["GET / HTTP/1.1", "A: b\rc"], 400),
        (["GET / HTTP/1.1", "A: \0"], 400),
        (["POST / HTTP/1.1", "Content-Length: 5", "Content-Length: 6"], 400),
        (["POST / HTTP/1.1", "Content-Length: +5"], 400),
        (["POST / HTTP/1.1", "Content-Length: 0x5"], 400),
        (["POST / HTTP/1.1", "Content-Length: "], 400),
        (["POST / HTTP/1.1", "Content-Length: " + "9" * 30], 400),
        (["POST / HTTP/1.1", "Content-Length: 5", "Transfer-Encoding: chunked"], 400),
        (["POST / HTTP/1.0", "Transfer-Encoding: chunked"], 400),
        (["POST / HTTP/1.1", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], 400),
        (["POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked"], 501),
    ],
)
def test_a_head_that_could_be_read_in_two_ways_is_refused(lines: list[str], status: int) -> None:
    with pytest.raises(Malformed) as refused:
        parse_head(head(*lines))
    assert refused.value.status == status


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({cut % (len(data) + 1) for cut in cuts} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(st.lists(st.binary(min_size=1, max_size=300)), st.lists(st.integers(0, 5000), max_size=20), st.binary())
def test_a_body_in_chunks_is_the_same_in_whatever_pieces_it_arrives(
    parts: list[bytes], cuts: list[int], behind: bytes
) -> None:
    sent = b"".join(chunk(part) for part in parts) + LAST_CHUNK + behind
    chunks, found, left = Chunked(), [], b""
    for piece in in_pieces(sent, cuts):
        if chunks.complete:
            left += piece
        else:
            found.append(chunks.feed(piece))
    assert chunks.complete
    assert b"".join(found) == b"".join(parts)
    assert chunks.rest + left == behind


def test_extensions_and_trailers_of_chunks_are_skipped() -> None:
    chunks = Chunked()
    assert chunks.feed(b"3;name=value\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\nGET") == b"abc"
    assert chunks.complete and chunks.rest == b"GET"


@pytest.mark.parametrize(
    "sent",
    [
        b"x\r\nabc\r\n", b"-1\r\na\r\n", b"1_0\r\na", b"+3\r\nabc\r\n", b"\r\n", b"3\r\nabcd\r\n", b"a" * 5000,
        b"0x3\r\nabc\r\n", b"3\n\r\nabc\r\n", b"3;a\nb\r\nabc\r\n", b"0\r\na: b\nc: d\r\n\r\n",
    ],
)  # fmt: skip
def test_chunks_without_a_plain_size_are_refused(sent: bytes) -> None:
    with pytest.raises(Malformed):
        Chunked().feed(sent)


def test_an_answers_head_tells_its_length_or_that_it_comes_in_chunks() -> None:
    assert answer_head(200, [("A", "b")], length=3) == b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 3\r\n\r\n"
    assert answer_head(200, []) == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert answer_head(200, [], close=True) == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    assert answer_head(204, [], length=0) == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert answer_head(299, [], length=0).startswith(b"HTTP/1.1 299 \r\n")


def test_no_header_of_an_answer_can_begin_another_line() -> None:
    found = answer_head(200, [("A", "b\r\nSet-Cookie: c"), ("B", "\n"), ("C", "\r"), ("D", "e")], length=0)
    assert found == b"HTTP/1.1 200 OK\r\nD: e\r\nContent-Length: 0\r\n\r\n"
