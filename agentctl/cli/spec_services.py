"""``services`` of a spec: the containers beside the sandbox, checked in full before anything is made."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agentctl.cli import values
from agentctl.errors import UsageError

if TYPE_CHECKING:
    from yaml.nodes import Node

    from agentctl.cli.spec_yaml import StrictYaml

Json = dict[str, Any]
SERVICE = ("image", "required", "env", "command", "healthcheck", "post_start", "cpus", "memory")
HEALTHCHECK = ("test", "interval", "timeout", "retries", "start_period", "start_interval")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # it is a DNS name


def read_services(file: StrictYaml, node: Node) -> Json:
    """``{name: {"image", "required", "env", "command", "healthcheck", "post_start", …}}``, durations in seconds."""
    services = {}
    for name, value in file.mapping(node, "services").items():
        if not _NAME.fullmatch(name):
            raise file.error(value, f"{name!r} cannot name a service", hint="Use a-z, 0-9 and '-': it is its DNS name.")
        services[name] = _service(file, value, f"services.{name}")
    return services


def _service(file: StrictYaml, node: Node, what: str) -> Json:
    given = file.mapping(node, what, SERVICE)
    if "image" not in given:
        raise file.error(node, f"{what} has no 'image'")
    service: Json = {"image": file.text(given["image"], f"{what}.image"), "required": True}
    if "required" in given:
        service["required"] = file.boolean(given["required"], f"{what}.required")
    if "env" in given:
        pairs = file.mapping(given["env"], f"{what}.env")
        service["env"] = {key: file.text(value, f"{what}.env.{key}") for key, value in pairs.items()}
    for key in ("command", "post_start"):
        if key in given:
            service[key] = _texts(file, given[key], f"{what}.{key}")
    if "healthcheck" in given:
        service["healthcheck"] = _healthcheck(file, given["healthcheck"], f"{what}.healthcheck")
    if "cpus" in given:
        service["cpus"] = file.number(given["cpus"], f"{what}.cpus")
    if "memory" in given:
        service["memory"] = file.text(given["memory"], f"{what}.memory")
    return service


def _healthcheck(file: StrictYaml, node: Node, what: str) -> Json:
    given = file.mapping(node, what, HEALTHCHECK)
    if "test" not in given:
        raise file.error(node, f"{what} has no 'test'", hint="Write test: [CMD, pg_isready] or test: pg_isready")
    check: Json = {"test": _texts(file, given["test"], f"{what}.test")}
    for key in ("interval", "timeout", "start_period", "start_interval"):
        if key in given:
            check[key] = _seconds(file, given[key], f"{what}.{key}")
    if "retries" in given:
        check["retries"] = file.integer(given["retries"], f"{what}.retries")
    return check


def _texts(file: StrictYaml, node: Node, what: str) -> list[str] | str:
    """A list of words, or one text for a shell."""
    if file.is_text(node):
        return file.text(node, what)
    return [file.text(entry, f"an entry of {what}") for entry in file.sequence(node, what)]


def _seconds(file: StrictYaml, node: Node, what: str) -> float:
    text = file.text(node, what) if file.is_text(node) else f"{file.number(node, what):g}"
    try:
        return values.duration_or_never(text)
    except UsageError as e:
        raise file.error(node, f"{what}: {e.message.removesuffix('.')}", hint=e.hint) from e
