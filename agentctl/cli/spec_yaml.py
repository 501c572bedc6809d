"""A YAML file read strictly: every complaint has its line, nothing is guessed, nothing is converted in silence.

YAML 1.1 reads ``no`` as false, ``1.10`` as a number and ``1:30`` as ninety. Where a text is wanted such a value is an
error that says how to write it.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from agentctl.errors import UsageError

MAX_BYTES = 1024 * 1024
DEEPEST = 30
MOST_NODES = 100_000
"""So many may be read, since a small file can hold many by repeating what it has by aliases."""

_KINDS = {
    "str": "a text",
    "bool": "true or false",
    "int": "a number",
    "float": "a number",
    "null": "nothing",
    "map": "a mapping",
    "seq": "a list",
    "timestamp": "a date",
}


class StrictYaml:
    """One file. Nodes are PyYAML's; every method raises ``UsageError`` with ``FILE:LINE`` for what is not as wanted."""

    language = "YAML"

    def __init__(self, path: Path, text: str | None = None) -> None:
        self.name = "stdin" if str(path) == "-" else str(path)
        self.directory = Path.cwd() if str(path) == "-" else path.absolute().parent
        self._text = _read(path, self.name) if text is None else text
        self._nodes = 0

    @classmethod
    def of_text(cls, text: str, name: str) -> StrictYaml:
        """What stands somewhere else than in a file: errors call it ``name``."""
        return cls(Path(name), text)

    def root(self) -> Node:
        """The document, which has to be one mapping."""
        try:
            node = yaml.compose(self._text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as e:
            mark = e.problem_mark or e.context_mark
            line = mark.line + 1 if mark else 1
            raise self._error_at(line, f"this is not YAML: {e.problem or e.context}") from e
        except (yaml.YAMLError, RecursionError) as e:
            raise self._error_at(1, f"this is not YAML: {type(e).__name__}") from e
        if node is None:
            raise self._error_at(1, "the file is empty", hint="It should hold lines such as 'agent: claude'.")
        return node

    def error(self, node: Node, problem: str, *, hint: str | None = None) -> UsageError:
        """What is wrong with the value of this node, to be raised."""
        return self._error_at(node.start_mark.line + 1, problem, hint=hint)

    def _error_at(self, line: int, problem: str, *, hint: str | None = None) -> UsageError:
        return UsageError(f"{self.name}:{line}: {problem}.", hint=hint, details={"file": self.name, "line": line})

    def mapping(self, node: Node, what: str, known: Iterable[str] | None = None) -> dict[str, Node]:
        """Its members; each key a text, there once and, with ``known``, one of them."""
        if not isinstance(node, MappingNode):
            raise self.error(
                node, f"{what} has to be a mapping, not {kind_of(node)}", hint="Write 'key: value' lines below it."
            )
        self._count(node)
        found: dict[str, Node] = {}
        for key_node, value in node.value:
            key = self.text(key_node, f"a key of {what}")
            if key in found:
                raise self.error(
                    key_node, f"{key!r} is there twice", hint=f"Line {found[key].start_mark.line + 1} has it, too."
                )
            if known is not None and key not in known:
                raise self._unknown(key_node, key, what, list(known))
            found[key] = value
        return found

    def _unknown(self, node: Node, key: str, what: str, known: list[str]) -> UsageError:
        near = difflib.get_close_matches(key.replace("-", "_").lower(), known, n=1, cutoff=0.6)
        meant = f"Did you mean {near[0]!r}? " if near else ""
        return self.error(
            node, f"there is no key {key!r} in {what}", hint=f"{meant}Keys are: {', '.join(sorted(known))}."
        )

    def sequence(self, node: Node, what: str) -> list[Node]:
        if not isinstance(node, SequenceNode):
            raise self.error(node, f"{what} has to be a list, not {kind_of(node)}", hint="Begin each entry with '- '.")
        self._count(node)
        return list(node.value)

    def _count(self, node: Node) -> None:
        self._nodes += len(node.value)
        if self._nodes > MOST_NODES:
            raise self.error(node, f"the file has more than {MOST_NODES} values")

    def text(self, node: Node, what: str) -> str:
        if _tag(node) == "str" and isinstance(node, ScalarNode):
            value = str(node.value)
            if "\0" in value:
                raise self.error(node, f"{what} has a NUL in it")
            return value
        if not isinstance(node, ScalarNode):
            raise self.error(node, f"{what} has to be a text, not {kind_of(node)}")
        if _tag(node) == "null":
            raise self.error(node, f"{what} has no value", hint="Give it one, or leave the line out.")
        raise self.error(
            node,
            f"{what} has to be a text, but {self.language} reads {node.value} as {kind_of(node)}",
            hint=f'Write it in quotes: "{node.value}"',
        )

    def boolean(self, node: Node, what: str) -> bool:
        if isinstance(node, ScalarNode) and _tag(node) == "bool" and node.value in ("true", "false"):
            return bool(node.value == "true")
        raise self.error(node, f"{what} has to be true or false, not {_shown(node)}")

    def number(self, node: Node, what: str) -> float:
        """A plain decimal one: ``010``, ``0x10`` and ``1:30`` are not what they seem."""
        if isinstance(node, ScalarNode) and _tag(node) in ("int", "float"):
            digits = str(node.value).removeprefix("-")
            if digits.replace(".", "", 1).isdecimal() and not (
                len(digits) > 1 and digits[0] == "0" and digits[1] != "."
            ):
                return float(node.value)
        raise self.error(node, f"{what} has to be a number, not {_shown(node)}")

    def integer(self, node: Node, what: str) -> int:
        value = self.number(node, what)
        if value != int(value):
            raise self.error(node, f"{what} has to be a whole number, not {_shown(node)}")
        return int(value)

    def is_null(self, node: Node) -> bool:
        return _tag(node) == "null"

    def is_mapping(self, node: Node) -> bool:
        return isinstance(node, MappingNode)

    def is_text(self, node: Node) -> bool:
        return _tag(node) == "str"

    def plain(self, node: Node, what: str, depth: int = 0) -> Any:
        """Any JSON value, for what is passed on as it is."""
        if depth > DEEPEST:
            raise self.error(node, f"{what} is nested too deep")
        if isinstance(node, MappingNode):
            return {key: self.plain(value, what, depth + 1) for key, value in self.mapping(node, what).items()}
        if isinstance(node, SequenceNode):
            return [self.plain(value, what, depth + 1) for value in self.sequence(node, what)]
        match _tag(node):
            case "null":
                return None
            case "bool":
                return self.boolean(node, what)
            case "int":
                return self.integer(node, what)
            case "float":
                return self.number(node, what)
            case _:
                return self.text(node, what)


class OfPreset(StrictYaml):
    """The table ``[presets.NAME]`` of a TOML file, read as strictly. Its errors name the table, not a line."""

    language = "TOML"

    def __init__(self, name: str, keys: dict[str, Any], path: Path) -> None:
        table = f"{path} [presets.{name}]"
        try:
            text = yaml.safe_dump(keys, sort_keys=False, allow_unicode=True)
        except yaml.YAMLError as e:
            raise UsageError(f"{table}: a time of day is no value of a spec.", hint="Write it in quotes.") from e
        super().__init__(path, text)
        self.name = table

    def _error_at(self, line: int, problem: str, *, hint: str | None = None) -> UsageError:
        return UsageError(f"{self.name}: {problem}.", hint=hint, details={"file": self.name})


def _read(path: Path, name: str) -> str:
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as e:
        raise UsageError(f"Cannot read --spec {name}: {e.strerror}.") from e
    except UnicodeDecodeError as e:
        raise UsageError(f"{name} is not text in UTF-8.", details={"file": name}) from e
    if len(data) > MAX_BYTES:
        raise UsageError(f"{name} is larger than {MAX_BYTES} bytes, too much for a spec.", details={"file": name})
    return text


def _tag(node: Node) -> str:
    return str(node.tag).rpartition(":")[2]


def kind_of(node: Node) -> str:
    """What YAML takes it for, in a word or two."""
    return _KINDS.get(_tag(node), f"a {_tag(node)}")


def _shown(node: Node) -> str:
    return str(node.value) if isinstance(node, ScalarNode) and node.value else kind_of(node)
