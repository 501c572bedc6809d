"""Help says what every command and option does, the same everywhere."""

import inspect

import pytest
from typer._click import Context

from agentctl.cli.lazy import LazyGroup
from agentctl.cli.main import root_command


def _contexts(context):
    yield context
    if isinstance(context.command, LazyGroup):
        for name in context.command.list_commands(context):
            child = Context(context.command.get_command(context, name), info_name=name, parent=context)
            yield from _contexts(child)


ALL = list(_contexts(Context(root_command(), info_name="agentctl")))
LEAVES = [c for c in ALL if not isinstance(c.command, LazyGroup)]


@pytest.mark.parametrize("context", ALL, ids=lambda c: c.command_path)
def test_every_command_and_option_has_help(context):
    assert context.command.help
    assert context.command.epilog, "examples come first in help"
    for param in context.command.get_params(context):
        assert param.help, param.name
    text = context.get_help()
    assert text.startswith("Usage: ")
    headings = [line for line in text.splitlines() if line.endswith(":") and line[0].isalpha()]
    assert headings[0] == "Examples:", headings
    assert "\x1b" not in text


@pytest.mark.parametrize("context", LEAVES, ids=lambda c: c.command_path)
def test_every_command_speaks_json_and_quietly(context):
    options = {name for param in context.command.params for name in param.opts}
    assert {"--json", "--quiet", "-q", "--color", "--debug"} <= options


@pytest.mark.parametrize("context", LEAVES, ids=lambda c: c.command_path)
def test_no_option_is_named_twice(context):
    names = [name for param in context.command.get_params(context) for name in param.opts]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("context", ALL, ids=lambda c: c.command_path)
def test_examples_are_commands_of_this_group(context):
    path = context.command_path
    aliases = {"send-message": "send", "send-message-stream": "stream"}
    short = " ".join(aliases.get(word, word) for word in path.split())
    for line in inspect.cleandoc(context.command.epilog).splitlines():
        assert path in line or short in line


def test_aliases_work_but_are_not_listed():
    sessions = next(c for c in ALL if c.info_name == "sessions")
    assert sessions.command.get_command(sessions, "send").name == "send-message"
    assert sessions.command.get_command(sessions, "stream").name == "send-message-stream"
    assert "\n  send " not in sessions.get_help()
