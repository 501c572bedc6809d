"""What the mock agent can be told to do wrong: to the protocol, to the pipe, to its process."""

from __future__ import annotations

import os
import signal
import sys
import time

from agentctl.supervisor.mock.knobs import whole
from agentctl.supervisor.mock.wire import line_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agentctl.supervisor.mock.turn import Turn

    Action = Callable[[Turn, str, bool], None]

_GARBAGE = {
    "text": b"mock agent: this line is no frame\n",
    "utf8": b'{"jsonrpc":"2.0","method":"session/\xff\xfe\xc3"}\n',
    "array": b'[{"jsonrpc":"2.0","method":"mock/batch"}]\n',
    "number": b"42\n",
}


def unknown(turn: Turn, value: str, bang: bool) -> None:
    turn.update(value or "mock_unknown_variant", note="No specification has this.", nested={"kept": [1, 2, 3]})


def wrong_session(turn: Turn, value: str, bang: bool) -> None:
    update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "for somebody else"}}
    turn.wire.notify("session/update", {"sessionId": "mock-nobody", "update": update})


def bigline(turn: Turn, value: str, bang: bool) -> None:
    turn.say("b" * whole(value, 1024 * 1024))


def split(turn: Turn, value: str, bang: bool) -> None:
    text = value or "héé wörld 🙂 日本"
    update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
    params = {"sessionId": turn.session.id, "update": update}
    line = line_of({"jsonrpc": "2.0", "method": "session/update", "params": params})
    turn.said.append(text)
    for place in range(0, len(line), 3):
        turn.wire.send_bytes(line[place : place + 3])
        time.sleep(0.0005)


def garbage(turn: Turn, value: str, bang: bool) -> None:
    turn.wire.send_bytes(_GARBAGE.get(value or "text", _GARBAGE["text"]))


def stderr(turn: Turn, value: str, bang: bool) -> None:
    noise(whole(value, 100))


def noise(lines: int) -> None:
    for start in range(0, lines, 1000):
        block = "".join(f"mock stderr line {n + 1}\n" for n in range(start, min(start + 1000, lines)))
        data = block.encode()
        while data:
            data = data[os.write(2, data) :]


def hang(turn: Turn, value: str, bang: bool) -> None:
    turn.wire.flush()
    turn.cancelled.wait()
    turn.check()


def grandchild(turn: Turn, value: str, bang: bool) -> None:
    turn.tell(f"grandchild: {hold_pipes(whole(value, 3600))}")


def hold_pipes(seconds: int) -> int:
    """Start a process in a session of its own that holds stdout and stderr; its pid."""
    import subprocess

    program = f"import time; time.sleep({seconds})"
    argv = [sys.executable, "-IS", "-c", program]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True).pid


def freeze(turn: Turn, value: str, bang: bool) -> None:
    turn.wire.flush()
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(0.2)  # this thread may run on for a moment, until the signal has stopped all of them


def close_stdout(turn: Turn, value: str, bang: bool) -> None:
    os.close(1)
    turn.cancelled.wait()


def half_line(turn: Turn, value: str, bang: bool) -> None:
    turn.wire.send_bytes(b'{"jsonrpc":"2.0","method":"session/update","params":{"sess')
    os._exit(1)


def crash(turn: Turn, value: str, bang: bool) -> None:
    for number in range(whole(value, 0)):
        turn.say(f"{number:06d} ")
    turn.wire.flush()
    os.write(2, b"mock agent: crashing as told\n")
    os.kill(os.getpid(), signal.SIGKILL)


def leave(turn: Turn, value: str, bang: bool) -> None:
    turn.wire.flush()
    os.write(2, b"mock agent: leaving as told\n")
    os._exit(whole(value, 0))


def already_done(turn: Turn, value: str, bang: bool) -> None:
    """The server did it before the turn began: only its main thread may."""


FAULT_TABLE: dict[str, Action] = {
    "unknown": unknown,
    "wrong-session": wrong_session,
    "bigline": bigline,
    "split": split,
    "garbage": garbage,
    "stderr": stderr,
    "hang": hang,
    "freeze": freeze,
    "grandchild": grandchild,
    "ignore-eof": already_done,
    "ignore-term": already_done,
    "close-stdout": close_stdout,
    "half-line": half_line,
    "crash": crash,
    "exit": leave,
}
