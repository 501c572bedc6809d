"""Bytes become lines, whatever the chunks are."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from agentctl.acp.framing import LineSplitter, TooLong


def split(chunks, limit=10**6):
    splitter = LineSplitter(limit)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return lines, splitter.finish()


@settings(max_examples=60)
@given(st.lists(st.text(max_size=30), max_size=8), st.data())
def test_chunk_edges_never_change_a_line(texts, data):
    stream = b"".join(json.dumps(text, ensure_ascii=False).encode() + b"\n" for text in texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    lines, rest = split(chunks)
    assert [json.loads(line) for line in lines] == texts
    assert rest == b""


@given(st.lists(st.binary(max_size=30), max_size=8), st.integers(1, 10), st.integers(1, 7))
def test_long_lines_are_reported_once_and_all_others_arrive(lines, limit, step):
    lines = [line.replace(b"\n", b" ") for line in lines]
    stream = b"".join(line + b"\n" for line in lines)
    got, _ = split([stream[i : i + step] for i in range(0, len(stream), step)], limit)
    assert [None if isinstance(line, TooLong) else line for line in got] == [
        line if len(line) <= limit else None for line in lines
    ]


def test_an_unfinished_last_line_is_kept_for_the_end():
    assert split([b"one\ntw", b"o"]) == ([b"one"], b"two")


def test_a_line_without_end_is_told_before_its_newline_and_takes_no_more_memory():
    splitter = LineSplitter(1000)
    told = [line for _ in range(100) for line in splitter.feed(b"x" * 100)]
    assert told == [TooLong(b"x" * 1100)]
    assert splitter.finish() == b""
    assert splitter.feed(b"still the same line\nnext\n") == [b"next"]
