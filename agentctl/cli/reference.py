"""Writes what the command line can say of itself: ``man/``, ``completions/``, the table that they are answered from,
and the README's list of commands.

``python -m agentctl.cli.reference`` writes them; ``--check`` fails when a copy is stale, and says what mends it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from typer._click import Command, Context

from agentctl import __version__
from agentctl.cli.completion_scripts import SCRIPTS
from agentctl.cli.lazy import LazyGroup
from agentctl.cli.main import root_command
from agentctl.cli.reference_table import command_table

MEND = "python -m agentctl.cli.reference"
BEGIN, END = "<!-- commands: written by agentctl.cli.reference -->", "<!-- /commands -->"


def main(argv: list[str]) -> int:
    """Write or check the files below the repository's root, which may be given."""
    check = "--check" in argv
    given = [a for a in argv if not a.startswith("-")]
    root = Path(given[0]) if given else Path(__file__).parents[2]
    stale = [path for path, text in reference(root) if not path.exists() or path.read_text(encoding="utf-8") != text]
    if check:
        for path in stale:
            sys.stderr.write(f"stale: {path.relative_to(root)}\n")
        if stale:
            sys.stderr.write(f"Mend it with: {MEND}\n")
        return 1 if stale else 0
    for path, text in reference(root):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


def reference(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file and what it should hold."""
    command = root_command()
    context = Context(command, info_name="agentctl")
    yield root / "man" / "agentctl.1", _page(context, subcommands=False)
    for child in _children(context):
        yield root / "man" / f"agentctl-{child.info_name}.1", _page(child, subcommands=True)
    for shell, script in SCRIPTS.items():
        yield root / "completions" / f"agentctl.{shell}", script
    yield root / "agentctl" / "cli" / "command_table.py", command_table(context)
    readme = root / "README.md"
    if readme.exists() and BEGIN in (text := readme.read_text(encoding="utf-8")):
        yield readme, _with_block(text, _readme_block(context))


def _children(context: Context) -> list[Context]:
    group = context.command
    if not isinstance(group, LazyGroup):
        return []
    commands = [(name, group.get_command(context, name)) for name in group.list_commands(context)]
    return [Context(command, info_name=name, parent=context) for name, command in commands if command is not None]


def _page(context: Context, *, subcommands: bool) -> str:
    name = context.command_path.replace(" ", "-")
    lines = [
        f'.TH {name.upper()} 1 "" "agentctl {__version__}" "agentctl manual"',
        ".SH NAME",
        f"{_roff(name)} \\- {_roff(_purpose(context.command))}",
        ".SH SYNOPSIS",
        _roff(_usage(context)),
        ".SH DESCRIPTION",
        *_description(context.command),
        *_examples(context.command),
        *_options(context, ".SH"),
    ]
    children = _children(context)
    if children:
        lines.append(".SH COMMANDS")
    for child in children:
        lines += [".TP", f".B {_roff(child.command_path)}", _roff(_help_of(context, child))]
        if subcommands:
            lines += [".RS", f".I {_roff(_usage(child))}", *_options(child, ".PP"), ".RE"]
    return "\n".join(lines) + "\n"


def _usage(context: Context) -> str:
    return " ".join([context.command_path, *context.command.collect_usage_pieces(context)])


def _purpose(command: Command) -> str:
    return (command.help or "").strip().splitlines()[0].rstrip(".")


def _help_of(parent: Context, child: Context) -> str:
    group = parent.command
    assert isinstance(group, LazyGroup)
    return group.table[str(child.info_name)].help


def _description(command: Command) -> list[str]:
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return [line for p in paragraphs for line in (".PP", _roff(" ".join(p.split())))]


def _examples(command: Command) -> list[str]:
    if not command.epilog:
        return []
    lines = [_roff(line) for line in inspect.cleandoc(command.epilog).splitlines()]
    return [".SH EXAMPLES", ".nf", *lines, ".fi"]


def _options(context: Context, heading: str) -> list[str]:
    records = [r for p in context.command.get_params(context) if (r := p.get_help_record(context))]
    if not records:
        return []
    lines = [f"{heading} OPTIONS" if heading == ".SH" else heading]
    for names, text in records:
        lines += [".TP", f".B {_roff(names)}", _roff(" ".join(text.split()))]
    return lines


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _readme_block(context: Context) -> str:
    rows = ["| command | what it does |", "|---|---|"]
    for child in _children(context):
        leaves = _children(child) or [child]
        for leaf in leaves:
            parent = leaf.parent
            assert parent is not None
            rows.append(f"| `{_usage(leaf).replace(' [OPTIONS]', '')}` | {_help_of(parent, leaf)} |")
    return "\n".join(rows)


def _with_block(text: str, block: str) -> str:
    head, _, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{block}\n{end or END}{tail}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
