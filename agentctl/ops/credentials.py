"""What a user can ask about credentials: what there is, as a shell would set it, and what each agent makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentctl.credentials import shell
from agentctl.credentials.base import Credential
from agentctl.credentials.survey import MAIN, Survey, survey
from agentctl.errors import CredentialsMissing, UsageError

if TYPE_CHECKING:
    from agentctl.ops.app import App

Json = dict[str, Any]
AGENTS = {"claude": "anthropic", "codex": "openai", "amp": "amp", "gemini": "google"}
"""The agents that take one provider's credential; any other one is looked up in its recipe."""

RENEW = {"claude-code": "claude", "codex": "codex login", "opencode": "opencode auth login", "gemini": "gemini"}
"""The command that renews an expired login of that source."""

_LOGIN = {
    "claude": "`claude setup-token` prints a token for CLAUDE_CODE_OAUTH_TOKEN",
    "codex": "`codex login`",
    "opencode": "`opencode auth login`",
    "amp": "`amp login`",
}


def extract(app: App, *, home: Path | None = None, oauth: bool = True) -> Survey:
    """Every credential of the user, one for each provider. ``home`` is looked through in place of the user's HOME.

    Raise ``UsageError`` for a ``home`` that is no directory.
    """
    if home is not None and not home.is_dir():
        raise UsageError(f"--home-dir {home} is not a directory.")
    return survey(app.environ, home or app.user_home, oauth=oauth, elsewhere=home is not None)


def of_provider(found: Survey, provider: str) -> Credential:
    """Raise ``CredentialsMissing`` where there is none."""
    credential = found.found.get(provider)
    if credential is None:
        raise _missing(found, f"the provider {provider}", (provider,))
    return credential


def of_agent(found: Survey, agent: str) -> Credential:
    """The credential that goes with an agent. Raise ``CredentialsMissing``, ``AgentNotFound`` for an unknown agent, and
    ``UsageError`` where several would do."""
    wanted = _providers_of(agent)
    for provider in wanted:
        if provider in found.found:
            return found.found[provider]
    other = [name for name in found.found if name not in MAIN]
    if agent == "opencode" and other:
        if len(other) == 1:
            return found.found[other[0]]
        raise UsageError(f"OpenCode could take one of {', '.join(other)}.", hint="Name it with --provider.")
    raise _missing(found, agent, wanted)


def _providers_of(agent: str) -> tuple[str, ...]:
    if agent in AGENTS:
        return (AGENTS[agent],)
    if agent == "opencode":
        return ("openai", "anthropic")
    from agentctl.agents import recipes
    from agentctl.credentials.environment import provider_of

    recipe = recipes.find(agent)
    if recipe.name != agent:
        return _providers_of(recipe.name)
    return tuple(filter(None, map(provider_of, recipe.credentials.variables)))


def _missing(found: Survey, whose: str, providers: tuple[str, ...]) -> CredentialsMissing:
    from agentctl.credentials.environment import KEYS, key_variables

    expired = [one for one in found.passed_over if one.provider in providers]
    variables = [name for provider in providers for name in KEYS.get(provider) or key_variables(provider)]
    ways = [f"renew the login with `{RENEW[one.source]}`" for one in expired if one.source in RENEW][:1]
    ways += [f"set {' or '.join(variables)}"] if variables else ["see `agentctl credentials status`"]
    hint = ", or ".join(ways)
    return CredentialsMissing(
        f"No credentials for {whose} were found{': the login has expired' if expired else ''}.",
        hint=f"{hint[0].upper()}{hint[1:]}.",
        details={"providers": list(providers), "variables": variables},
    )


class Assignments:
    """The lines of ``extract-env``; iterate over it, then read ``names``, the variables, and ``warnings``, which says
    what was left out."""

    def __init__(self, found: Survey, shell_name: str, *, export: bool) -> None:
        self._found = found
        self._shell = shell_name
        self._export = export
        self.warnings: list[str] = []
        self.names: list[str] = []

    def __iter__(self) -> Iterator[bytes]:
        for credential in self._found.found.values():
            if not credential.variables:
                self._left_out(credential, "no program takes such a login from a variable")
            for name in credential.variables:
                if not shell.is_name(name):
                    self._left_out(credential, f"{name!r} is not the name of a variable")
                elif name not in self.names:
                    yield from self._line(credential, name)

    def _line(self, credential: Credential, name: str) -> Iterator[bytes]:
        try:
            line = shell.assignment(name, credential.value, self._shell, export=self._export)
        except ValueError as e:
            self._left_out(credential, f"its value cannot be that of a variable: {e}")
        else:
            self.names.append(name)
            yield line

    def _left_out(self, credential: Credential, reason: str) -> None:
        self.warnings.append(f"{credential.provider} of {credential.place} was left out: {reason}.")


def status(app: App) -> Json:
    """``{"providers": […], "agents": […], "warnings": […]}``, without any value.

    A provider: ``{"provider", "auth_type", "source", "place", "expires_at", "expired"}``. An agent: ``{"agent",
    "title", "ready", "found", "required", "needs_login", "kind", "source", "note", "missing", "fix"}``; ``ready`` says
    whether a session of it would start with what there is, ``found`` whether anything was found for it.
    """
    found = extract(app)
    providers = [_provider_row(one) for one in (*found.found.values(), *found.passed_over)]
    return {
        "providers": sorted(providers, key=lambda row: (row["provider"], row["expired"])),
        "agents": _agent_rows(app),
        "warnings": list(found.warnings),
    }


def _provider_row(credential: Credential) -> Json:
    return {
        "provider": credential.provider,
        "auth_type": credential.kind,
        "source": credential.source,
        "place": credential.place,
        "expires_at": credential.expires_at,
        "expired": credential.is_expired,
    }


def _agent_rows(app: App) -> list[Json]:
    from agentctl import credentials
    from agentctl.agents import recipes

    rows = []
    for recipe in recipes.load_all():
        need = recipe.credentials
        found = credentials.for_agent(recipe, app.environ, app.user_home)
        ready = found.found or not need.required
        rows.append(
            {
                "agent": recipe.name,
                "title": recipe.title,
                "ready": ready,
                "found": found.found,
                "required": need.required,
                "needs_login": recipe.install.kind != "builtin",
                "kind": _kind(found, need.switches),
                "source": found.source,
                "note": found.note,
                "missing": [] if ready else list(need.variables),
                "fix": "" if found.found else _fix(recipe.name, need.variables),
            }
        )
    return rows


def _kind(found: Any, switches: Any) -> str | None:
    """What the agent gets: its own file, a cloud's login, a token, a key or the settings of a provider."""
    if not found.found:
        return None
    if any(name in found.env for name in switches):
        return "cloud"
    if found.files:
        return "file"
    if any(name.endswith("_OAUTH_TOKEN") for name in found.env):
        return "oauth"
    return "api_key" if any(name.endswith(("_KEY", "_TOKEN")) for name in found.env) else "settings"


def _fix(agent: str, variables: tuple[str, ...]) -> str:
    ways = [f"export {variables[-1] if agent == 'codex' else _plain_key(variables)}=…"] if variables else []
    ways += [_LOGIN[agent]] if agent in _LOGIN else []
    return ", or ".join(ways)


def _plain_key(variables: tuple[str, ...]) -> str:
    return next((name for name in variables if name.endswith("_API_KEY")), variables[0])
