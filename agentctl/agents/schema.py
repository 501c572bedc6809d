"""What an agent's TOML file may say, and a strict reading of it: unknown keys and wrong types are errors.

Top level
    ``title description version license homepage`` strings; ``version`` is what ``initialize`` answers as
    ``agentInfo.version``. ``aliases`` other names that users type. ``asks``: ``yes`` the agent was seen to ask before
    it acts, ``no`` it never asks (only ``--permissions allow`` is honest), ``unverified`` nobody has measured it.
    ``shell_output`` where the output of commands is found in its frames. ``writes_outside_home`` paths.
    ``permission_options`` the kinds it offers. ``quirks`` what a user should know.
``[install]``
    ``kind``: ``npm`` packages with exact versions in ``packages`` (``{platform}`` is ``linux-x64``, ``darwin-arm64``,
    ``linux-x64-musl``, …), ``builtin``, or ``manual``: looked up on PATH as ``command``, and ``help`` says why and
    how. ``node`` the oldest Node that will do, absent if none is needed. ``verify`` files under ``node_modules`` that
    must exist afterwards. ``size_mb`` about what it takes on disk, for the progress bar.
``[launch]``
    ``argv`` and ``path`` (directories put before PATH) with the placeholders ``{node}`` (the binary), ``{node_dir}``,
    ``{modules}`` (``node_modules``), ``{platform}``, ``{python}``, ``{runtime}`` (supervisor's bundle), ``{command}``.
    ``env``, ``files`` (path under HOME → text, written where missing), ``model_env``, ``start_timeout_s``,
    ``stop_grace_s``. Measured, relative to HOME, absent where nobody has: ``skills`` the directory in which it looks
    for ``<name>/SKILL.md``, ``instructions`` the file whose text goes into every conversation, ``known_files`` name →
    place of its other files.
``[acp]``
    ``client_meta session_meta auth_method on_reject failure_signs notice_patterns replay_skip load_min_age_s
    replay_after_response``: as in ``wire.Recipe``.
``[credentials]``
    ``family`` the module of ``credentials/`` that knows its files; ``variables`` that would do, best first;
    ``exclusive`` exactly one of them is passed; ``passes`` variables handed on when the user has them; ``switches``
    variable → variables handed on with it (a cloud's own login); ``required`` false where the agent may have a login
    of its own; ``note``.
``[permissions.ask|accept-edits|allow|deny]``
    ``mode also env config_env`` as in ``wire.PermissionSetup``, or ``same_as`` another of them. A value without a table
    cannot be enforced.
"""

from __future__ import annotations

from dataclasses import MISSING, field, fields
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from agentctl.frozen import frozen
from agentctl.model import PERMISSIONS
from agentctl.wire import PermissionSetup

Asks = Literal["yes", "no", "unverified"]
InstallKind = Literal["npm", "builtin", "manual"]
OnReject = Literal["continues", "ends_cancelled", "ends_end_turn"]
Family = Literal["environment", "claude", "codex", "opencode", "amp", "gemini"]


class RecipeError(ValueError):
    """A recipe file of ours is wrong: a defect of the package, never of the user's request."""


@frozen
class Install:
    kind: InstallKind
    packages: tuple[str, ...] = ()
    node: str | None = None
    verify: tuple[str, ...] = ()
    size_mb: int = 0
    command: str | None = None
    help: str = ""


@frozen
class Launch:
    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    model_env: str | None = None
    skills: str | None = None
    instructions: str | None = None
    known_files: dict[str, str] = field(default_factory=dict)
    start_timeout_s: float = 60
    stop_grace_s: float = 3


@frozen
class Acp:
    client_meta: dict[str, Any] = field(default_factory=dict)
    session_meta: dict[str, Any] = field(default_factory=dict)
    auth_method: str | None = None
    on_reject: OnReject = "continues"
    failure_signs: tuple[str, ...] = ()
    notice_patterns: tuple[str, ...] = ()
    replay_skip: tuple[str, ...] = ()
    load_min_age_s: float = 0
    replay_after_response: bool = False


@frozen
class CredentialNeed:
    family: Family = "environment"
    variables: tuple[str, ...] = ()
    exclusive: bool = False
    passes: tuple[str, ...] = ()
    switches: dict[str, tuple[str, ...]] = field(default_factory=dict)
    required: bool = True
    note: str = ""


