"""What the shell offers on TAB. Completion must never complain, wait or start anything: what fails offers nothing.

A process of its own that imports neither Typer nor a command: the tree of commands is data that was written ahead of
time (``command_table.py``), and names come from ``complete_values.py``. The scripts that ask are in
``completion_scripts.py``.
"""

from __future__ import annotations

import sys

from agentctl.cli import command_table as table

TYPE_CHECKING = False  # typing costs 10 ms of the 100 that a request has
if TYPE_CHECKING:
    from collections.abc import Iterable

Described = tuple[str, str]
Answer = tuple[str, "list[Described]"]
"""How the shell goes on (see ``completion_scripts.py``), and the values with what they are."""

_NOTHING: Answer = ("values", [])
_KEPT_BREAKS = "@$"
"""Word breaks that readline takes for the first character of the word."""

_MENU = ("37", "42")
"""Values of COMP_TYPE where bash inserts what it is given."""


def main(shell: str, argv: list[str]) -> None:
    """Answer one request of a shell's script on stdout."""
    if shell == "bash":
        kind, width, breaks, line = argv[:4]
        words = split(line)[1:] or [""]
        lines = _for_bash(complete(words), words[-1], menu=kind in _MENU, columns=int(width), breaks=breaks)
    else:
        lines = _for_zsh(complete(argv)) if shell == "zsh" else _for_fish(complete(argv), argv[-1])
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def complete(words: list[str]) -> Answer:
    """What may stand in place of the last of ``words``, which follow ``agentctl``; for ``--option=value`` values."""
    *before, current = words
    line = Line(before)
    if line.lost:
        return _NOTHING
    if line.wants is not None:
        return _values(line.wants, current, line)
    if line.is_literal:
        return _values(line.argument(), current, line)
    if current.startswith("--") and "=" in current:
        name, _, start = current.partition("=")
        option = line.option(name)
        return _values(option[1], start, line) if option else _NOTHING
    if current.startswith("-"):
        return "values", _starting(current, line.open_options(current))
    if line.path in table.GROUPS:
        return "values", _starting(current, table.GROUPS[line.path].items())
    return _values(line.argument(), current, line)


class Line:
    """What the words before the one that is completed say."""

    def __init__(self, before: list[str]) -> None:
        self.path = ""
        """The words of the command so far."""
        self.arguments: list[str] = []
        self.given: dict[str, str] = {}
        """Values of options, by the first name of each."""
        self.wants: str | None = None
        """The kind of the value that an option still wants."""
        self.is_literal = False
        """``--`` was said: no more options."""
        self.lost = False
        """There is no such command."""
        self._last = ""
        for word in before:
            self._take(word)

    def _take(self, word: str) -> None:
        if self.wants is not None:
            self.given[self._last] = word
            self.wants = None
        elif self.is_literal:
            self.arguments.append(word)
        elif word == "--":
            self.is_literal = True
        elif word.startswith("-") and word != "-":
            self._take_option(word)
        elif self.path in table.GROUPS:
            self._take_verb(word)
        else:
            self.arguments.append(word)

    def _take_option(self, word: str) -> None:
        name, equals, value = word.partition("=")
        option = self.option(name)
        if option is None:
            return
        self._last = option[0][0]
        self.given[self._last] = value
        if option[1] != "flag" and not equals:
            self.wants = option[1]

    def _take_verb(self, word: str) -> None:
        name = table.ALIASES.get(f"{self.path} {word}".strip(), word)
        self.lost = name not in table.GROUPS[self.path]
        self.path = f"{self.path} {name}".strip()

    def option(self, name: str) -> table.Option | None:
        """This command's option of that name; before the verb is known, any command's."""
        own = [table.OPTIONS[i] for i in table.COMMANDS.get(self.path, ((), ()))[0]]
        known = [*own, *table.OPTIONS] if self.path in table.GROUPS else own
        return next((option for option in known if name in option[0]), None)

    def open_options(self, current: str) -> list[Described]:
        """What may still be given: long names, short ones too where only a dash is typed."""
        found = []
        for index in table.COMMANDS[self.path][0]:
            names, _, again, about = table.OPTIONS[index]
            if again or names[0] not in self.given:
                long = [name for name in names if name.startswith("--")]
                found += [(name, about) for name in (long or names)]
        return found

    def argument(self) -> str:
        """The kind of the next argument."""
        kinds = table.COMMANDS[self.path][1]
        if not kinds:
            return ""
        at = len(self.arguments)
        if at < len(kinds):
            return kinds[at].removesuffix("...")
        return kinds[-1].removesuffix("...") if kinds[-1].endswith("...") else ""


def _values(kind: str, start: str, line: Line) -> Answer:
    if kind in ("files", "dirs"):
        return kind, []
    if kind.startswith("="):
        return "values", _starting(start, ((name, "") for name in kind[1:].split("|")))
    if not kind:
        return _NOTHING
    from agentctl.cli.complete_values import values

    how, found = values(kind, start, line)
    return how, _starting(start, found)


def _starting(start: str, found: Iterable[Described]) -> list[Described]:
    return [(name, about) for name, about in found if name.startswith(start)]


def split(line: str) -> list[str]:
    """A command line's words as the shell reads them; the last one may still be open, or empty."""
    words, word, quote, begun = list[str](), "", "", False
    characters = iter(line)
    for character in characters:
        if quote:
            if character == quote:
                quote = ""
            else:
                word += next(characters, "") if character == "\\" and quote == '"' else character
        elif character.isspace():
            if begun:
                words.append(word)
            word, begun = "", False
            continue
        elif character in "'\"":
            quote = character
        else:
            word += next(characters, "") if character == "\\" else character
        begun = True
    return [*words, word]


def _for_bash(answer: Answer, current: str, *, menu: bool, columns: int, breaks: str) -> list[str]:
    """Bash takes the text behind the last of its word breaks for the word. What a value is stands beside it while
    several are shown; their common beginning, all that is typed then, has none of it."""
    kind, found = answer
    done = max((current.rfind(c) + (c not in _KEPT_BREAKS) for c in breaks if c in current), default=0)
    option = current.partition("=")[0] + "=" if current.startswith("--") and "=" in current else ""
    found = [((option + name)[done:], about) for name, about in found if not _needs_quotes(name)]
    if len(found) < 2 or menu or all(not about for _, about in found):
        return [kind, *(name for name, _ in found)]
    width = max(len(name) for name, _ in found)
    return [kind, *(_cut(f"{name.ljust(width)}  ({about})" if about else name, columns - 2) for name, about in found)]


def _needs_quotes(name: str) -> bool:
    return not all(character.isalnum() or character in "@%+=:,./_-" for character in name)


def _cut(text: str, width: int) -> str:
    text = _plain(text)
    return text if len(text) <= width or width < 30 else text[: width - 2] + "…)"


def _for_zsh(answer: Answer) -> list[str]:
    def escaped(name: str) -> str:
        return name.replace("\\", "\\\\").replace(":", "\\:")

    return [answer[0], *(f"{escaped(name)}:{_plain(about)}" if about else escaped(name) for name, about in answer[1])]


def _for_fish(answer: Answer, current: str) -> list[str]:
    option = current.partition("=")[0] + "=" if current.startswith("--") and "=" in current else ""
    return [answer[0], *(f"{option}{name}\t{_plain(about)}" for name, about in answer[1])]


def _plain(text: str) -> str:
    """On one line, without anything that a terminal obeys: an agent wrote the titles of its sessions."""
    return "".join(c if c.isprintable() else " " for c in text)
