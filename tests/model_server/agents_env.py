"""What makes each real agent talk to the model server: environment variables and files under its HOME.

Nothing here is a secret. An agent that takes its whole configuration from the environment has no files.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

CODEX_MODEL = "gpt-5.5"
"""The newest model that gets plain function tools; later ones run everything through one JavaScript tool."""


@dataclass(frozen=True, slots=True)
class AgentSetup:
    """``environment`` as the user would export it; ``files`` maps a path relative to HOME to its text."""

    environment: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)

    def write_files(self, home: Path) -> None:
        for name, text in self.files.items():
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def claude(url: str) -> AgentSetup:
    return AgentSetup(
        {
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "sk-ant-scripted",
            "CLAUDE_CODE_MAX_RETRIES": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_ENABLE_PROMPT_SUGGESTION": "false",
            "DISABLE_AUTOUPDATER": "1",
        }
    )


def codex(url: str) -> AgentSetup:
    provider = {
        "name": "scripted",
        "base_url": f"{url}/v1",
        "env_key": "MODEL_API_KEY",
        "wire_api": "responses",
        "request_max_retries": 2,
        "stream_max_retries": 1,
        "supports_websockets": False,
    }
    config = {
        "model": CODEX_MODEL,
        "model_provider": "scripted",
        "check_for_update_on_startup": False,
        "model_providers": {"scripted": provider},
        "analytics": {"enabled": False},
    }
    return AgentSetup({"CODEX_CONFIG": json.dumps(config), "MODEL_API_KEY": "sk-scripted", "NO_BROWSER": "1"})


def opencode(url: str) -> AgentSetup:
    limits = {"context": 128_000, "output": 8192}
    model = {"reasoning": True, "tool_call": True, "limit": limits}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Scripted",
        "options": {"baseURL": f"{url}/v1", "apiKey": "sk-scripted"},
        "models": {"m1": {"name": "M1", **model}, "m2": {"name": "M2", **model}},
    }
    config = {
        "autoupdate": False,
        "share": "disabled",
        "model": "scripted/m1",
        "small_model": "scripted/m1",
        "enabled_providers": ["scripted"],
        "provider": {"scripted": provider},
    }
    return AgentSetup(
        {
            "OPENCODE_CONFIG_CONTENT": json.dumps(config),
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        }
    )


def gemini(url: str) -> AgentSetup:
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "general": {"disableAutoUpdate": True, "enableAutoUpdate": False, "sessionRetention": {"enabled": False}},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
    }
    return AgentSetup(
        {"GEMINI_API_KEY": "scripted", "GOOGLE_GEMINI_BASE_URL": url, "GEMINI_CLI_TRUST_WORKSPACE": "true"},
        {".gemini/settings.json": json.dumps(settings)},
    )


def pi(url: str) -> AgentSetup:
    model = {
        "id": "m1",
        "name": "M1",
        "reasoning": True,
        "input": ["text"],
        "contextWindow": 128_000,
        "maxTokens": 8192,
        "cost": dict.fromkeys(("input", "output", "cacheRead", "cacheWrite"), 0),
    }
    provider = {"baseUrl": f"{url}/v1", "api": "openai-completions", "apiKey": "scripted", "models": [model]}
    settings = {"defaultProvider": "scripted", "defaultModel": "m1", "quietStartup": True}
    return AgentSetup(
        {"PI_OFFLINE": "1", "PI_SKIP_VERSION_CHECK": "1"},
        {
            ".pi/agent/settings.json": json.dumps(settings),
            ".pi/agent/models.json": json.dumps({"providers": {"scripted": provider}}),
        },
    )


AGENTS: dict[str, Callable[[str], AgentSetup]] = {
    "claude": claude,
    "codex": codex,
    "opencode": opencode,
    "gemini": gemini,
    "pi": pi,
}


def setup_for(agent: str, url: str) -> AgentSetup:
    """The setup of a real agent for the model server at ``url`` (no path). Permissions are as the agent comes."""
    return AGENTS[agent](url)


def asking_setup_for(agent: str, url: str) -> AgentSetup:
    """The same, with the agent's own configuration made to ask before it runs a command."""
    setup = setup_for(agent, url)
    if agent == "codex":
        setup.environment["INITIAL_AGENT_MODE"] = "workspace-write"
    if agent == "opencode":
        config = json.loads(setup.environment["OPENCODE_CONFIG_CONTENT"])
        config["permission"] = {"bash": "ask", "edit": "ask", "webfetch": "ask"}
        setup.environment["OPENCODE_CONFIG_CONTENT"] = json.dumps(config)
    return setup
