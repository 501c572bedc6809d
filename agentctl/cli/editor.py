"""``--editor``: the message is written in the person's own editor."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from agentctl.cli.output import is_terminal
from agentctl.cli.switches import NO_INPUT
from agentctl.errors import AgentctlError, UsageError

_OTHERWISE = "Give the message as TEXT, with -m TEXT, -f FILE, or on stdin."


def written() -> str:
    """What the person wrote and saved. Raise ``UsageError`` where there is no terminal, or no such editor, and
    ``AgentctlError`` when the editor ended with an error."""
    if NO_INPUT.is_forbidden() or not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise UsageError("--editor needs a terminal, and somebody there.", hint=_OTHERWISE)
    words = _editor()
    with TemporaryDirectory(prefix="agentctl-") as directory:  # for what the editor leaves beside the file, too
        path = Path(directory) / "message.md"
        path.touch(mode=0o600)
        _run([*words, str(path)])
        return _text_of(path)


def _editor() -> list[str]:
    name = "VISUAL" if os.environ.get("VISUAL", "").strip() else "EDITOR"
    try:
        return shlex.split(os.environ.get(name, "")) or ["vi"]
    except ValueError as e:
        raise UsageError(f"{name} is no command line: {e}.", hint="Quote its words as in a shell.") from e


def _run(argv: list[str]) -> None:
    # Ctrl-C belongs to the editor. A handler, not SIG_IGN, which the editor would inherit.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        screen = None if is_terminal(sys.stdout) else sys.stderr  # stdout is for the answer
        code = subprocess.run(argv, stdout=screen, check=False).returncode
    except OSError as e:
        raise UsageError(
            f"The editor {argv[0]!r} could not be started: {e.strerror}.", hint=f"Set VISUAL or EDITOR. {_OTHERWISE}"
        ) from e
    finally:
        signal.signal(signal.SIGINT, before)
    if code:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise AgentctlError(f"The editor {argv[0]!r} {how}: nothing was sent.", hint=_OTHERWISE)


def _text_of(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    except UnicodeDecodeError as e:
        raise UsageError("What the editor wrote is not UTF-8 text: nothing was sent.", hint=_OTHERWISE) from e
    except OSError as e:
        raise UsageError(f"What the editor wrote cannot be read: {e.strerror}.", hint=_OTHERWISE) from e
    if not text.strip():
        raise UsageError("The message is empty: nothing was sent.", hint="Write it, save it, and leave the editor.")
    return text
