"""Launch recipes: one TOML file per agent, looked up by name, turned into the ``wire.Recipe`` a supervisor runs.

What a file may say is in ``schema.py``; what was measured of each agent is in the files themselves.
"""

from __future__ import annotations

import functools
import re
import shutil
from pathlib import Path

from agentctl.agents import platform
from agentctl.agents.installed import Installed
from agentctl.agents.schema import AgentRecipe, parse
from agentctl.errors import AgentNotFound, AgentNotInstalled, Unsupported
from agentctl.model import PERMISSIONS, Permissions
from agentctl.wire import PermissionSetup, Recipe

_FOLDER = Path(__file__).parent


@functools.cache
def names() -> tuple[str, ...]:
    """The names of all built-in agents, sorted. Reads no file."""
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.toml")))


@functools.cache
def load(name: str) -> AgentRecipe:
    """The recipe in ``<name>.toml``. Raise ``KeyError`` for an unknown name, ``RecipeError`` for a broken file."""
    import tomllib

    if name not in names():
        raise KeyError(name)
    return parse(name, tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8")))


def load_all() -> list[AgentRecipe]:
    return [load(name) for name in names()]


def find(name: str) -> AgentRecipe:
    """The recipe called ``name``, by its name or one of its aliases. Raise ``AgentNotFound`` with the nearest names."""
    if name in names():
        return load(name)
    for recipe in load_all():
        if name in recipe.aliases:
            return recipe
    raise _not_found(name)


def _not_found(name: str) -> AgentNotFound:
    import difflib

    known = sorted({*names(), *(alias for recipe in load_all() for alias in recipe.aliases)})
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    meant = f"Did you mean {' or '.join(near)}? " if near else ""
    return AgentNotFound(
        f"There is no agent called {name!r}.",
        hint=f"{meant}See `agentctl agents list`, or run any ACP program with --agent-command.",
        details={"name": name, "nearest": near},
    )


def to_wire(
    recipe: AgentRecipe,
    *,
    installed: Installed | None,
    runtime: Path,
    python: str,
    permissions: Permissions,
    is_local: bool = True,
    target: str | None = None,
) -> Recipe:
    """The recipe as data for a supervisor, every placeholder resolved.

    ``runtime`` is the supervisor's unpacked bundle and ``python`` its interpreter, as they are called where the agent
    will run; ``is_local``: among this machine's programs; ``target``: on which platform, else this machine's. Raise
    ``AgentNotInstalled``, or ``Unsupported`` where ``permissions`` cannot be enforced.
    """
    check_permissions(recipe, permissions)
    values = {"python": python, "runtime": str(runtime), "platform": target or platform.npm_platform()}
    values |= _install_values(recipe, installed, is_local)
    launch, acp = recipe.launch, recipe.acp
    return Recipe(
        name=recipe.name,
        argv=tuple(_fill(part, values) for part in launch.argv),
        env=dict(launch.env),
        path=tuple(_fill(part, values) for part in launch.path),
        files=dict(launch.files),
        client_meta=acp.client_meta,
        session_meta=acp.session_meta,
        auth_method=acp.auth_method,
        permissions=recipe.permissions,
        on_reject=acp.on_reject,
        failure_signs=acp.failure_signs,
        notice_patterns=acp.notice_patterns,
        replay_skip=acp.replay_skip,
        model_env=launch.model_env,
        skills=launch.skills,
        load_min_age_s=acp.load_min_age_s,
        replay_after_response=acp.replay_after_response,
        start_timeout_s=launch.start_timeout_s,
        stop_grace_s=launch.stop_grace_s,
        credentials=recipe.credentials.variables,
    )


def check_permissions(recipe: AgentRecipe, permissions: Permissions) -> None:
    """Raise ``Unsupported`` (exit 2) if this agent cannot be held to ``permissions``."""
    if permissions not in recipe.permissions:
        raise Unsupported(
            f"{recipe.title} cannot ask before it acts, so --permissions {permissions} cannot be enforced.",
            hint="Use --permissions allow (everything it wants is done), or another agent: `agentctl agents list`.",
            details={"agent": recipe.name, "permissions": permissions, "enforceable": sorted(recipe.permissions)},
        )


def command_recipe(argv: tuple[str, ...]) -> Recipe:
    """The recipe of ``--agent-command``: any ACP program. ``permissions`` are kept only by answering its requests."""
    return Recipe(name=Path(argv[0]).name, argv=argv, permissions={value: PermissionSetup() for value in PERMISSIONS})


def _fill(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], text)


def _install_values(recipe: AgentRecipe, installed: Installed | None, is_local: bool) -> dict[str, str]:
    if recipe.install.kind == "manual":
        return {"command": manual_command(recipe) if is_local else recipe.install.command or recipe.name}
    if recipe.install.kind == "builtin":
        return {}
    if installed is None or installed.version != recipe.version:
        raise _not_installed(recipe, installed)
    if is_local and installed.node is not None and not installed.node.exists():
        raise AgentNotInstalled(
            f"{recipe.title} was installed with the Node at {installed.node}, which is gone.",
            hint=f"Run `agentctl agents install {recipe.name} --reinstall`.",
            details={"agent": recipe.name, "first": f"agentctl agents install {recipe.name} --reinstall"},
        )
    node = installed.node or Path("node")
    return {"modules": str(installed.modules), "node": str(node), "node_dir": str(node.parent)}


def _not_installed(recipe: AgentRecipe, installed: Installed | None) -> AgentNotInstalled:
    other = f" ({installed.version} is)" if installed else ""
    return AgentNotInstalled(
        f"{recipe.title} {recipe.version} is not installed{other}.",
        hint=f"Run `agentctl agents install {recipe.name}`.",
        details={
            "agent": recipe.name,
            "wanted": recipe.version,
            "installed": installed.version if installed else None,
            "first": f"agentctl agents install {recipe.name}",
        },
    )


def manual_command(recipe: AgentRecipe, path: str | None = None) -> str:
    """Where a manual agent's program lies on ``path`` (default: PATH). Raise ``AgentNotInstalled`` with its help."""
    command = recipe.install.command or recipe.name
    found = shutil.which(command, path=path)
    if found is None:
        raise AgentNotInstalled(
            f"{recipe.title} needs the program {command!r} on PATH, and it is not there.",
            hint=recipe.install.help,
            details={"agent": recipe.name, "command": command},
        )
    return found
