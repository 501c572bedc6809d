"""Mode, model, thought level and options of a session: applied at start, changed while it runs, read back always."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentctl import errors
from agentctl.acp.client import AgentClient
from agentctl.wire import PermissionSetup, Recipe

if TYPE_CHECKING:
    from agentctl.supervisor.session import Session

Json = dict[str, Any]


def permission_setup(recipe: Recipe, permissions: str) -> PermissionSetup:
    """How this agent is made to obey. Raise ``UsageError`` when it cannot be."""
    setup = recipe.permissions.get(permissions)
    if setup is None:
        able = ", ".join(sorted(recipe.permissions)) or "nothing"
        raise errors.UsageError(
            f"{recipe.name} cannot be held to --permissions {permissions}: it does not ask.",
            hint=f"It can be run with --permissions {able}.",
        )
    return setup


def check_mode(recipe: Recipe, permissions: str, mode: str) -> None:
    """Raise ``UsageError`` when the agent, in a mode that the user chose, could not be held to ``permissions``."""
    setup = permission_setup(recipe, permissions)
    if permissions == "allow" or setup.mode is None:
        return
    obedient = (setup.mode, *setup.also)
    if mode.lower() not in (m.lower() for m in obedient):
        raise errors.UsageError(
            f"{recipe.name} in mode {mode} cannot be held to --permissions {permissions}.",
            hint=f"Use one of the modes {', '.join(obedient)}, or --permissions allow.",
        )


_STRICTNESS = ("allow", "accept-edits", "ask", "deny")


def check_turn(session: Session, permissions: str) -> None:
    """Raise ``UsageError`` or ``Unsupported`` when one turn cannot be held to ``permissions``.

    A looser value than the session's needs nothing of the agent: it asks as before, and is answered otherwise. For a
    stricter one the agent has to be made to ask, which some can only be at their start.
    """
    setup = permission_setup(session.recipe, permissions)
    if session.request.mode is not None:
        check_mode(session.recipe, permissions, session.request.mode)
    session_s = permission_setup(session.recipe, session.request.permissions)
    if _is_stricter(permissions, session.request.permissions) and not _differ_by_mode_only(setup, session_s):
        raise errors.Unsupported(
            f"{session.recipe.name} can be held to --permissions {permissions} only from its start; "
            f"this session was created with {session.request.permissions}.",
            hint=f"Create another session with --permissions {permissions}.",
        )


async def hold_to(session: Session, client: AgentClient, permissions: str | None) -> None:
    """Put the agent into the mode that this turn's ``permissions`` want, or back into the session's own after a turn
    that wanted another. Between turns the stricter mode stays: going back must not race with the next prompt. A mode
    that the user chose stays as at the start."""
    wanted = None
    own = session.request
    if own.mode is None and permissions is not None and _is_stricter(permissions, own.permissions):
        wanted = permission_setup(session.recipe, permissions).mode
    if wanted is None:
        if session.mode_before is not None:
            await client.set_mode(session.mode_before)
            session.mode_before = None
            session.write(session.translator.config_changed())
        return
    if client.config.mode != wanted:
        before = session.mode_before or client.config.mode
        await client.set_mode(wanted)
        session.mode_before = before
        session.write(session.translator.config_changed())


def _is_stricter(permissions: str, than: str) -> bool:
    return _STRICTNESS.index(permissions) > _STRICTNESS.index(than)


def _differ_by_mode_only(one: PermissionSetup, other: PermissionSetup) -> bool:
    """Whether an agent set up as one can become the other by a change of its mode."""
    return (one.env, one.config_env) == (other.env, other.config_env) and (one.mode is None) == (other.mode is None)


async def apply(session: Session, client: AgentClient, setup: PermissionSetup) -> None:
    """Set up a fresh agent as the session wants it. The safe mode is set explicitly: agents' defaults differ."""
    request = session.request
    session.mode_before = None
    if request.mode is not None:
        check_mode(session.recipe, request.permissions, request.mode)
    if (mode := request.mode or setup.mode) is not None and mode != client.config.mode:
        await client.set_mode(mode)
    if request.model is not None and not session.recipe.model_env:
        await client.set_model(request.model)
    if request.thought_level is not None:
        await client.set_thought_level(request.thought_level)
    for option_id, value in request.options.items():
        await client.set_config_option(option_id, value)
    session.write(session.translator.config_changed())


async def change(session: Session, client: AgentClient, changes: Json) -> None:
    """Apply the changes of ``POST …/config``, one after the other, and keep each that took effect."""
    request = session.request
    unknown = set(changes) - {"mode", "model", "thoughtLevel", "option", "permissions"}
    if unknown:
        raise errors.UsageError(f"Unknown settings: {', '.join(sorted(unknown))}")
    if changes.get("permissions"):
        await _change_permissions(session, client, str(changes["permissions"]))
    if changes.get("mode"):
        check_mode(session.recipe, request.permissions, str(changes["mode"]))
        request.mode = await client.set_mode(str(changes["mode"]))
        session.mode_before = None
    if changes.get("model"):
        request.model = await client.set_model(str(changes["model"]))
    if changes.get("thoughtLevel"):
        request.thought_level = await client.set_thought_level(str(changes["thoughtLevel"]))
    if changes.get("option"):
        option = changes["option"]
        request.options[option["id"]] = await client.set_config_option(option["id"], option["value"])
    session.write(session.translator.config_changed())


async def _change_permissions(session: Session, client: AgentClient, permissions: str) -> None:
    setup = permission_setup(session.recipe, permissions)
    before = permission_setup(session.recipe, session.request.permissions)
    if not _differ_by_mode_only(setup, before):
        raise errors.Unsupported(
            f"{session.recipe.name} takes --permissions {permissions} only at its start.",
            hint=f"Create another session with --permissions {permissions}.",
        )
    if session.request.mode is not None:
        check_mode(session.recipe, permissions, session.request.mode)
    elif setup.mode is not None:
        await client.set_mode(setup.mode)
        session.mode_before = None
    session.request.permissions = permissions
