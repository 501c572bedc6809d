"""What goes into a new session's sandbox: secrets, MCP servers, skills, files, instructions, first commands."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from agentctl.cli import values
from agentctl.cli.lazy import options
from agentctl.errors import UsageError

Json = dict[str, Any]
_SETUP = "Set-up options"

McpConfig = Annotated[
    list[Path] | None,
    typer.Option(
        "--mcp-config",
        metavar="FILE",
        help="MCP servers as Claude's or VS Code's JSON has them; ${NAME} is filled in at each start. Repeatable.",
        rich_help_panel=_SETUP,
    ),
]
Skill = Annotated[
    list[str] | None,
    typer.Option(
        "--skill",
        metavar="SOURCE",
        help="A directory with a SKILL.md (or several below it), or a git URL[#REF]. Repeatable.",
        rich_help_panel=_SETUP,
    ),
]
SystemPrompt = Annotated[
    str | None,
    typer.Option(
        "--system-prompt",
        metavar="TEXT",
        help="Instructions for every conversation of the agent; @FILE reads them from a file.",
        rich_help_panel=_SETUP,
    ),
]
PreStart = Annotated[
    list[str] | None,
    typer.Option(
        "--pre-start",
        metavar="COMMAND",
        help="A shell command to run in a new sandbox before the agent starts. Repeatable.",
        rich_help_panel=_SETUP,
    ),
]
Secret = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="NAME",
        help="A secret variable: NAME (from the environment), NAME=@FILE or NAME=- (stdin). Never shown. Repeatable.",
        rich_help_panel=_SETUP,
    ),
]
SecretEphemeral = Annotated[
    bool,
    typer.Option(
        "--secret-ephemeral",
        help="Do not keep what came by NAME=-: it has to be given again when the session comes back.",
        rich_help_panel=_SETUP,
    ),
]
HomeFile = Annotated[
    list[str] | None,
    typer.Option(
        "--file",
        metavar="DST=SRC",
        help="Put a file of this machine into the agent's HOME: a path in it, or auth.json and the like. Repeatable.",
        rich_help_panel=_SETUP,
    ),
]


@options
class SetupOptions:
    """What comes along into the sandbox of a new session."""

    mcp_config: McpConfig = None
    skill: Skill = None
    system_prompt: SystemPrompt = None
    pre_start: PreStart = None
    secret: Secret = None
    secret_ephemeral: SecretEphemeral = False


def spec_fields(given: SetupOptions, mcp_server: Iterable[str], files: Iterable[str] = ()) -> Json:
    """Fields of ``SessionSpec`` but the secrets, for which stdin may be read. Raise ``UsageError``."""
    return {
        "mcp_servers": mcp_servers(mcp_server, given.mcp_config or ()),
        "skills": skills(given.skill or ()),
        "system_prompt": system_prompt(given.system_prompt),
        "pre_start": tuple(given.pre_start or ()),
        "files": tuple(_home_file(text) for text in files),
    }


def mcp_servers(given: Iterable[str], files: Iterable[Path]) -> tuple[Json, ...]:
    """Those of the files, then those of ``--mcp-server``, which win over files by their names."""
    own = values.mcp_servers(given)
    names = {server["name"] for server in own}
    listed = {server["name"]: server for file in files for server in _mcp_file(file)}
    return (*(server for name, server in listed.items() if name not in names), *own)


def _mcp_file(path: Path) -> tuple[Json, ...]:
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as e:
        raise UsageError(f"Cannot read --mcp-config {path}: {e.strerror}.") from e
    except ValueError as e:
        raise UsageError(f"--mcp-config {path} is not JSON: {e}") from e
    servers = data.get("mcpServers", data.get("servers")) if isinstance(data, dict) else None
    if not isinstance(servers, dict) or not all(isinstance(server, dict) for server in servers.values()):
        raise UsageError(f"--mcp-config {path} has no servers.", hint='It should be {"mcpServers": {"name": {…}}}.')
    enabled = {n: server for n, server in servers.items() if not server.get("disabled") and server.get("enabled", True)}
    return values.mcp_servers([json.dumps({"mcpServers": enabled})], f"--mcp-config {path}")


def skills(given: Collection[str]) -> tuple[Json, ...]:
    """``DIR`` or ``URL[#REF]``. Raise ``UsageError`` for a directory without a skill."""
    if not given:
        return ()
    from agentctl.ops.skill_sources import check_git, is_git
    from agentctl.supervisor.skills import skills_in

    found: list[Json] = []
    for text in given:
        if is_git(text):
            source, _, ref = text.partition("#")
            check_git(source)
            found.append({"source": source, **({"ref": ref} if ref else {})})
            continue
        path = Path(text).expanduser().absolute()
        if not path.is_dir():
            raise UsageError(f"--skill {text} is not a directory, and not a git URL.")
        skills_in(path, text)
        found.append({"source": str(path)})
    return tuple(found)


def system_prompt(text: str | None) -> str | None:
    if text is None or not text.startswith("@"):
        return text or None
    try:
        return Path(text[1:]).expanduser().read_text(encoding="utf-8") or None
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"Cannot read --system-prompt {text}: {e}") from e


def _home_file(text: str) -> Json:
    target, sign, source = text.partition("=")
    path = Path(source).expanduser().absolute()
    if not target or not sign:
        raise UsageError(f"--file '{text}' is not understood.", hint="Write --file .config/tool.json=./tool.json")
    if not path.is_file():
        raise UsageError(f"--file {target}: {source or 'the source'} is not a file.")
    return {"target": target, "source": str(path)}
