"""What ``agents`` and ``credentials`` answer."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from agentctl.agents.schema import Acp, Install, Launch
from agentctl.wire import PermissionSetup

Json = dict[str, Any]
_From = TypedDict("_From", {"from": str})
_MaybeFrom = TypedDict("_MaybeFrom", {"from": NotRequired[str]})


class Agent(_MaybeFrom):
    """An agent as it is on this machine. It was made by the user where it is from another one."""

    name: str
    title: str
    builtin: bool
    installed: str | None
    wanted: str
    status: Literal["built in", "installed", "outdated", "on PATH", "not installed"]
    can_ask: bool | None
    credentials: str
    description: str
    note: str


class CredentialStatus(TypedDict):
    agent: str
    found: bool
    required: bool
    source: str
    note: str
    variables: list[str]


class Installation(TypedDict):
    name: str
    version: str
    path: str
    packages: dict[str, str]
    integrity: dict[str, str]
    node: str | None
    node_version: str | None
    installed_at: float
    size_bytes: int


class AgentDetails(Agent):
    """All that its recipe says."""

    aliases: list[str]
    license: str
    homepage: str
    permissions: dict[str, PermissionSetup]
    permission_options: str
    shell_output: str
    writes_outside_home: list[str]
    quirks: list[str]
    install: Install
    launch: Launch
    acp: Acp
    credential_status: CredentialStatus
    credential_note: str
    installation: Installation | None


class _Made(TypedDict):
    model: str | None
    mode: str | None
    thought_level: str | None
    options: Json | None
    mcp_servers: list[Json]
    skills: list[Json] | None
    system_prompt: str | None
    created_at: float
    updated_at: float


class MadeAgent(_From, _Made):
    """An agent that the user made."""

    name: str
    builtin: Literal[False]


class MadeAgentDetails(Agent, _Made):
    pass


class Installed(TypedDict):
    name: str
    version: str
    path: str
    size_bytes: int
    packages: dict[str, str]
    node: str | None
    node_version: str | None
    changed: bool


class Uninstalled(TypedDict):
    name: str
    removed: list[str]


class Probed(TypedDict):
    """What an agent can do, asked of it itself."""

    name: str
    agent_info: Json | None
    load: bool
    resume: bool
    list: bool
    fork: bool
    image: bool
    audio: bool
    embedded_context: bool
    mcp_http: bool
    mcp_sse: bool
    modes: list[str]
    current_mode: str | None
    options: dict[str, list[str]]
    seconds: float


class DeletedAgent(TypedDict):
    deleted: str | None


class Credential(TypedDict):
    """A credential; its value is cut short where redacted."""

    provider: str
    source: str
    auth_type: str
    api_key: str
    redacted: bool
    place: str
    variables: list[str]
    expires_at: float | None


class Credentials(TypedDict):
    anthropic: Credential | None
    openai: Credential | None
    other: dict[str, Credential]


class Variables(TypedDict):
    variables: list[str]


class FoundCredential(TypedDict):
    provider: str
    auth_type: str
    source: str
    place: str
    expires_at: float | None
    expired: bool


class ReadyAgent(TypedDict):
    """Whether a session of an agent would start with what there is, and what helps."""

    agent: str
    title: str
    ready: bool
    found: bool
    required: bool
    needs_login: bool
    kind: Literal["api_key", "oauth", "file", "cloud", "settings"] | None
    source: str
    note: str
    missing: list[str]
    fix: str


class CredentialsStatus(TypedDict):
    providers: list[FoundCredential]
    agents: list[ReadyAgent]
    warnings: list[str]


COMMANDS: dict[str, Any] = {
    "agents-list": list[Agent],
    "agents-get": AgentDetails | MadeAgentDetails,
    "agents-install": Installed,
    "agents-uninstall": Uninstalled,
    "agents-probe": Probed,
    "agents-create": MadeAgent,
    "agents-update": MadeAgent,
    "agents-delete": DeletedAgent,
    "credentials-extract": Credentials | Credential,
    "credentials-extract-env": Variables,
    "credentials-status": CredentialsStatus,
}
