"""What a session's agent is started by: its recipe, its credentials, its environment, and the request that opens it."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agentctl.errors import AgentNotInstalled, CredentialsError, UsageError
from agentctl.model import Session, SessionSpec
from agentctl.ops import mirror
from agentctl.wire import Recipe

if TYPE_CHECKING:
    from agentctl.agents.installed import Installed
    from agentctl.agents.schema import AgentRecipe
    from agentctl.ops.app import App
    from agentctl.ops.mcp import Filled

Json = dict[str, Any]


class Launch(NamedTuple):
    """What a supervisor needs beside the request itself: ``secrets`` are values to redact."""

    recipe: Recipe
    env: dict[str, str]
    secrets: tuple[str, ...]

    def to_json(self, fencing: int) -> Json:
        """The ``launch`` of a SessionRequest (``wire.py``)."""
        return {
            "recipe": self.recipe.to_json(),
            "agentEnv": self.env,
            "secrets": list(self.secrets),
            "fencing": fencing,
        }


def prepare(app: App, session: Session) -> Launch:
    """Look everything up, credentials too, as they are now. Raise as ``launch_of``."""
    from dataclasses import replace

    spec = session.spec
    recipe, credentials = launch_of(app, spec, session)
    recipe = replace(recipe, fresh_files=credentials.files)
    return Launch(recipe, credentials.env, (*credentials.secrets, *hidden_values(app, spec, session)))


def launch_of(app: App, spec: SessionSpec, session: Session | None = None) -> tuple[Recipe, Any]:
    """The recipe to start this session's agent by, and the credentials it gets. Raise ``AgentNotFound``,
    ``AgentNotInstalled``, ``Unsupported`` or ``CredentialsMissing``."""
    from agentctl import credentials
    from agentctl.agents import installed, recipes
    from agentctl.providers.bootstrap import ensure_runtime

    if spec.agent_command:
        return recipes.command_recipe(spec.agent_command), credentials.NONE
    recipe = recipes.find(spec.agent)
    there = installed.installed(app.paths, recipe.name, recipe.version) or installed.installed(app.paths, recipe.name)
    layout = app.provider(spec.provider).capabilities.layout
    if layout is None:
        runtime, python = ensure_runtime(app.paths, sys.executable), sys.executable
    else:
        runtime, python = Path(layout.runtime), layout.python
        there = _with_our_node(app, recipe, there)
    wired = recipes.to_wire(
        recipe,
        installed=there,
        runtime=runtime,
        python=python,
        permissions=spec.permissions,
        is_local=layout is None,
    )
    given = credentials.require(recipe, app.environ, app.user_home, given_environment(app, spec, session))
    return wired, given


def _with_our_node(app: App, recipe: AgentRecipe, there: Installed | None) -> Installed | None:
    """A sandbox with files of its own has the agents' directory, and no Node of this machine's."""
    if there is None or there.node is None or there.node.is_relative_to(app.paths.agents):
        return there
    from dataclasses import replace

    from agentctl.agents.node import own_node

    own = own_node(app.paths)
    if not own.path.exists():
        raise AgentNotInstalled(
            f"{recipe.title} was installed with this machine's Node, which a container does not have.",
            hint=f"Install it with its own: agentctl agents install {recipe.name} --own-node --reinstall",
        )
    return replace(there, node=own.path)


def given_environment(app: App, spec: SessionSpec, session: Session | None = None) -> dict[str, str]:
    """What the user gives to the session's processes: ``--env-file`` contents and ``--secret`` values, both read now,
    under ``--env``. Raise ``UsageError`` or ``CredentialsMissing`` for one that is not there."""
    values: dict[str, str] = {}
    if spec.env_files:
        from agentctl.ops.envfile import read

        for path in spec.env_files:
            values.update(read(Path(path)))
    if spec.secrets:
        from agentctl.ops.secrets import resolve

        values.update(resolve(app, spec.secrets, session))
    return {**values, **spec.env}


def hidden_values(app: App, spec: SessionSpec, session: Session) -> list[str]:
    """What is to be redacted of ``given_environment``: all but ``--env``, and what went into MCP servers."""
    environment = given_environment(app, spec, session)
    hidden = [value for name, value in environment.items() if name not in spec.env]
    return [*hidden, *(_mcp_servers(app, spec, environment).secrets if spec.mcp_servers else ())]


def known_environment(app: App, spec: SessionSpec, session: Session) -> dict[str, str]:
    """What of ``given_environment`` is there now: for what the user does in the sandbox without the agent."""
    found: dict[str, str] = {}
    for part in _parts(spec):
        with suppress(CredentialsError, UsageError):
            found.update(given_environment(app, part, session))
    return {**found, **spec.env}


def known_values(app: App, spec: SessionSpec, session: Session) -> tuple[str, ...]:
    """What of ``hidden_values`` is there now: a value that is missing cannot leak either."""
    found: list[str] = []
    for part in _parts(spec):
        with suppress(CredentialsError, UsageError):
            found += hidden_values(app, part, session)
    return tuple(found)


def _parts(spec: SessionSpec) -> list[SessionSpec]:
    """The spec with one env file, secret or MCP server at a time."""
    if not (spec.env_files or spec.secrets or spec.mcp_servers):
        return []
    from dataclasses import replace

    none = replace(spec, env_files=(), secrets=(), mcp_servers=())
    parts = [replace(none, env_files=(file,)) for file in spec.env_files]
    parts += [replace(none, secrets=(secret,)) for secret in spec.secrets]
    return [*parts, *(replace(none, mcp_servers=(server,)) for server in spec.mcp_servers)]


def _mcp_servers(app: App, spec: SessionSpec, environment: dict[str, str]) -> Filled:
    from agentctl.ops.mcp import filled

    return filled(spec.mcp_servers, {**app.environ, **environment})


def session_request(app: App, session: Session, recipe: Recipe, on_lost: str | None) -> Json:
    """Credentials do not go this way: the recipe's variables reach the agent through Boot, exactly one kind of them.

    Raise ``UsageError`` when the session's directory is gone: agents keep a conversation by its directory.
    """
    spec = session.spec
    _check_place(app, session)
    interrupted = mirror.open_turn_of(app, session.id)
    environment = given_environment(app, spec, session)
    body = {
        "agent": spec.agent,
        "cwd": spec.cwd,
        "env": {k: v for k, v in environment.items() if k not in recipe.credentials},
        "mcpServers": _mcp_servers(app, spec, environment).servers if spec.mcp_servers else [],
        "model": spec.model,
        "agentMode": spec.mode,
        "thoughtLevel": spec.thought_level,
        "options": spec.options,
        "permissionMode": spec.permissions,
        "policy": spec.policy,
        "nativeSessionId": session.native_session_id,
        "createdAt": session.created_at,
        "onLost": on_lost or spec.on_lost,
        "minSequence": session.last_sequence,
        "interruptedTurnId": interrupted.id if interrupted else None,
        "stallTimeoutS": spec.stall_timeout_s,
        "startTimeoutS": spec.start_timeout_s,
        "queued": mirror.queued_messages(app, session.id) or None,
        "files": _files(app, spec) or None,
        "preStart": list(spec.pre_start) or None,
        "logName": session.id if spec.sandbox else None,
    }
    return {key: value for key, value in body.items() if value is not None}


def _files(app: App, spec: SessionSpec) -> list[Json]:
    if not (spec.files or spec.skills or spec.system_prompt):
        return []
    from agentctl.ops.home_files import collect

    return collect(app.paths, spec)


def _check_place(app: App, session: Session) -> None:
    cwd, provider = session.spec.cwd, app.provider(session.spec.provider)
    if cwd and provider.capabilities.layout is None and not Path(cwd).is_dir():
        raise UsageError(
            f"The directory of session {session.name}, {cwd}, is gone.",
            hint="Put it back: an agent finds a conversation only in the directory in which it was begun.",
        )
