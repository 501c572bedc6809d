"""How files are shown, of sessions and volumes alike: a directory, what is known of an entry, a content."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from typing import Any

from agentctl.cli.output import Output, is_terminal, write_bytes, write_text
from agentctl.cli.plain_output import print_fields, print_table

Json = dict[str, Any]


def show_entries(out: Output, entries: list[Json]) -> None:
    """A directory as a table, or its names."""
    if out.quiet:
        write_text("".join(f"{entry['name']}\n" for entry in entries))
        return
    rows = [(_mode_of(e), str(e["size"]), e["modified"][:16].replace("T", " "), _name_of(e)) for e in entries]
    print_table(out, ("mode", "size", "modified", "name"), rows)


def _mode_of(entry: Json) -> str:
    kind = stat.S_IFLNK if "target" in entry else stat.S_IFREG
    kind = stat.S_IFDIR if entry["entryType"] == "directory" else kind
    return stat.filemode(kind | int(entry["mode"], 8))


def _name_of(entry: Json) -> str:
    if "target" in entry:
        return f"{entry['name']} -> {entry['target']}"
    return f"{entry['name']}/" if entry["entryType"] == "directory" else str(entry["name"])


def show_stat(out: Output, about: Json) -> None:
    """What is known of one entry."""
    names = {"entryType": "type"}
    print_fields([(names.get(key, key), str(value)) for key, value in about.items() if key != "rawPath"])


def file_writer() -> Callable[[bytes], None]:
    """What writes a file to stdout: byte for byte, on a terminal without what would drive it."""
    return _shown if is_terminal(sys.stdout) else write_bytes


def _shown(chunk: bytes) -> None:
    from agentctl.cli.untrusted import clean

    write_text(clean(chunk.decode("utf-8", "replace")))
