"""The ``@words`` that a prompt may hold, and the flags of the mock agent's command line."""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

ACTIONS = """
@chunks=N           N chunks of text instead of the answer (see @size, @delay, @batch)
@say=TEXT           one chunk with this text
@echo               the prompt word for word, in one chunk
@think=N            N chunks of thought
@plan               a plan of three entries, then the same with all done
@tool[=KIND]        a tool call that ends well (read, edit, execute, search, ...)
@open-tool[=KIND]   a tool call that never ends
@late-tool[=KIND]   a tool call that ends after the answer (see @late-delay)
@permission[=KIND]  asks for a permission with a tool call and says which option it got
@diff               an edit with a diff, after a permission
@write=PATH         really writes a file below cwd, after a permission (@write!=PATH asks nobody)
@sh=CMD             really runs a command, after a permission (@sh!=CMD asks nobody)
@terminal[=CODE]    a shell call whose output and exit code are only in _meta
@elicit             a question with a form (@elicit! also when the client offers none)
@fs                 asks the client for a file, offered or not
@call=METHOD        sends the client any request and says what came back
@recall             the first message of this session and how many there were
@context            all messages of this session
@env=NAME           whether a variable is set and how long it is (@env!=NAME also its value)
@mcp                the MCP servers it was given
@cwd                its directory
@image              the images of this prompt
@unknown            an update of a kind that no specification has
@wrong-session      an update for a session that nobody opened
@bigline=BYTES      one line of that size
@split              writes that end in the middle of a character
@garbage[=KIND]     a line that is no frame: text, utf8, array, number
@stderr=LINES       lines on stderr
@sleep=S            waits, unless cancelled
@hang               waits for a cancel
@freeze             stops its process with SIGSTOP
@grandchild[=S]     starts a process in a session of its own that holds stdout
@ignore-eof         goes on after the end of stdin
@ignore-term        goes on after SIGTERM
@close-stdout       closes stdout and lives on
@half-line          dies in the middle of a line
@crash[=N]          dies of SIGKILL after N chunks
@exit=CODE          ends with this exit code
"""

SETTINGS = """
@size=BYTES         how long a chunk of @chunks is
@delay=S            how long to wait after each chunk
@batch[=N]          write once for N updates (without N: once for all)
@options=SET        the options of permissions: mock, codex, opencode, gemini, minimal, allow-only
@on-reject=HOW      after a rejected permission: continue, cancelled, end
@usage=N            tokens used (none: no usage at all; null: a null usage)
@cost=AMOUNT        cumulative cost in USD
@stop=REASON        the stop reason
@error=CODE         the prompt fails with this code
@ignore-cancel      a cancel changes nothing
@cancel-error[=CODE]  a cancel ends the prompt with an error
@cancel-stop=REASON a cancel ends the prompt with this stop reason
@late=N             N chunks after the answer
@late-delay=S       how long after
@late-every=S       how long to wait between them
@twice              the answer comes twice
@wrong-id           the answer bears another id
@string-id          the answer bears its id as a string
@both               the answer is a result and an error
@no-answer          there is no answer to the prompt
"""


def _names(listing: str) -> frozenset[str]:
    return frozenset(re.findall(r"^@([a-z-]+)", listing, re.MULTILINE))


ACTION_NAMES = _names(ACTIONS)
SETTING_NAMES = _names(SETTINGS)
_WORD = re.compile(r"""(?<!\S)@([a-z][a-z-]*)(!?)(?:=(?:"([^"]*)"|(\S*)))?(?!\S)""")


class Knobs:
    """What a prompt asks for: ``actions`` in order (name, value, bang), ``settings`` by name, the rest as ``text``."""

    def __init__(self, prompt: str, defaults: str = "") -> None:
        self.actions: list[tuple[str, str, bool]] = []
        self.settings: dict[str, str] = {}
        if defaults:
            _WORD.sub(self._take, defaults)
        self.text = " ".join(_WORD.sub(self._take, prompt).split()) if "@" in prompt else prompt

    def _take(self, found: re.Match[str]) -> str:
        name, bang, quoted, bare = found.groups()
        value = quoted if quoted is not None else bare or ""
        if name in ACTION_NAMES:
            self.actions.append((name, value, bool(bang)))
        elif name in SETTING_NAMES:
            self.settings[name] = value
        else:
            return found.group()
        return ""

    def has(self, name: str) -> bool:
        return name in self.settings

    def number(self, name: str, default: int) -> int:
        return whole(self.settings.get(name, ""), default)

    def seconds(self, name: str) -> float:
        return decimal(self.settings.get(name, ""), 0)


FIRST = "--first-"


def obeyed(given: list[str], state_dir: str) -> list[str]:
    """The flags without those that only the first process of a state directory obeys, unless this is it."""
    rest = [word for word in given if not word.startswith(FIRST)]
    if len(rest) == len(given):
        return given
    os.makedirs(state_dir, mode=0o700, exist_ok=True)
    try:
        os.close(os.open(os.path.join(state_dir, "first"), os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return rest
    return [f"--{word.removeprefix(FIRST)}" if word.startswith(FIRST) else word for word in given]


class Flags:
    """The command line: ``--name[=value]``. Flags that are knobs become ``defaults``, put before every prompt."""

    def __init__(self, given: Iterable[str]) -> None:
        self._values: dict[str, str] = {}
        defaults = []
        for word in given:
            name, _, value = word.removeprefix("--").partition("=")
            if name.rstrip("!") in ACTION_NAMES | SETTING_NAMES:
                defaults.append(f'@{name}="{value}"' if value else f"@{name}")
            else:
                self._values[name] = value
        self.defaults = " ".join(defaults)

    def has(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str:
        return self._values.get(name, "")

    def number(self, name: str, default: int) -> int:
        return whole(self._values.get(name, ""), default)

    def seconds(self, name: str) -> float:
        return decimal(self._values.get(name, ""), 0)


def whole(text: str, default: int) -> int:
    return int(text) if text.lstrip("-").isdigit() else default


def decimal(text: str, default: float) -> float:
    try:
        return float(text)
    except ValueError:
        return default
