"""Makes the pictures of README from real runs: ``python -m tests.pictures``; ``--check`` says whether they are stale.

The agent is scripted, the sessions are real. Only what differs from run to run is written over: times.
"""

from __future__ import annotations

import os
import re
import shlex
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.cli.terminal import Terminal, agentctl
from tests.pictures import svg

MEDIA = Path(__file__).parents[2] / ".github" / "media"
COMMAND = "python -m tests.pictures"
COLUMNS = 100
TASK = "The total ignores the quantity. Fix it."
STREAM = ("sessions", "stream", "shop", TASK)

SESSIONS = (
    # name, agent, title, what it was told, its age in seconds
    ("docs", "writer", "Describe every option", "", 3 * 86400),
    ("upgrade", "fixer", "Move to Python 3.14", "@cost=1.274 done", 26 * 3600),
    ("flaky-test", "fixer", "Why does test_login fail on Mondays?", "@cost=0.412 done", 2 * 3600),
    ("review", "reviewer", "Review of the payment branch", "@cost=0.083 @permission", 720),
    ("cart", "fixer", "The total ignores the quantity", "@hang", 40),
)
SLEEPING = "upgrade"


def of_a_turn() -> dict[str, str]:
    """The live view at its end, and where it asks."""
    with _scene():
        asked, whole = _turn()
    return {"permission": _drawn("permission", STREAM, asked), "live": _drawn("live", STREAM, whole)}


def of_the_list() -> dict[str, str]:
    """Sessions in all states."""
    with _scene():
        _play_sessions()
        return {"sessions": _drawn("sessions", ("sessions", "list"), _listed())}


def stale(pictures: dict[str, str]) -> list[str]:
    """Those that do not show what agentctl shows now."""
    return [name for name, picture in pictures.items() if _words_of(MEDIA / f"{name}.svg") != svg.words(picture)]


def _words_of(path: Path) -> list[str]:
    return svg.words(path.read_text(encoding="utf-8")) if path.is_file() else []


def _drawn(name: str, command: Sequence[str], text: Text) -> str:
    return svg.drawn(_timeless(_typed(*command).append_text(text)), name, COLUMNS)


@contextmanager
def _scene() -> Iterator[None]:
    """A state directory of its own, which is gone in the end, with all that ran in it."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="agentctl-") as home:
        for name in [name for name in os.environ if name.startswith(("AGENTCTL_", "NO_COLOR", "FORCE_COLOR"))]:
            del os.environ[name]
        os.environ |= {"HOME": home, "AGENTCTL_STATE_DIR": f"{home}/state"}
        try:
            yield
        finally:
            _run("sessions", "delete", "--yes", *_run("sessions", "list", "-q").split())
            os.environ.clear()
            os.environ.update(before)


def _run(*args: str) -> str:
    done = subprocess.run(agentctl(*args), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 or "delete" in args, f"{args}: {done.stderr}"
    return done.stdout


def _turn() -> tuple[Text, Text]:
    """The screen when it asks, and at the end."""
    script = shlex.join([sys.executable, str(Path(__file__).with_name("agent.py"))])
    _run("sessions", "create", "shop", "--agent-command", script, "--permissions", "ask")
    terminal = _on_terminal(*STREAM)
    try:
        terminal.wait_for("d details")
        terminal.wait_for("  >")
        asked = svg.shown(terminal.raw, COLUMNS)
        terminal.send("y")
        assert terminal.finish() == 0, terminal.text
        return asked, svg.shown(terminal.raw, COLUMNS)
    finally:
        terminal.close()
        _run("sessions", "delete", "shop", "--yes")


def _on_terminal(*args: str) -> Terminal:
    return Terminal(agentctl(*args), rows=90, columns=COLUMNS, env={"COLORTERM": ""})


def _play_sessions() -> None:
    for agent in sorted({agent for _, agent, *_ in SESSIONS}):
        _run("agents", "create", agent, "--from", "mock")
    for name, agent, title, message, _ in SESSIONS:
        _run("sessions", "create", name, "--agent", agent, "--permissions", "ask", "--no-provision")
        if message.endswith("done"):
            _run("sessions", "send", name, message)
        elif message:
            _run("sessions", "send", name, message, "--no-wait")
        if message.endswith("@permission"):
            _run("sessions", "wait", name, "--for", "request")
        _run("sessions", "update", name, "--title", title)
    _run("sessions", "release", SLEEPING)


def _listed() -> Text:
    _run("sessions", "list")  # what changed meanwhile is mirrored now, before it is made to look old
    with closing(sqlite3.connect(Path(os.environ["AGENTCTL_STATE_DIR"]) / "agentctl.db")) as database, database:
        for name, *_, age in SESSIONS:
            database.execute("update sessions set updated_at = ? where name = ?", (time.time() - age, name))
    terminal = _on_terminal("sessions", "list")
    try:
        assert terminal.finish() == 0, terminal.text
        return svg.shown(terminal.raw, COLUMNS)
    finally:
        terminal.close()


def _typed(*command: str) -> Text:
    words = [word if re.fullmatch(r"[\w-]+", word) else f'"{word}"' for word in command]
    return Text.assemble(("$ ", "green"), (" ".join(["agentctl", *words]), "bold"), "\n")


def _timeless(text: Text) -> Text:
    """With the same times in each run."""
    for pattern, time_ in ((r"(?<=Done · )[\d.]+ m?s", "9.4 s"), (r"\b4\d s ago", "40 s ago")):
        found = re.search(pattern, text.plain)
        if found:
            style = text.get_style_at_offset(Console(), found.start())
            text = Text.assemble(text[: found.start()], (time_, style), text[found.end() :])
    return text


def main(check: bool) -> int:
    """Write those that are stale, or only name them."""
    MEDIA.mkdir(parents=True, exist_ok=True)
    pictures = of_a_turn() | of_the_list()
    found = stale(pictures)
    for name in found:
        if not check:
            (MEDIA / f"{name}.svg").write_text(pictures[name], encoding="utf-8")
        print(f".github/media/{name}.svg {f'is stale: {COMMAND}' if check else 'is written'}")
    return 1 if found and check else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
