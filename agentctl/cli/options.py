"""Every shared option, once; and the bundles of them that commands take as one parameter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from agentctl.cli import pager, values
from agentctl.cli.lazy import options
from agentctl.cli.output import Output
from agentctl.cli.switches import NO_INPUT, NO_PROGRESS

if TYPE_CHECKING:
    from agentctl.cli.output import ColorChoice

_SESSION = "Session options"
_TURN = "Turn options"
_OUTPUT = "Output options"

PERMISSIONS = ("ask", "accept-edits", "allow", "deny")
ON_LOST = ("fail", "new", "replay")
ON_INTERRUPT = ("fail", "continue", "retry")
PROJECT_MODES = ("mount", "copy", "worktree")
COLORS = ("auto", "always", "never")


def _permissions(text: str) -> str:
    return values.choice(text, PERMISSIONS, "--permissions")


def _on_lost(text: str) -> str:
    return values.choice(text, ON_LOST, "--on-lost")


def _on_interrupt(text: str) -> str:
    return values.choice(text, ON_INTERRUPT, "--on-interrupt")


def _color(text: str) -> str:
    return values.choice(text, COLORS, "--color")


SessionRef = Annotated[
    str,
    typer.Argument(
        metavar="SESSION",
        help="Name, id, the start of an id, or @last.",
        show_default=False,
    ),
]
Agent = Annotated[
    str | None,
    typer.Option(
        "--agent",
        "-a",
        metavar="NAME",
        help="The agent; see 'agentctl agents list'.",
        rich_help_panel=_SESSION,
    ),
]
AgentCommand = Annotated[
    str | None,
    typer.Option(
        "--agent-command", metavar="COMMAND", help="Any program that speaks ACP on stdio.", rich_help_panel=_SESSION
    ),
]
Provider = Annotated[
    str | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        help="Where its sandbox runs: unix_local, docker, daytona or modal.",
        rich_help_panel=_SESSION,
    ),
]
Image = Annotated[
    str | None,
    typer.Option(
        "--image", metavar="IMAGE", help="The container's image, with Python 3.11 or newer.", rich_help_panel=_SESSION
    ),
]
Model = Annotated[
    str | None, typer.Option("--model", metavar="MODEL", help="The model to use.", rich_help_panel=_SESSION)
]
Mode = Annotated[str | None, typer.Option("--mode", metavar="MODE", help="The agent's mode.", rich_help_panel=_SESSION)]
ThoughtLevel = Annotated[
    str | None,
    typer.Option("--thought-level", metavar="LEVEL", help="How hard the agent thinks.", rich_help_panel=_SESSION),
]
Cwd = Annotated[
    str | None,
    typer.Option(
        "--cwd", metavar="DIR", help="The directory to work in (default: this one).", rich_help_panel=_SESSION
    ),
]
Root = Annotated[
    str | None,
    typer.Option(
        "--root", metavar="DIR", help="The directory that 'files' and 'cp' must not leave.", rich_help_panel=_SESSION
    ),
]
Env = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        "-e",
        metavar="K=V",
        help="A variable for the agent; K alone takes its value from here. Repeatable.",
        rich_help_panel=_SESSION,
    ),
]
EnvFile = Annotated[
    list[Path] | None,
    typer.Option(
        "--env-file", metavar="FILE", help="Variables, a K=V a line; read at each start.", rich_help_panel=_SESSION
    ),
]
McpServer = Annotated[
    list[str] | None,
    typer.Option(
        "--mcp-server",
        metavar="NAME=…",
        help="'name=command args', 'name=https://…' or JSON. Repeatable.",
        rich_help_panel=_SESSION,
    ),
]
Clone = Annotated[
    list[str] | None,
    typer.Option(
        "--clone",
        metavar="URL[#BRANCH][=PATH]",
        help="A git repository to clone before the agent starts. Repeatable.",
        rich_help_panel=_SESSION,
    ),
]
CloneTokenEnv = Annotated[
    str | None,
    typer.Option(
        "--clone-token-env",
        metavar="NAME",
        help="The variable that holds a token for --clone.",
        rich_help_panel=_SESSION,
    ),
]
Volume = Annotated[
    str | None,
    typer.Option("--volume", metavar="NAME", help="The volume for its data.", rich_help_panel=_SESSION),
]
Workspace = Annotated[
    str | None,
    typer.Option("--workspace", metavar="NAME", help="A HOME shared with other sessions.", rich_help_panel=_SESSION),
]
BoundSandbox = Annotated[
    str | None,
    typer.Option(
        "--sandbox",
        metavar="NAME",
        help="Live in this sandbox, with others; see 'sandboxes create'.",
        rich_help_panel=_SESSION,
    ),
]
SpecFile = Annotated[
    Path | None,
    typer.Option(
        "--spec",
        metavar="FILE",
        help="Read options from a YAML file; those given here go before or are added.",
        rich_help_panel=_SESSION,
    ),
]
PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="Options from [presets.NAME] of your configuration; those of --spec and here go before or are added.",
        rich_help_panel=_SESSION,
    ),
]
PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Print the options as a spec, and do nothing.", rich_help_panel=_SESSION)
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", "-l", metavar="K=V", help="A label. Repeatable.", rich_help_panel=_SESSION),
]
Origin = Annotated[
    str | None,
    typer.Option("--origin", metavar="NAME", help="Which environment owns it.", rich_help_panel=_SESSION),
]
Policy = Annotated[
    Path | None,
    typer.Option("--policy", metavar="FILE", help="Rules: allow, deny, escalate by tool.", rich_help_panel=_SESSION),
]
NoProvision = Annotated[
    bool, typer.Option("--no-provision", help="Do not start the sandbox yet.", rich_help_panel=_SESSION)
]
Permissions = Annotated[
    str | None,
    typer.Option(
        "--permissions",
        "-p",
        metavar="MODE",
        parser=_permissions,
        help="What the agent may do: ask, accept-edits, allow or deny.",
        rich_help_panel=_TURN,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="TIME",
        parser=values.duration,
        help="End a turn after this long, waiting in line included: 90, 30s, 10m, 1h.",
        rich_help_panel=_TURN,
    ),
]
OnLost = Annotated[
    str | None,
    typer.Option(
        "--on-lost",
        metavar="ACTION",
        parser=_on_lost,
        help="When the agent forgot the conversation: fail, new or replay.",
        rich_help_panel=_TURN,
    ),
]
OnInterrupt = Annotated[
    str | None,
    typer.Option(
        "--on-interrupt",
        metavar="ACTION",
        parser=_on_interrupt,
        help="When the sandbox died in mid-turn: fail, continue (tell the agent) or retry (send it again).",
        rich_help_panel=_TURN,
    ),
]
StallTimeout = Annotated[
    float | None,
    typer.Option(
        "--stall-timeout",
        metavar="TIME",
        parser=values.duration_or_never,
        help="End a turn in which the agent says nothing for so long; 0 is never (default: 30m).",
        rich_help_panel=_TURN,
    ),
]
StartTimeout = Annotated[
    float | None,
    typer.Option(
        "--start-timeout",
        metavar="TIME",
        parser=values.duration,
        help="How long its agent may take to start (default: the agent's own).",
        rich_help_panel=_SESSION,
    ),
]
IdleTimeout = Annotated[
    float | None,
    typer.Option(
        "--idle-timeout",
        metavar="TIME",
        parser=values.duration_or_never,
        help="Stop its sandbox when nothing happens for so long; 0 is never (default: 3m).",
        rich_help_panel=_SESSION,
    ),
]
Queue = Annotated[bool, typer.Option("--queue", help="Wait in line while another turn runs.", rich_help_panel=_TURN)]
Interrupt = Annotated[
    bool, typer.Option("--interrupt", help="Cancel the turn that runs, then send.", rich_help_panel=_TURN)
]
RequestHook = Annotated[
    str | None,
    typer.Option(
        "--request-hook",
        metavar="COMMAND",
        envvar="AGENTCTL_REQUEST_HOOK",
        show_envvar=False,
        help="Answers requests: reads one as JSON, prints once, always, reject, an option's id or JSON.",
        rich_help_panel=_TURN,
    ),
]
Message = Annotated[
    str | None, typer.Option("--message", "-m", metavar="TEXT", help="The message.", rich_help_panel=_TURN)
]
MessageFile = Annotated[
    str | None,
    typer.Option(
        "--file", "-f", metavar="FILE", help="Read the message from a file; - is stdin.", rich_help_panel=_TURN
    ),
]
_EDITOR_HELP = "Write the message in $VISUAL or $EDITOR."
Editor = Annotated[bool, typer.Option("--editor", help=_EDITOR_HELP, rich_help_panel=_TURN)]
EditorShort = Annotated[bool, typer.Option("--editor", "-e", help=_EDITOR_HELP, rich_help_panel=_TURN)]
Attach = Annotated[
    list[Path] | None,
    typer.Option("--attach", metavar="FILE", help="Send an image or file along. Repeatable.", rich_help_panel=_TURN),
]
TurnId = Annotated[
    str | None,
    typer.Option("--turn-id", metavar="ID", help="Your id: the same one is never sent twice.", rich_help_panel=_TURN),
]
AcceptDenials = Annotated[
    bool,
    typer.Option("--accept-denials", help="A denied request is no failure of the turn.", rich_help_panel=_TURN),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=_OUTPUT)]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only ids, or the final text.", rich_help_panel=_OUTPUT)
]
Color = Annotated[
    str,
    typer.Option(
        "--color", metavar="WHEN", parser=_color, help="Colours: auto, always or never.", rich_help_panel=_OUTPUT
    ),
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an unexpected error.", rich_help_panel=_OUTPUT)
]
NoInput = Annotated[
    bool,
    typer.Option(
        "--no-input",
        callback=NO_INPUT.forbid,
        help="Never ask: what would be asked is an error, or waits as where nobody is.",
        rich_help_panel=_OUTPUT,
    ),
]
NoProgress = Annotated[
    bool,
    typer.Option(
        "--no-progress",
        callback=NO_PROGRESS.forbid,
        help="Do not show how installs, pulls, builds and copies go on.",
        rich_help_panel=_OUTPUT,
    ),
]
NoPager = Annotated[
    bool,
    typer.Option(
        "--no-pager",
        callback=pager.forbid,
        help="Print all of it, however long it is.",
        rich_help_panel=_OUTPUT,
    ),
]


@options
class OutputOptions:
    """What every command takes."""

    json: Json = False
    quiet: Quiet = False
    color: Color = "auto"
    debug: Debug = False
    no_input: NoInput = False
    no_progress: NoProgress = False

    @property
    def output(self) -> Output:
        return Output(json=self.json, quiet=self.quiet, color=cast("ColorChoice", self.color))


@options
class SpecOptions:
    """What a new session is made of; ``spec.py`` reads it."""

    agent: Agent = None
    agent_command: AgentCommand = None
    provider: Provider = None
    model: Model = None
    mode: Mode = None
    thought_level: ThoughtLevel = None
    cwd: Cwd = None
    root: Root = None
    env: Env = None
    env_file: EnvFile = None
    mcp_server: McpServer = None
    policy: Policy = None
    clone: Clone = None
    clone_token_env: CloneTokenEnv = None
    volume: Volume = None
    workspace: Workspace = None
    sandbox: BoundSandbox = None
    label: Labels = None
    origin: Origin = None
    start_timeout: StartTimeout = None
    idle_timeout: IdleTimeout = None


@options
class TurnOptions:
    """What holds for one turn; given at create, for every turn of the session."""

    permissions: Permissions = None
    timeout: Timeout = None
    stall_timeout: StallTimeout = None
    on_lost: OnLost = None
    on_interrupt: OnInterrupt = None


@options
class MessageOptions:
    """Where a message comes from, and what goes with it; ``message.py`` reads it."""

    message: Message = None
    file: MessageFile = None
    attach: Attach = None
    turn_id: TurnId = None
    accept_denials: AcceptDenials = False
    queue: Queue = False
    interrupt: Interrupt = False
    request_hook: RequestHook = None
