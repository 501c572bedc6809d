"""What a user can ask about agents: which there are, what each is like, install, uninstall, which one by default."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agentctl import credentials
from agentctl.agents import recipes
from agentctl.agents.installed import Installed, installed
from agentctl.agents.schema import AgentRecipe
from agentctl.errors import CredentialsMissing
from agentctl.model import Permissions, SessionSpec, UserAgent
from agentctl.ops import user_agents

if TYPE_CHECKING:
    from agentctl.ops.app import App

Json = dict[str, Any]
DEFAULT_CANDIDATES = ("claude", "codex", "opencode")


def list_agents(app: App) -> list[Json]:
    """One row per built-in agent, then those that the user made (with ``"from"``): ``{"name", "title", "builtin",
    "installed": version|null, "wanted", "status", "can_ask": true|false|null, "credentials", "description", "note"}``;
    ``can_ask`` null means that nobody measured it.

    ``status``: ``built in``, ``installed``, ``outdated`` (another version than this agentctl wants), ``on PATH``,
    ``not installed``. ``credentials``: where they come from, ``missing``, ``not needed`` or ``its own login``.
    """
    return [*list_built_in(app), *(_made_row(app, agent) for agent in app.store.user_agents())]


def list_built_in(app: App) -> list[Json]:
    """Those of the rows that need no store."""
    return [_row(app, recipe) for recipe in recipes.load_all()]


def _made_row(app: App, agent: UserAgent) -> Json:
    """A user's agent: installed, able and known as the one that it was made from."""
    base = recipes.load(agent.base)
    row = _row(app, base)
    title = f"{base.title} as {agent.name}"
    return {**row, "name": agent.name, "title": title, "builtin": False, "from": agent.base, "description": ""}


def _row(app: App, recipe: AgentRecipe) -> Json:
    have = installed(app.paths, recipe.name, recipe.version) or installed(app.paths, recipe.name)
    return {
        "name": recipe.name,
        "title": recipe.title,
        "builtin": True,
        "installed": have.version if have else None,
        "wanted": recipe.version,
        "status": _status(app, recipe, have),
        "can_ask": {"yes": True, "no": False, "unverified": None}[recipe.asks],
        "credentials": _credentials_word(app, recipe),
        "description": recipe.description,
        "note": recipe.install.help if recipe.install.kind == "manual" else "",
    }


def _status(app: App, recipe: AgentRecipe, have: Installed | None) -> str:
    if recipe.install.kind == "builtin":
        return "built in"
    if recipe.install.kind == "manual":
        return (
            "on PATH" if shutil.which(recipe.install.command or "", path=app.environ.get("PATH")) else "not installed"
        )
    if have is None:
        return "not installed"
    return "installed" if have.version == recipe.version else "outdated"


def _credentials_word(app: App, recipe: AgentRecipe) -> str:
    found = credentials.for_agent(recipe, app.environ, app.user_home)
    if found.found:
        return found.source
    if recipe.credentials.required:
        return "missing"
    return "its own login" if recipe.install.kind != "builtin" else "not needed"


def get_agent(app: App, name: str) -> Json:
    """All that the recipe says, and how things stand on this machine; of a user's agent what it sets. Raise
    ``AgentNotFound``."""
    made = user_agents.find(app, name)
    if made is not None:
        return {**_made_row(app, made), **user_agents.to_json(made)}
    recipe = recipes.find(name)
    facts = asdict(recipe)
    have = installed(app.paths, recipe.name, recipe.version) or installed(app.paths, recipe.name)
    return {
        **_row(app, recipe),
        "aliases": list(recipe.aliases),
        "license": recipe.license,
        "homepage": recipe.homepage,
        "permissions": facts["permissions"],
        "permission_options": recipe.permission_options,
        "shell_output": recipe.shell_output,
        "writes_outside_home": list(recipe.writes_outside_home),
        "quirks": list(recipe.quirks),
        "install": facts["install"],
        "launch": facts["launch"],
        "acp": facts["acp"],
        "credential_status": credentials.status(recipe, app.environ, app.user_home),
        "credential_note": recipe.credentials.note,
        "installation": have.to_json() if have else None,
    }


def agent_names() -> tuple[str, ...]:
    """The names that ``--agent`` takes, for completion. Reads no file."""
    return recipes.names()


async def install_agent(
    app: App,
    name: str,
    *,
    reinstall: bool = False,
    own_node: bool = False,
    registry: str | None = None,
    progress: Callable[[str, int | None, int | None], None] | None = None,
) -> Json:
    """Install an agent's pinned version: ``{"name", "version", "path", "changed", "size_bytes", "packages", "node"}``.

    ``registry`` None takes the configured one, else npm's own. ``changed`` is false where it was installed already.
    Raise as ``agents.install.install``.
    """
    from agentctl.agents.install import install

    recipe = recipes.find(name)
    before = installed(app.paths, recipe.name, recipe.version)
    registry = registry or app.config.registry
    extra = {"progress": progress} if progress else {}
    done = await install(app.paths, recipe.name, reinstall=reinstall, own_node=own_node, registry=registry, **extra)
    facts = done.to_json()
    wanted = ("name", "version", "path", "size_bytes", "packages", "node", "node_version")
    return {**{key: facts[key] for key in wanted}, "changed": done != before}


