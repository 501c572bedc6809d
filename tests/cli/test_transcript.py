"""A conversation as Markdown that stays Markdown whatever is in it, as JSON lines, and drawn on a terminal."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from agentctl.cli.markdown_transcript import DIFF_LINES, OUTPUT_LINES, MarkdownTranscript, closed, code, fenced
from agentctl.cli.retell import Reteller, lines
from tests.cli.happenings import Log
from tests.cli.running import agentctl

NASTY = [
    "```",
    "````",
    "~~~",
    "<!--",
    "-->",
    "<pre>",
    "<?",
    "- ",
    "  ",
    "> ",
    "word",
    "`",
    "\n",
    "\n\n",
    "|",
    "1. ",
    "\\",
]


def headings(markdown):
    tokens = MarkdownIt("commonmark").parse(markdown)
    return [b.content for a, b in pairwise(tokens) if a.type == "heading_open" and a.level == 0]


def fences(markdown):
    return [(t.info, t.content.splitlines()) for t in MarkdownIt("commonmark").parse(markdown) if t.type == "fence"]


def told(log, capsys, title="A talk"):
    view = MarkdownTranscript(title, "mock")
    Reteller(view).feed(log.events)
    view.close()
    return capsys.readouterr().out


def asked(log, text, *content):
    log.add("turn.started", phase="started", turn_id=log.turn_id, metadata={"context": "new"})
    item = {"item_id": "itm_u", "kind": "message", "role": "user", "status": "completed", "parent_id": None}
    log.add("item.completed", item={**item, "content": [{"type": "text", "text": text}, *content]})


def test_a_whole_turn_is_markdown_and_no_fence_of_the_agent_swallows_it(capsys):
    log = Log()
    image = {"type": "acp", "content": {"type": "image", "mimeType": "image/png", "data": "A" * 4000}}
    asked(log, "Look:\n```py\nopen", image)
    log.message("itm_1", "I *think*", kind="reasoning")
    log.message("itm_2", "Here:\n```sh\nls", "\n")
    diff = "--- a.md\n+++ a.md\n@@ -1 +1 @@\n-```\n+````\n" + "".join(f"+{i}\n" for i in range(DIFF_LINES))
    log.tool("itm_3", "Edit `a`.md", content=[{"type": "file_ref", "path": "a.md", "action": "patch", "diff": diff}])
    log.add("permission.resolved", permission_id="p", action="rm *_*", status="reject", metadata={"by": "user"})
    log.tool("itm_4", "Run rm", status="failed", output="\x1b[2Jno\n" * (OUTPUT_LINES + 1))
    plan = [{"content": f"Step {s}", "status": s} for s in ("completed", "in_progress", "pending")]
    item = {"item_id": "itm_5", "kind": "plan", "role": "assistant", "status": "completed", "parent_id": None}
    log.add("item.completed", item={**item, "content": [{"type": "json", "json": {"entries": plan}}]})
    log.message("itm_6", "Done <!-- or not\n\n<!-- really")
    log.ended(usage={"input_tokens": 7, "source": "prompt_response"}, cost={"amount": 0.004, "currency": "USD"})
    asked(log, "Again")
    text = told(log, capsys, "A # *talk*")
    assert headings(text) == [r"A \# \*talk\*", "You", "mock", "You"]
    assert "\x1b" not in text
    (_, by_user), (shell, command), (kind, edit), (_, output) = fences(text)
    assert (by_user, shell, command) == (["open"], "sh", ["ls"])
    assert (kind, edit[3:5], edit[-1]) == ("diff", ["-```", "+````"], "… 5 more lines")
    assert output == ["no"] * OUTPUT_LINES + ["… 1 more line"]
    for line in (
        *("Attached: `image/png, 3 kB`", "_Thought:_\n\n> I *think*", "✓ ``Edit `a`.md``", "✗ `Run rm`: failed"),
        *("_Rejected by the user:_ `rm *_*`", "- [x] Step completed\n- [ ] ▸ Step in\\_progress\n- [ ] Step pending"),
        *("> Done <!-- or not\n>\n> <!-- really", "_Done · 1.2 s · 7 in tokens · 0.004 USD_"),
    ):
        assert line in text


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(NASTY), max_size=12).map("".join))
def test_nothing_that_an_agent_writes_reaches_further_than_its_message(text):
    assert headings(f"{closed(text)}\n\n## You")[-1:] == ["You"]
    assert fences(f"{fenced(text.splitlines(), 'text')}\n\nend")[-1:] == [("text", text.splitlines())]
    [paragraph] = [t for t in MarkdownIt("commonmark").parse(f"x {code(text)} x") if t.type == "inline"]
    assert [t.type for t in paragraph.children] == ["text", "code_inline", "text"]


def test_what_ends_after_its_turn_is_told_with_its_end_and_what_was_cut_off_is_kept(capsys):
    log = Log()
    asked(log, "Go")
    log.tool("itm_1", "Sleep", status="in_progress")
    log.add("item.started", item={"item_id": "itm_2", "kind": "message", "role": "assistant", "content": []})
    log.add("item.delta", item_id="itm_2", delta="half a sen")
    log.ended("interrupted", error={"code": "interrupted", "message": "The sandbox died."})
    late = {**log.events[2].data["item"], "status": "failed"}
    log.add("item.updated", item=late)
    text = told(log, capsys)
    assert "half a sen\n\n_Interrupted: The sandbox died." in text
    assert "✗ `Sleep`: failed" in text
    assert text.count("Sleep") == 1


def test_json_lines_are_what_was_finished_answered_and_ended():
    log = Log()
    asked(log, "Go")
    log.add("permission.resolved", permission_id="p", action="x", status="accept", metadata={"by": "policy"})
    log.message("itm_1", "Hello")
    log.ended()
    told = [json.loads(line) for line in lines(log.events)]
    assert [line["type"] for line in told] == ["item", "permission", "item", "turn"]
    assert told[1]["permission"]["metadata"] == {"by": "policy"}
    assert told[3]["turn"]["outcome"] == "completed"
    assert {line["turn_id"] for line in told} == {"trn_1"}


def test_a_session_is_told_in_a_pipe_on_a_terminal_and_as_lines(terminal, session, tmp_path):
    (tmp_path / "notes.txt").write_text("n")
    attach = ("--attach", str(tmp_path / "notes.txt"))
    sent = agentctl("sessions", "send", session, "-p", "allow", *attach, "@plan @diff=価格.py @say=**bold**")
    assert sent.code == 0, sent
    text = agentctl("sessions", "transcript", session).out
    assert headings(text)[1:] == ["You", "mock"]
    [(kind, diff)] = fences(text)
    assert (kind, diff[2:]) == ("diff", ["@@ -1 +1 @@", "-old line", "+new line"])
    assert diff[0].endswith("価格.py")
    assert "_Allowed once by the permissions in force:_" in text
    assert "Attached: `notes.txt (text/plain)`" in text
    rows = agentctl("sessions", "transcript", session, "--format", "jsonl").events
    assert [row["type"] for row in rows].count("turn") == 1
    screen = terminal("sessions", "transcript", session, rows=60)
    assert screen.finish() == 0
    for line in ("› @plan", "  attached: notes.txt", "Plan", "+new line", "bold", "Allowed once by", "Done · "):
        assert line in screen.text
    assert "**" not in screen.text.split("attached", 1)[1]
    raw = terminal("sessions", "transcript", session, "--format", "markdown", "--no-pager")
    assert raw.finish() == 0
    assert "```diff" in raw.text
    assert "--format cannot be" in agentctl("sessions", "transcript", session, "--format", "html").err
