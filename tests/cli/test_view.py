"""A turn on a terminal and in a pipe, from events to what a person sees."""

import sys

import pytest

from agentctl import events
from agentctl.cli.output import Output
from agentctl.cli.plain_output import PlainView
from agentctl.cli.view import Teller
from agentctl.ops.result import Fold
from tests.cli.happenings import Log
from tests.cli.terminal import Terminal


@pytest.fixture
def play(tmp_path):
    terminals = []

    def start(log, *, delay="0.01", chunk="1", **how):
        path = tmp_path / "events.jsonl"
        path.write_bytes(b"".join(event.line + b"\n" for event in log.events))
        terminals.append(Terminal([sys.executable, "-m", "tests.cli.play", str(path), delay, chunk], **how))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


def _pieces(text, size=7):
    return [text[i : i + size] for i in range(0, len(text), size)]


def test_a_whole_turn_is_shown(play):
    log = Log()
    log.message("itm_1", "Thinking ", "hard.", kind="reasoning")
    log.message("itm_2", *_pieces("# Title\n\nSome **bold** text.\n\n- one\n- two\n\n```py\nx = 1\n```\n"))
    log.tool("itm_3", "Run ls", output="\n".join(f"file {i}" for i in range(20)))
    diff = {"type": "file_ref", "path": "a.py", "action": "modify", "diff": "--- a\n+++ a\n@@ -1 +1 @@\n-old\n+new"}
    log.tool("itm_4", "Edit a.py", content=[diff])
    log.tool("itm_5", "Run false", status="failed")
    log.message("itm_6", "All done.")
    log.ended(usage={"input_tokens": 1234, "output_tokens": 5}, cost={"amount": 0.5, "currency": "USD"})
    terminal = play(log)
    assert terminal.finish() == 0
    shown = [line.strip() for line in terminal.lines if line.strip()]
    assert shown[:-1] == [
        *("Thinking hard.", "Title", "Some bold text.", "• one", "• two", "x = 1"),
        *("✓ Run ls", *(f"file {i}" for i in range(8)), "… 12 more lines"),
        *("✓ Edit a.py", "@@ -1 +1 @@", "-old", "+new", "✗ Run false", "All done."),
        "Done · 1.2 s · 1,234 in / 5 out tokens · 0.50 USD",
    ]
    assert "Title" in terminal.lines
    assert b" \r\n" not in terminal.raw  # nor blanks, which a narrower terminal would wrap


def test_a_long_answer_is_printed_once_and_in_order(play):
    log = Log()
    text = "".join(f"Paragraph {i} with some words.\n\n" for i in range(60))
    log.message("itm_1", *_pieces(text, 11))
    log.ended()
    terminal = play(log, delay="0.001", rows=10)
    assert terminal.finish() == 0
    shown = [line for line in terminal.lines if line.startswith("Paragraph")]
    assert shown == [f"Paragraph {i} with some words." for i in range(60)]


def test_a_code_block_longer_than_the_screen_is_shown_whole(play):
    log = Log()
    code = "".join(f"line_{i} = {i}\n" for i in range(60))
    log.message("itm_1", *_pieces(f"```python\n{code}```\nEnd.", 13))
    log.ended()
    terminal = play(log, delay="0.005", rows=10)
    assert terminal.finish() == 0
    shown = [line.strip() for line in terminal.lines if "line_" in line]
    assert shown == [f"line_{i} = {i}" for i in range(60)]


def test_an_agent_cannot_drive_the_terminal(play):
    log = Log()
    log.message("itm_1", "safe\x1b]0;pwned\x07\x1b[2J text [red]markup[/red] [x](https://evil.example)")
    log.tool("itm_2", "Run \x1b[2Jx", output="out\x1b[1;1Hput")
    log.ended()
    terminal = play(log)
    assert terminal.finish() == 0
    assert b"\x1b[2J" not in terminal.raw
    assert b"\x1b]" not in terminal.raw
    assert "safe text [red]markup[/red]" in terminal.text
    assert "https://evil.example" in terminal.text


def test_no_color_draws_without_colours(play):
    log = Log()
    log.message("itm_1", "# Title\n\n`code`\n\n```py\nx = 1\n```\n")
    log.tool("itm_2", "Run", status="failed")
    log.ended("failed", error={"code": "agent_error", "message": "no"})
    terminal = play(log, env={"NO_COLOR": "1"})
    assert terminal.finish() == 0
    assert not [n for n in range(30, 50) if f"\x1b[{n}m".encode() in terminal.raw]
    assert "Failed: no" in terminal.text


