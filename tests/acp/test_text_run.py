"""Frames that differ in their text only: read without parsing them, and as if they were parsed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentctl.acp.connection import Connection
from agentctl.acp.text_run import TextRun
from agentctl.acp.translate import Translator, garbage
from tests.acp.support import MemorySink

PLAIN = b'{"method":"session/update","params":{"sessionId":"s","update":{"sessionUpdate":"agent_message_chunk",'


def chunk(text, *, ascii_=False, variant="agent_message_chunk", **more):
    update = {"sessionUpdate": variant, "content": {"type": "text", "text": text}, **more}
    frame = {"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": "s", "update": update}}
    return json.dumps(frame, ensure_ascii=ascii_).encode("utf-8", "surrogatepass")


class Lines:
    """An agent's stdout that is all there."""

    def __init__(self, data):
        self._data = data

    async def read(self, n):
        data, self._data = self._data[:n], self._data[n:]
        return data


class Told:
    """A handler that keeps the drafts, as the supervisor's inbox does."""

    def __init__(self):
        self.translator = Translator()
        self.drafts = []
        self.parsed = 0

    def more_text(self, line):
        draft = self.translator.more_text(line)
        self.drafts += [draft] if draft else []
        return draft is not None

    def notification(self, frame, line):
        self.parsed += 1
        self.drafts += self.translator.notification(frame, line)

    def garbage(self, line, reason):
        self.drafts.append(garbage(line, reason))

    def request(self, frame, line):
        self.drafts.append(("request", frame, line))

    def response(self, method, frame, line):
        self.drafts.append(("response", frame, line))

    def flushed(self): ...

    def closed(self, reason): ...


async def told(lines, *, short):
    handler = Told()
    connection = Connection(Lines(b"".join(line + b"\n" for line in lines)), MemorySink(), handler)
    connection.shortcut = handler.more_text if short else None
    await connection.run()
    handler.drafts += handler.translator.end_turn(False)
    return handler


async def test_only_the_first_frames_of_a_run_are_parsed():
    lines = [chunk(f"word {n} ") for n in range(1000)]
    handler = await told(lines, short=True)
    assert handler.parsed == 2
    assert [draft.raw for draft in handler.drafts if draft.raw] == lines
    assert handler.drafts == (await told(lines, short=False)).drafts


TEXTS = st.text(max_size=8) | st.sampled_from(["another text", "text", '"', "\\", "", "é", "s", "\ud800", "\n", "\x7f"])
LINES = (
    st.builds(chunk, TEXTS, ascii_=st.booleans())
    | st.builds(chunk, TEXTS, messageId=st.sampled_from(["m1", "m2"]))
    | st.builds(chunk, TEXTS, variant=st.sampled_from(["agent_thought_chunk", "usage_update"]))
    | st.builds(
        lambda text, byte: chunk("a?b").replace(b"?", text.encode("utf-8", "replace") + byte), TEXTS, st.binary()
    )
    | st.builds(lambda text, cut: chunk(text)[:cut], TEXTS, st.integers(0, 200))
    | st.sampled_from([b"", b"{}", b'{"method":"x"}', b'{"id":1,"method":"x"}', PLAIN + b'"content":{}}}}'])
    | st.sampled_from(["x", "y"]).map(
        lambda t: PLAIN + b'"content":{"type":"text","text":"%b","text":"z"}}}}' % t.encode()
    )
)


@given(st.lists(LINES.filter(lambda line: b"\n" not in line), max_size=12))
async def test_whatever_comes_a_run_tells_what_parsing_tells(lines):
    lines = [chunk("a")] * 3 + lines
    assert (await told(lines, short=True)).drafts == (await told(lines, short=False)).drafts


async def test_a_run_ends_with_its_item():
    lines = [*[chunk("a")] * 4, chunk("b", variant="agent_thought_chunk"), *[chunk("c")] * 4]
    handler = await told(lines, short=True)
    assert handler.drafts == (await told(lines, short=False)).drafts
    assert handler.parsed == 5


def test_history_is_never_read_as_a_run():
    translator = Translator()
    for _ in range(3):
        translator.notification(json.loads(chunk("a")), chunk("a"))
    assert translator.more_text(chunk("b")) is not None
    translator.begin_replay()
    assert translator.more_text(chunk("b")) is None


@pytest.mark.parametrize("text", ["not there", "another text", "session/update", "\ud800"])
def test_a_text_that_is_not_the_frames_content_begins_no_run(text):
    assert TextRun.of(chunk("a"), json.loads(chunk("a")), text) is None


def test_of_two_texts_in_one_frame_the_one_that_counts_is_found():
    line = PLAIN + b'"content":{"type":"text","text":"x","text":"x"}}}}'
    run = TextRun.of(line, json.loads(line), "x")
    assert run is not None
    assert run.text(line.replace(b'"x"}', b'"y"}')) == "y"
    assert run.text(line.replace(b'"x","', b'"y","')) is None
