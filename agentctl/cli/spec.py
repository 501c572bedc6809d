"""From options to what a session is made of."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from agentctl.cli import values
from agentctl.cli.compute_options import ComputeOptions, compute_of
from agentctl.cli.project_options import ProjectOptions, project_fields
from agentctl.cli.setup_options import SetupOptions, spec_fields
from agentctl.errors import Conflict, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentctl.cli.options import SpecOptions, TurnOptions
    from agentctl.cli.output import Output
    from agentctl.model import OnInterrupt, OnLost, Permissions, Session, SessionSpec
    from agentctl.ops.app import App


def session_spec(
    app: App,
    given: SpecOptions,
    setup: SetupOptions,
    machine: ComputeOptions,
    turn: TurnOptions,
    out: Output,
    files: Sequence[str] = (),
    project: ProjectOptions | None = None,
) -> SessionSpec:
    """The spec of a new session: options, then configuration, then defaults. Nothing is changed by asking, but secrets
    that were given directly are with ``app`` then."""
    from agentctl.model import SessionSpec

    config = app.config
    provider = given.provider or config.provider or "unix_local"
    agent = _agent(app, given, out)
    made = _settings(app, agent, given)
    spec = SessionSpec(
        agent=agent,
        agent_command=values.command_line(given.agent_command) if given.agent_command is not None else None,
        provider=provider,
        image=machine.image,
        compute=compute_of(machine),
        volume=given.volume or "default",
        workspace=given.workspace,
        cwd=None if project and project.project and not given.cwd else cwd_of(given.cwd, provider),
        root=given.root,
        model=given.model or made.get("model") or config.model,
        mode=given.mode or made.get("mode") or config.mode,
        thought_level=given.thought_level,
        env=values.environment(given.env or ()),
        env_files=values.existing_files(given.env_file or (), "--env-file"),
        permissions=cast("Permissions", turn.permissions or config.permissions or "ask"),
        clones=_clones(given),
        policy=values.policy_file(given.policy),
        labels=values.pairs(given.label or (), "--label"),
        origin=given.origin or app.origin,
        timeout_s=turn.timeout or config.timeout,
        start_timeout_s=given.start_timeout,
        on_lost=cast("OnLost", turn.on_lost or "fail"),
        on_interrupt=cast("OnInterrupt", turn.on_interrupt or "fail"),
        **spec_fields(setup, given.mcp_server or (), files),
        **(project_fields(project) if project else {}),
        secrets=secrets_of(app, setup.secret, ephemeral=setup.secret_ephemeral),
        **_limits(stall_timeout_s=turn.stall_timeout, idle_timeout_s=given.idle_timeout),
    )
    return _bound(app, spec, given, machine) if given.sandbox else spec


def _bound(app: App, spec: SessionSpec, given: SpecOptions, machine: ComputeOptions) -> SessionSpec:
    """The spec of a session in a sandbox of its own, whose place cannot be chosen again. Raise ``UsageError``."""
    from dataclasses import replace

    from agentctl.ops.sandboxes import bound

    chosen = [name for name in ("provider", "volume", "workspace") if getattr(given, name) is not None]
    for option in [*chosen, *(name for name in ComputeOptions.__annotations__ if getattr(machine, name))]:
        raise UsageError(
            f"--{option.replace('_', '-')} cannot go with --sandbox.",
            hint="The session is where its sandbox is: leave it out.",
        )
    assert given.sandbox is not None
    return bound(app, spec if given.cwd else replace(spec, cwd=None), given.sandbox)


def _settings(app: App, agent: str, given: SpecOptions) -> dict[str, Any]:
    """Of an agent that the user made: they go before the configuration."""
    from agentctl.ops import user_agents

    found = None if given.agent_command is not None else user_agents.find(app, agent)
    return found.settings if found else {}


def secrets_of(app: App, secret: Sequence[str] | None, *, ephemeral: bool) -> tuple[dict[str, Any], ...]:
    """Where each ``--secret`` comes from; the values that were given directly are with ``app`` then."""
    if not secret:
        return ()
    from agentctl.cli.secrets import secrets_given

    given = secrets_given(secret, app.environ, ephemeral=ephemeral)
    app.given_secrets.update(given.values)
    return given.sources


def _limits(**given: float | None) -> dict[str, Any]:
    """Those that were given; a spec says None for never, where the command line says 0."""
    return {name: limit or None for name, limit in given.items() if limit is not None}


def _agent(app: App, given: SpecOptions, out: Output) -> str:
    if given.agent:
        return given.agent
    if given.agent_command is not None:
        return "custom"
    from agentctl.ops.agents import default_agent

    name, reason = default_agent(app)
    out.story(f"Using the agent {name}: {reason}", "dim")
    return name


def _clones(given: SpecOptions) -> tuple[dict[str, Any], ...]:
    if not given.clone and given.clone_token_env is None:
        return ()
    from agentctl.cli.clone_option import clones

    return clones(given.clone or (), given.clone_token_env)


def cwd_of(given: str | None, provider: str) -> str | None:
    """The directory to work in: on this machine the current one by default, elsewhere the sandbox's own."""
    if provider != "unix_local":
        return given
    return os.path.abspath(os.path.expanduser(given)) if given else os.getcwd()


def check_same(
    session: Session, given: SpecOptions, machine: ComputeOptions, project: ProjectOptions | None = None
) -> None:
    """Raise ``Conflict`` when options name another agent, provider or place than the session has."""
    spec = session.spec
    wanted = {"provider": given.provider, "workspace": given.workspace, "model": given.model, "image": machine.image}
    if given.agent and given.agent != spec.user_agent:
        wanted["agent"] = given.agent
    if given.cwd:
        wanted["cwd"] = cwd_of(given.cwd, spec.provider)
    if project is not None and project.project:
        _check_same_project(session, project)
    for name, value in wanted.items():
        has = getattr(spec, name)
        if value and value != has:
            raise Conflict(
                f"The session '{session.name}' is there already, with {name} {has or 'not set'}, not {value}.",
                hint="Leave the option out, or give another session name.",
            )


def _check_same_project(session: Session, given: ProjectOptions) -> None:
    """A worktree's project is the top of the checkout that was named."""
    has = session.spec.project or {"path": "", "mode": ""}
    wanted = os.path.realpath(os.path.expanduser(given.project or ""))
    inside = has["mode"] == "worktree" and wanted.startswith(f"{has['path']}/")
    if (wanted != has["path"] and not inside) or (given.project_mode or has["mode"]) != has["mode"]:
        project = f"the project {has['path']} ({has['mode']})" if has["path"] else "no project"
        raise Conflict(
            f"The session '{session.name}' is there already, with {project}.",
            hint="Leave --project out, or give another session name.",
        )
