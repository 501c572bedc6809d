"""Where the text of a message comes from: the command line, a file, stdin, an editor, or text joined with what is piped
in."""

from __future__ import annotations

import os
import stat
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from agentctl.cli.switches import NO_INPUT
from agentctl.errors import UsageError

if TYPE_CHECKING:
    from agentctl.cli.options import MessageOptions, TurnOptions
    from agentctl.cli.output import Output
    from agentctl.model import OnInterrupt, Session
    from agentctl.ops.turns import Message, WhenBusy

UNATTENDED_WAIT_S = 600.0


def message_text(positional: str | None, given: MessageOptions, out: Output, *, editor: bool = False) -> str:
    """The text to send; ``UsageError`` when there is none, or when two sources were named. ``editor``: the person is
    to write it now."""
    named = [v for v in (positional, given.message, given.file) if v is not None]
    if len(named) > 1:
        raise UsageError("The message is given twice.", hint="Give it as TEXT, with -m, or with -f: one of them.")
    if editor:
        return _from_editor(named)
    if given.file is not None and given.file != "-":
        text = _file_text(Path(given.file))
    elif not named or named[0] == "-":
        text = _stdin_text(out) if named or not _at_keyboard() else ""
    else:
        text = _joined(named[0], _piped_text(out))
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise UsageError("The message is not UTF-8 text.", hint="Send a file along with --attach FILE.") from e
    if not text.strip() and not given.attach:
        raise UsageError("The message is empty.", hint="Give it as TEXT, with -m TEXT, -f FILE, --editor, or on stdin.")
    return text


def _from_editor(named: list[str]) -> str:
    if named:
        raise UsageError("The message is given twice.", hint="Leave out --editor, or the message.")
    from agentctl.cli.editor import written

    return written()


def _at_keyboard() -> bool:
    """Whether reading stdin would wait for a person, or there is no stdin."""
    return sys.stdin is None or sys.stdin.closed or sys.stdin.isatty()


def _joined(text: str, piped: str) -> str:
    return f"{text}\n\n{piped}" if piped.strip() else text


def _file_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as e:
        raise UsageError(f"Cannot read {path}: {e.strerror}.") from e
    except UnicodeDecodeError as e:
        raise UsageError(f"{path} is not UTF-8 text.", hint=f"Send it along with --attach {path}.") from e


def _piped_text(out: Output) -> str:
    """What a pipe or a file brings on stdin; a terminal, a socket or /dev/null brings nothing."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):  # closed, or no stdin at all
        return ""
    return _stdin_text(out) if stat.S_ISFIFO(mode) or stat.S_ISREG(mode) else ""


def _stdin_text(out: Output) -> str:
    waiting = threading.Timer(1.0, out.story, ["Reading stdin until it ends …", "dim"])
    waiting.daemon = True
    waiting.start()
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as e:
        raise UsageError("What came on stdin is not UTF-8 text.", hint="Send a file along with --attach FILE.") from e
    finally:
        waiting.cancel()


def can_ask() -> bool:
    """Whether a person sits at this terminal and may be asked: it shows stderr, brings stdin, and we are its foreground
    process."""
    if NO_INPUT.is_forbidden():
        return False
    try:
        fd = sys.stdin.fileno()
        return os.isatty(fd) and sys.stderr.isatty() and os.tcgetpgrp(fd) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False


def build_message(
    text: str, given: MessageOptions, turn: TurnOptions, session: Session, *, attended: bool, watched: bool = True
) -> Message:
    """The message for an op. Where nobody can be asked, a request waits for the timeout, else ten minutes. Who watches
    the turn and gave a timeout waits no longer in line either."""
    from agentctl.ops.turns import Message

    timeout_s = turn.timeout or session.spec.timeout_s
    return Message(
        text=text,
        attachments=_attachments(given.attach or []),
        turn_id=given.turn_id,
        timeout_s=timeout_s,
        in_line_s=turn.timeout if watched else None,
        request_timeout_s=None if attended else timeout_s or UNATTENDED_WAIT_S,
        accept_denials=given.accept_denials,
        permissions=turn.permissions,
        on_lost=turn.on_lost,
        when_busy=when_busy(given),
        stall_timeout_s=turn.stall_timeout,
        on_interrupt=cast("OnInterrupt | None", turn.on_interrupt),
    )


def when_busy(given: MessageOptions) -> WhenBusy:
    """What a running turn means for this message. Raise ``UsageError`` when both were asked for."""
    if given.queue and given.interrupt:
        raise UsageError("--queue and --interrupt exclude each other.", hint="Give one of them.")
    if given.interrupt:
        return "interrupt"
    return "queue" if given.queue else "fail"


def hook_command(given: MessageOptions) -> tuple[str, ...]:
    """The words of ``--request-hook``; none when it was not given. Raise ``UsageError``."""
    if given.request_hook is None:
        return ()
    from agentctl.cli.request_hook import command_of

    return command_of(given.request_hook)


def only_watched(option: str, given: MessageOptions, turn: TurnOptions) -> None:
    """Raise ``UsageError`` for what a command can only do while it watches the turn."""
    for name, value in (("--on-interrupt", turn.on_interrupt), ("--request-hook", given.request_hook)):
        if value is not None:
            raise UsageError(
                f"{name} is done by a command that watches the turn; {option} leaves at once.",
                hint=f"Leave out {name} or {option}.",
            )


def _attachments(paths: list[Path]) -> tuple[dict[str, Any], ...]:
    if not paths:
        return ()
    from agentctl.ops.attachments import load

    return tuple(load(path) for path in paths)
