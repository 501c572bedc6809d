"""Text that an agent wrote must not drive the terminal: control characters and tricks of direction are taken out."""

from __future__ import annotations

import re

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # OSC, DCS, SOS, PM, APC, to their end
    r"|\x1b[ -/]*[0-~]"  # any other escape
)
# C0 but tab and newline, DEL, C1, and the characters that reorder what is read (bidirectional overrides, isolates)
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_C1_BYTES = re.compile(rb"\xc2([\x80-\x9f])")


def clean(text: str) -> str:
    """``text`` without anything that a terminal obeys; newlines and tabs stay."""
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    return _CONTROLS.sub("", text)


def one_line(text: str, limit: int = 200) -> str:
    """``text`` cleaned, on one line, cut to ``limit`` characters."""
    line = " ".join(clean(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def clean_json_line(line: bytes) -> bytes:
    """A JSON line with C1 controls escaped; C0 controls already are, or it would not be JSON."""
    return _C1_BYTES.sub(lambda m: b"\\u00%02x" % m[1][0], line) if b"\xc2" in line else line