@frozen
class AgentRecipe:
    """One file of ``agents/*.toml``. ``name`` is the file's stem."""

    name: str
    title: str
    description: str
    version: str
    license: str
    homepage: str
    asks: Asks
    install: Install
    launch: Launch
    acp: Acp = field(default_factory=Acp)
    credentials: CredentialNeed = field(default_factory=CredentialNeed)
    permissions: dict[str, PermissionSetup] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    shell_output: str = ""
    permission_options: str = ""
    writes_outside_home: tuple[str, ...] = ()
    quirks: tuple[str, ...] = ()


T = TypeVar("T")
_NESTED: dict[str, type[Any]] = {"install": Install, "launch": Launch, "acp": Acp, "credentials": CredentialNeed}


def parse(name: str, table: dict[str, Any]) -> AgentRecipe:
    """Build a recipe from a parsed TOML table. Raise ``RecipeError`` naming the file and the key."""
    top = dict(table)
    for key, cls in _NESTED.items():
        if key in top:
            top[key] = _build(cls, top[key], f"{name}.toml [{key}]")
    setups = top.get("permissions", {})
    if unknown := set(setups) - set(PERMISSIONS):
        raise RecipeError(f"{name}.toml [permissions]: unknown value {sorted(unknown)[0]!r}")
    top["permissions"] = {key: _setup(key, setups, f"{name}.toml [permissions.{key}]") for key in setups}
    recipe = _build(AgentRecipe, {"name": name, **top}, f"{name}.toml")
    _check(recipe)
    return recipe


def _setup(key: str, setups: dict[str, Any], where: str) -> PermissionSetup:
    table = setups[key]
    if isinstance(table, dict) and set(table) == {"same_as"}:
        if table["same_as"] not in setups:
            raise RecipeError(f"{where}: there is no permissions.{table['same_as']}")
        table = setups[table["same_as"]]
    return _build(PermissionSetup, table, where)


def _check(recipe: AgentRecipe) -> None:
    install = recipe.install
    if install.kind == "npm" and not install.packages:
        raise RecipeError(f"{recipe.name}.toml [install]: an npm agent needs packages")
    if install.kind == "manual" and not (install.command and install.help):
        raise RecipeError(f"{recipe.name}.toml [install]: a manual agent needs command and help")
    if recipe.asks == "no" and set(recipe.permissions) != {"allow"}:
        raise RecipeError(f"{recipe.name}.toml: an agent that cannot ask enforces nothing but allow")
    for package in install.packages:
        if not package.rpartition("@")[0]:
            raise RecipeError(f"{recipe.name}.toml [install]: {package} has no exact version")


def _build(cls: type[T], table: Any, where: str) -> T:
    if not isinstance(table, dict):
        raise RecipeError(f"{where}: a table is expected")
    hints = _hints(cls)
    if unknown := set(table) - set(hints):
        raise RecipeError(f"{where}: unknown key {sorted(unknown)[0]!r}")
    if missing := _required(cls) - set(table):
        raise RecipeError(f"{where}: {sorted(missing)[0]!r} is missing")
    return cls(**{key: _convert(value, hints[key], f"{where} {key}") for key, value in table.items()})


_hint_cache: dict[type[Any], dict[str, Any]] = {}


def _hints(cls: type[Any]) -> dict[str, Any]:
    if cls not in _hint_cache:
        _hint_cache[cls] = get_type_hints(cls)
    return _hint_cache[cls]


def _required(cls: type[Any]) -> set[str]:
    return {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Lists become tuples; everything else must already have the hinted shape."""
    text = str(hint)
    if text == "tuple[str, ...]":
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise RecipeError(f"{where}: a list of strings is expected")
        return tuple(value)
    if text == "dict[str, tuple[str, ...]]" and isinstance(value, dict):
        return {k: _convert(v, tuple[str, ...], f"{where}.{k}") for k, v in value.items()}
    if text == "dict[str, str]" and isinstance(value, dict):
        return {k: _convert(v, str, f"{where}.{k}") for k, v in value.items()}
    if text.startswith("typing.Literal"):
        if value not in get_args(hint):
            raise RecipeError(f"{where}: {value!r} is not one of {', '.join(get_args(hint))}")
        return value
    if not isinstance(value, _plain_types(hint)) or (isinstance(value, bool) and hint is not bool):
        raise RecipeError(f"{where}: {value!r} has the wrong type")
    return value


def _plain_types(hint: Any) -> tuple[type[Any], ...]:
    if hint is float:
        return (int, float)
    if str(hint) == "str | None":
        return (str,)
    return (hint.__origin__ if hasattr(hint, "__origin__") else hint,)