@pytest.mark.slow
def test_ten_updates_cost_at_most_3_ms(play):
    log = Log()
    text = ("The quick **brown** fox jumps over the `lazy` dog. " * 3 + "\n\n") * 130
    log.message("itm_1", *_pieces(text, 10))
    log.ended()
    few = Log()
    few.message("itm_1", *_pieces(text[:100], 10))
    few.ended()

    def cpu_ms(which, **how):
        terminal = play(which, **how)
        assert terminal.finish() == 0
        return int(terminal.text.rsplit("cpu_ms=", 1)[1])

    base = cpu_ms(few, delay="0", chunk="1")
    for how in ({"delay": "0", "chunk": "1"}, {"delay": "0.001", "chunk": "1"}, {"delay": "0", "chunk": "100"}):
        assert cpu_ms(log, **how) - base <= 3 * len(log.events) / 10


def _plain(log, capsys, *, streams, quiet=False):
    view = PlainView(Output(quiet=quiet), streams=streams)
    fold = Fold("trn_1")
    fold.feed(log.events)
    Teller(view).feed(log.events)
    view.finish(fold.result())
    return capsys.readouterr()


def _talk():
    log = Log()
    log.message("itm_1", "Let me look.")
    log.tool("itm_2", "Run ls", output="secret output")
    log.message("itm_3", "It is ", "\x1b[31mfine\x1b[0m.")
    log.ended()
    return log


def test_a_pipe_gets_the_answer_and_stderr_the_story(capsys):
    shown = _plain(_talk(), capsys, streams=True)
    assert shown.out == "Let me look.\n\nIt is fine.\n"
    assert shown.err == "● Run ls\nDone · 1.2 s\n"


def test_waiting_for_the_end_prints_the_final_text_only(capsys):
    shown = _plain(_talk(), capsys, streams=False)
    assert shown.out == "It is fine.\n"
    assert shown.err == "Done · 1.2 s\n"


def test_quiet_is_the_final_text_and_nothing_else(capsys):
    shown = _plain(_talk(), capsys, streams=False, quiet=True)
    assert shown.out == "It is fine.\n"
    assert shown.err == ""


@pytest.mark.parametrize(
    ("outcome", "more", "said"),
    [
        ("refused", {}, "The agent refused"),
        ("limit", {"stop_reason": "max_tokens"}, "Stopped unfinished (max_tokens)"),
        ("cancelled", {}, "Cancelled"),
        ("timeout", {}, "Stopped at the timeout"),
        ("denied", {"denied": [{"permission_id": "p", "action": "Run rm", "by": "policy"}]}, "Denied: Run rm"),
        ("failed", {"error": {"code": "agent_error", "message": "API error 400"}}, "Failed: API error 400"),
        ("interrupted", {"error": {"code": "x", "message": "it died"}}, "Interrupted: it died"),
        ("completed", {"context": "restored"}, "context restored"),
    ],
)
def test_the_final_line_tells_every_outcome_apart(capsys, outcome, more, said):
    log = Log()
    log.ended(outcome, **more)
    assert said in _plain(log, capsys, streams=True).err


def test_denials_and_lost_context_are_said_as_they_happen(capsys):
    log = Log()
    log.add("session.context_lost", reason="no such session", tried=["load"], action="new")
    log.add("permission.resolved", permission_id="p", action="Run rm", status="reject", metadata={"by": "policy"})
    log.add("error", message="over\x1b[2Jloaded")
    log.ended()
    shown = _plain(log, capsys, streams=True).err
    assert "has lost the conversation (no such session): it starts anew" in shown
    assert "Denied by the permissions in force: Run rm" in shown
    assert "overloaded" in shown


def test_history_that_an_agent_replays_is_not_told_again(capsys):
    log = Log()
    item = events.item(
        "itm_1", "message", role="assistant", status="completed", content=[{"type": "text", "text": "old"}]
    )
    log.add("item.completed", item=item, replayed=True)
    log.message("itm_2", "new")
    log.ended()
    assert _plain(log, capsys, streams=True).out == "new\n"


def test_a_message_that_comes_whole_is_told_once(capsys):
    log = Log()
    item = events.item("itm_1", "message", role="assistant", content=[{"type": "text", "text": "whole"}])
    log.add("item.completed", item={**item, "status": "completed"})
    log.ended()
    assert _plain(log, capsys, streams=True).out == "whole\n"
