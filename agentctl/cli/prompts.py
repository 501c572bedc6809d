"""Questions to the person at the terminal, on stderr: permissions by one key, forms field by field."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from agentctl.cli import requests_text as words
from agentctl.cli.forms import Field, fields_of
from agentctl.cli.keyboard import read_key, read_line, single_keys
from agentctl.cli.output import Output, styled, wants_color
from agentctl.cli.untrusted import clean

Json = dict[str, Any]


class Answer(NamedTuple):
    """What is sent back; ``said`` tells it to the person."""

    reply: str
    option_id: str | None
    content: Json | None
    said: str


async def ask(data: Json, out: Output) -> Answer:
    """Ask what the event data of a request asks. Raises ``KeyboardGone`` when nobody can answer."""
    if "permission_id" in data:
        return await _permission(data, out)
    if (data.get("metadata") or {}).get("mode") == "url":
        return await _url(data, out)
    return await _form(data, out)


async def _permission(data: Json, out: Output) -> Answer:
    offered = words.choices(data)
    _say(out, words.permission_lines(data))
    with single_keys():
        _offer(offered, out)
        while True:
            key = await read_key()
            chosen = next((c for c in offered if c.key == key), None)
            if chosen:
                return Answer(chosen.reply, chosen.option_id, None, chosen.said)
            if key == "d":
                _say(out, [("", ""), *words.permission_lines(data, full=True)])
            if key in ("d", "?", "h", "\r", "\n"):
                _offer(offered, out)


def _offer(offered: list[words.Choice], out: Output) -> None:
    keys = " · ".join([*(f"{c.key} {c.name}" for c in offered), "d details"])
    _say(out, [(f"  {keys}", "")])
    _prompt("  > ", out)


async def _url(data: Json, out: Output) -> Answer:
    url = clean(str((data.get("metadata") or {}).get("url") or ""))
    _say(out, [(f"Question: {words.title_of(data)}", "bold"), (f"  Open {url}", "")])
    with single_keys():
        _prompt("  y done · n decline > ", out)
        while (key := await read_key()) not in ("y", "n"):
            continue
    return Answer("once", None, {}, "done") if key == "y" else Answer("reject", None, None, "declined")


async def _form(data: Json, out: Output) -> Answer:
    _say(out, [(f"Question: {clean(data.get('prompt') or '')}", "bold")])
    content: Json = {}
    for field in fields_of((data.get("metadata") or {}).get("schema") or {}):
        value = await _field(field, out)
        if value is DECLINED:
            return Answer("reject", None, None, "declined")
        if value is not None:
            content[field.name] = value
    return Answer("once", None, content, "answered")


DECLINED = object()


async def _field(field: Field, out: Output) -> Any:
    """The value, None for an optional field left empty, or ``DECLINED``."""
    _say(out, [(f"  {line}", "dim") for line in field.help])
    while True:
        _prompt(f"  {field.label} > ", out)
        text = await read_line()
        if text.strip() == "/decline":
            return DECLINED
        value, wrong = field.read(text)
        if wrong is None:
            return value
        _say(out, [(f"  {wrong} (/decline answers nothing)", "warning")])


def _say(out: Output, lines: list[words.Line]) -> None:
    on = wants_color(sys.stderr, out.color)
    sys.stderr.write("".join(styled(clean(text), style, on) + "\n" for text, style in lines))
    sys.stderr.flush()


def _prompt(text: str, out: Output) -> None:
    sys.stderr.write(styled(clean(text), "bold", wants_color(sys.stderr, out.color)))
    sys.stderr.flush()
