"""Services, the containers beside the sandbox: of a spec and of ``--service``, checked in full before anything is made.

Both are kept as texts of JSON objects with a ``name``, those of the spec first. What several say of one name is merged:
scalars and commands are replaced, maps merged. A value of ``env`` that is left out (null) is taken from the caller's
environment when the sandbox is asked for, and ``--print-config`` does not show it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from agentctl.cli import values
from agentctl.errors import UsageError

if TYPE_CHECKING:
    from yaml.nodes import Node

    from agentctl.cli.spec_yaml import StrictYaml
    from agentctl.compute import Service

Json = dict[str, Any]
SERVICE = ("image", "required", "env", "command", "healthcheck", "post_start", "cpus", "memory")
HEALTHCHECK = ("test", "interval", "timeout", "retries", "start_period", "start_interval")
RESERVED = ("sandbox", "egress", "localhost")
"""Names that mean something else on a sandbox's network."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # it is a DNS name
_OPTION = "--service"
_HOW = """Write --service db=postgres:16, or --service '{"name": "db", "image": "postgres:16"}'."""


def read_services(file: StrictYaml, node: Node, *, complete: bool = True) -> list[str]:
    """``services`` of a spec, durations in seconds; ``complete`` wants an image for each."""
    found = []
    for name, value in file.mapping(node, "services").items():
        if not _NAME.fullmatch(name):
            raise file.error(value, f"{name!r} cannot name a service", hint="Use a-z, 0-9 and '-': it is its DNS name.")
        if name in RESERVED:
            raise file.error(value, f"{name!r} cannot name a service: it means something else there")
        service = _service(file, value, f"services.{name}")
        if complete and "image" not in service:
            raise file.error(value, f"services.{name} has no 'image'")
        found.append(json.dumps({"name": name, **service}))
    return found


def merged(texts: Iterable[str]) -> dict[str, Json]:
    """``{name: {"image", "required", "env", …}}`` of all texts. Raise ``UsageError``."""
    services: dict[str, Json] = {}
    for text in texts:
        for name, service in _of_text(text).items():
            services[name] = _merged(services.get(name, {}), service)
    return {name: {key: given[key] for key in SERVICE if key in given} for name, given in services.items()}


def _of_text(text: str) -> dict[str, Json]:
    if text.lstrip().startswith("{"):
        from agentctl.cli.spec_yaml import StrictYaml

        service = values.json_object(text, _OPTION)
        name = service.pop("name", None)
        if not isinstance(name, str):
            raise UsageError(f"{_OPTION}: this service has no name.", hint=_HOW)
        file = StrictYaml.of_text(json.dumps({"services": {name: service}}, ensure_ascii=False), _OPTION)
        read = read_services(file, file.mapping(file.root(), _OPTION)["services"], complete=False)
        return {one.pop("name"): one for one in map(json.loads, read)}
    name, sign, image = text.partition("=")
    if not sign or not image.strip():
        raise UsageError(f"{_OPTION} {text!r} is not NAME=IMAGE.", hint=_HOW)
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise UsageError(f"{name!r} cannot name a service.", hint="Use a-z, 0-9 and '-': it is its DNS name.")
    return {name: {"image": image.strip()}}


def _merged(below: Json, above: Json) -> Json:
    both = {**below, **above}
    maps = [name for name, value in both.items() if isinstance(below.get(name), dict) and isinstance(value, dict)]
    return {**both, **{name: _merged(below[name], both[name]) for name in maps}}


def services_of(given: Iterable[str]) -> tuple[Service, ...]:
    """As a sandbox gets them. Raise ``UsageError`` for one without an image, and for a variable that is not set."""
    return tuple(_made(name, service) for name, service in merged(given).items())


def _made(name: str, given: Json) -> Service:
    from agentctl.cli.compute_options import size
    from agentctl.compute import Service

    if "image" not in given:
        raise UsageError(f"The service {name} has no image.", hint=_HOW)
    known: Json = {key: given[key] for key in ("image", "required", "command", "post_start", "cpus") if key in given}
    memory = size(given["memory"], f"memory of the service {name}:") if "memory" in given else None
    env = {key: _value(name, key, value) for key, value in given.get("env", {}).items()}
    check = {key if key in ("test", "retries") else f"{key}_s": v for key, v in given.get("healthcheck", {}).items()}
    if check and "test" not in check:
        raise UsageError(f"The health check of the service {name} has no 'test'.")
    return Service.from_json({"name": name, **known, "env": env, "memory_bytes": memory, "healthcheck": check or None})


def _value(service: str, name: str, value: str | None) -> str:
    if value is None and name not in os.environ:
        raise UsageError(
            f"The service {service} takes {name} from here, and this variable is not set.",
            hint=f"Set it, or give {name} a value.",
        )
    return os.environ[name] if value is None else value


def _service(file: StrictYaml, node: Node, what: str) -> Json:
    given = file.mapping(node, what, SERVICE)
    service: Json = {}
    if "image" in given:
        service["image"] = file.text(given["image"], f"{what}.image")
    if "required" in given:
        service["required"] = file.boolean(given["required"], f"{what}.required")
    if "env" in given:
        service["env"] = _env(file, given["env"], f"{what}.env")
    for key in ("command", "post_start"):
        if key in given:
            service[key] = _texts(file, given[key], f"{what}.{key}")
    if "healthcheck" in given:
        service["healthcheck"] = _healthcheck(file, given["healthcheck"], f"{what}.healthcheck")
    if "cpus" in given:
        service["cpus"] = _positive(file, given["cpus"], f"{what}.cpus")
    if "memory" in given:
        service["memory"] = file.text(given["memory"], f"{what}.memory")
    return service


def _env(file: StrictYaml, node: Node, what: str) -> Json:
    found: Json = {}
    for name, value in file.mapping(node, what).items():
        if not name or "=" in name or "\0" in name:
            raise file.error(value, f"{name!r} cannot name a variable")
        found[name] = None if file.is_null(value) else file.text(value, f"{what}.{name}")
    return found


def _healthcheck(file: StrictYaml, node: Node, what: str) -> Json:
    given = file.mapping(node, what, HEALTHCHECK)
    if "test" not in given:
        raise file.error(node, f"{what} has no 'test'", hint="Write test: [CMD, pg_isready] or test: pg_isready")
    check: Json = {"test": _texts(file, given["test"], f"{what}.test")}
    for key in ("interval", "timeout", "start_period", "start_interval"):
        if key in given:
            check[key] = _seconds(file, given[key], f"{what}.{key}")
    if "retries" in given:
        check["retries"] = int(_positive(file, given["retries"], f"{what}.retries", whole=True))
    return check


def _texts(file: StrictYaml, node: Node, what: str) -> list[str] | str:
    """A list of words, or one text for a shell."""
    if file.is_text(node):
        return file.text(node, what)
    words = [file.text(entry, f"an entry of {what}") for entry in file.sequence(node, what)]
    if not words:
        raise file.error(node, f"{what} is empty", hint="Leave the line out.")
    return words


def _positive(file: StrictYaml, node: Node, what: str, *, whole: bool = False) -> float:
    number = file.integer(node, what) if whole else file.number(node, what)
    if number <= 0:
        raise file.error(node, f"{what} has to be more than 0")
    return number


def _seconds(file: StrictYaml, node: Node, what: str) -> float:
    text = file.text(node, what) if file.is_text(node) else f"{file.number(node, what):g}"
    try:
        return values.duration_or_never(text)
    except UsageError as e:
        raise file.error(node, f"{what}: {e.message.removesuffix('.')}", hint=e.hint) from e