async def uninstall_agent(app: App, name: str) -> Json:
    """Remove every installed version: ``{"name", "removed": [versions]}``; none there is fine."""
    from agentctl.agents.install import uninstall

    recipe = recipes.find(name)
    return {"name": recipe.name, "removed": await uninstall(app.paths, recipe.name)}


async def probe(app: App, name: str) -> Json:
    """Start the agent in a session of its own, ask what it can do, and leave nothing behind.

    ``{"name", "agent_info", "load", "resume", "list", "fork", "image", "audio", "embedded_context", "mcp_http",
    "mcp_sse", "modes": [ids], "current_mode", "options": {id: [values]}, "seconds"}``; ``seconds`` from nothing to a
    session. Raise what starting a session raises.
    """
    import tempfile
    import time

    from agentctl.ops import session_end, sessions

    made = user_agents.find(app, name)
    recipe = recipes.find(made.base if made else name)
    permissions: Permissions = "deny" if "deny" in recipe.permissions else "allow"
    with tempfile.TemporaryDirectory(prefix="agentctl-probe-") as cwd:
        started = time.monotonic()
        spec = SessionSpec(agent=made.name if made else recipe.name, permissions=permissions, cwd=cwd)
        session = await sessions.create(app, spec, ephemeral=True)
        seconds = round(time.monotonic() - started, 3)
        try:
            snapshot = (await sessions.details(app, session.id))["live"] or {}
        finally:
            await session_end.delete(app, session.id)
    return {"name": made.name if made else recipe.name, **_capability_table(snapshot), "seconds": seconds}


def _capability_table(snapshot: Json) -> Json:
    able = snapshot.get("capabilities") or {}
    session, prompt, mcp = (
        able.get(key) or {} for key in ("sessionCapabilities", "promptCapabilities", "mcpCapabilities")
    )
    modes = snapshot.get("modes") or {}
    return {
        "agent_info": snapshot.get("agentInfo"),
        "load": bool(able.get("loadSession")),
        **{key: session.get(key) is not None for key in ("resume", "list", "fork")},
        "image": bool(prompt.get("image")),
        "audio": bool(prompt.get("audio")),
        "embedded_context": bool(prompt.get("embeddedContext")),
        "mcp_http": bool(mcp.get("http")),
        "mcp_sse": bool(mcp.get("sse")),
        "modes": [mode["id"] for mode in modes.get("availableModes", [])],
        "current_mode": modes.get("currentModeId") or snapshot.get("agentMode"),
        "options": {option["id"]: _option_values(option) for option in snapshot.get("configOptions") or []},
    }


def _option_values(option: Json) -> list[str]:
    """The values of an ACP config option; some agents put them into groups."""
    return [str(value["value"]) for entry in option.get("options") or [] for value in entry.get("options", [entry])]


def default_agent(app: App) -> tuple[str, str]:
    """The agent to take where the user named none, and why in words for stderr.

    The configured one, else the first of claude, codex and opencode that is installed and has credentials. Raise
    ``CredentialsMissing`` with the choices.
    """
    configured = app.config.agent
    if configured:
        return configured, f"configured ({app.config.origin_of('agent')})"
    for name in DEFAULT_CANDIDATES:
        recipe = recipes.load(name)
        if installed(app.paths, name, recipe.version):
            found = credentials.for_agent(recipe, app.environ, app.user_home)
            if found.found:
                return name, f"installed, and it has credentials ({found.source})"
    raise CredentialsMissing(
        "No agent was named, and none of claude, codex and opencode is installed and has credentials.",
        hint=_choices(app),
        details={"candidates": {name: _why_not(app, name) for name in DEFAULT_CANDIDATES}, "add": ["--agent", "mock"]},
    )


def _choices(app: App) -> str:
    candidates = "; ".join(f"{name}: {_why_not(app, name)}" for name in DEFAULT_CANDIDATES)
    return f"Try `--agent mock` (needs no key), or name another with --agent. {candidates}."


def _why_not(app: App, name: str) -> str:
    recipe = recipes.load(name)
    steps = []
    if not installed(app.paths, name, recipe.version):
        steps.append(f"`agentctl agents install {name}`")
    if not credentials.for_agent(recipe, app.environ, app.user_home).found:
        steps.append(f"set {' or '.join(recipe.credentials.variables[:3])}")
    return " and ".join(steps)
