"""``agentctl help [TOPIC]``: what holds for all commands, said once; read from the code where that knows it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from typing import Annotated

import typer

from agentctl.cli.lazy import examples
from agentctl.cli.options import NoPager, OutputOptions
from agentctl.cli.output import write_text
from agentctl.cli.pager import paged
from agentctl.errors import UsageError


def _exit_codes() -> str:
    from agentctl.cli import exit_codes

    return exit_codes.text()


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width)


def _env() -> str:
    from agentctl.config import READERS

    settings = [f"  AGENTCTL_{key.upper():<14} the setting {key}; see: agentctl help config" for key in READERS]
    others = [
        ("AGENTCTL_STATE_DIR", "where sessions, volumes and installed agents live"),
        ("AGENTCTL_CONFIG", "the configuration file, in place of your own"),
        ("AGENTCTL_NO_INPUT", "1: never ask anything; see --no-input"),
        ("AGENTCTL_NO_PROGRESS", "1: do not show how pulls and installs go on; see --no-progress"),
        ("AGENTCTL_PAGER, PAGER", "the pager of long output (default: less -FRX); empty is none; see --no-pager"),
        ("AGENTCTL_REQUEST_HOOK", "a command that answers permission requests; see --request-hook"),
        ("DOCKER_HOST, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH", "the Docker engine, as the docker command reads them"),
        ("DAYTONA_API_KEY, DAYTONA_API_URL, DAYTONA_TARGET, DAYTONA_SNAPSHOT", "the account of --provider daytona"),
        ("MODAL_TOKEN_ID, MODAL_TOKEN_SECRET", "the account of --provider modal"),
        ("ANTHROPIC_API_KEY, CLAUDE_CODE_OAUTH_TOKEN, OPENAI_API_KEY, …", "agents' keys: agentctl credentials status"),
        ("VISUAL, EDITOR", "the editor of --editor"),
        ("NO_COLOR, FORCE_COLOR, TERM=dumb", "colours; --color goes before them"),
    ]
    return "\n".join([*settings, "", *(f"  {names}\n      {text}" for names, text in others)])


def _config() -> str:
    from agentctl import config

    return inspect.cleandoc(config.__doc__ or "").replace("``", "'")


_JSON = """
With --json a command prints one object on stdout and nothing else:

  {"agentctl": 1, "status": "ok", "data": …, "error": null}
  {"agentctl": 1, "status": "error", "data": null,
   "error": {"code", "message", "hint", "retryable", "details"}}

Commands that stream (run, sessions send-message-stream, events --follow) print one event a line, and at the end of a
turn one result line:

  {"type": "result", "outcome", "stop_reason", "text", "usage", "cost", "duration_ms", "context", …}

`agentctl schema` prints the JSON Schema of all of it: envelope, error, event, result, and each command's data.
Fields are added, not renamed or removed. Unknown ones are to be ignored. The exit code says the same as the object.
"""

_PERMISSIONS = """
--permissions says who decides when an agent wants to do something:

  ask            you, on the terminal, or `agentctl sessions answer` from another one. Nobody there: denied, exit 5
  accept-edits   edits of files in the working directory pass, all else is asked
  allow          everything passes
  deny           everything that is asked is denied; an agent that cannot ask is refused

--policy FILE decides by tool and pattern before that: rules of allow, deny and escalate. --request-hook COMMAND gets
the request as JSON on stdin and prints once, always, reject, or an option's id.

A turn in which something was denied ends with exit 5, unless --accept-denials. Inside a container (`--provider docker`)
`allow` is the way to work: the sandbox is the wall.
"""


def _providers() -> str:
    from agentctl.providers.lookup import COMPUTE, PROVIDERS

    about = {
        "unix_local": "processes on this machine, with a HOME of their own. No wall: the agent runs as you",
        "docker": "a hardened container. Needs an engine, and `pip install 'agentctl[docker]'`",
        "daytona": "a sandbox of Daytona. Needs DAYTONA_API_KEY, and `pip install 'agentctl[daytona]'`",
        "modal": "a sandbox of Modal. Needs MODAL_TOKEN_ID and MODAL_TOKEN_SECRET, and `pip install 'agentctl[modal]'`",
    }
    lines = []
    for name in sorted(PROVIDERS, key=list(about).index):
        has = ", ".join(sorted(field.replace("_bytes", "").replace("_", "-") for field in COMPUTE.get(name, ())))
        lines += [
            f"  {name:<11} {about[name]}.",
            *(_wrapped_under(f"Options about its machine: {has}." if has else "")),
        ]
    return "\n".join([*lines, "", "What of this works here: agentctl doctor"])


def _wrapped_under(text: str) -> list[str]:
    return [f"              {line}" for line in _wrapped(text, 90)]


TOPICS: dict[str, tuple[str, Callable[[], str]]] = {
    "exit-codes": ("what each exit code means", _exit_codes),
    "env": ("the environment variables that are read", _env),
    "json": ("the shape of --json and of streams", lambda: _JSON.strip()),
    "config": ("settings and their files", _config),
    "permissions": ("who decides what an agent may do", lambda: _PERMISSIONS.strip()),
    "providers": ("where sandboxes run", _providers),
}


@examples("""
    agentctl help
    agentctl help exit-codes
    agentctl help permissions
""")
def help_(
    output: OutputOptions,
    topic: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TOPIC]...", help="A topic, or a command.", show_default=False),
    ] = None,
    no_pager: NoPager = False,
) -> int:
    """Explain what holds for all commands: exit-codes, env, json, config, permissions, providers.

    With a command's words it prints that command's help.
    """
    words = topic or []
    out = output.output
    if not words:
        text = "\n".join(f"  {name:<12} {about}" for name, (about, _) in TOPICS.items())
        text = f"agentctl help TOPIC explains:\n{text}\nA command's own help: agentctl help COMMAND, or COMMAND --help"
    elif len(words) == 1 and words[0] in TOPICS:
        text = TOPICS[words[0]][1]()
    else:
        text = _command_help(words)
    if out.json:
        out.envelope({"topic": " ".join(words) or None, "text": text})
        return 0
    with paged(out):
        write_text(text.rstrip("\n") + "\n")
    return 0


def _command_help(words: list[str]) -> str:
    from agentctl.cli.main import RootGroup, root_command

    if words[0] not in RootGroup.table:
        from difflib import get_close_matches

        near = get_close_matches(words[0], [*TOPICS, *RootGroup.table], n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"There is neither a topic nor a command {words[0]!r}.", hint=f"{hint}Topics are: {', '.join(TOPICS)}."
        )
    with redirect_stdout(StringIO()) as said:
        root_command().main(args=[*words, "--help"], prog_name="agentctl", standalone_mode=False)
    return said.getvalue()
