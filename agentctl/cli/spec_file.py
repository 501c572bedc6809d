"""``--spec FILE`` and ``--print-config``: options from a strict YAML file, under those of the command line.

Scalars of the command line replace, maps are merged, lists are appended. What ``--print-config`` prints is a spec
itself: reading it gives the same options again. Secrets are printed as where they come from.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentctl.cli.output import Output, write_text
from agentctl.cli.spec_keys import KEYS, TIMEOUTS, Key
from agentctl.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yaml.nodes import Node

    from agentctl.cli.spec_yaml import StrictYaml

Json = dict[str, Any]
SERVICES = "services"


class Alone:
    """Options of a command that are in no bundle."""

    def __init__(self, *, file: list[str] | None) -> None:
        self.file = file


def merged(path: Path | None, command: str, bundles: Sequence[Any], out: Output, *, print_config: bool) -> bool:
    """Fill ``bundles``, the command's options, from the file. With ``print_config`` print what they are then and
    return True: nothing else is to be done. Raise ``UsageError`` with ``FILE:LINE``."""
    services = _fill(path, command, bundles) if path is not None else {}
    if print_config:
        _print(bundles, services, out)
        return True
    if services:
        raise Unsupported(
            "The spec has services, and no provider of this agentctl runs them yet.",
            hint="Leave 'services' out; --print-config shows that the rest is in order.",
        )
    return False


def _fill(path: Path, command: str, bundles: Sequence[Any]) -> Json:
    """Returns the services, which no option can give."""
    from agentctl.cli.spec_services import read_services
    from agentctl.cli.spec_yaml import StrictYaml

    file = StrictYaml(path)
    own = {name: key for name, key in KEYS.items() if _owner(bundles, key.option) is not None}
    timeouts = {name: option for name, option in TIMEOUTS.items() if option in own}
    known = [*own, SERVICES, *(["timeouts"] if timeouts else [])]
    given = file.mapping(file.root(), f"the spec of '{command}'", known)
    if "timeouts" in given:
        _fill_timeouts(file, given, timeouts, bundles)
    for name, node in given.items():
        if name in own:
            _fill_one(file, name, own[name], node, bundles)
    return read_services(file, given[SERVICES]) if SERVICES in given else {}


def _fill_timeouts(file: StrictYaml, given: dict[str, Node], timeouts: dict[str, str], bundles: Sequence[Any]) -> None:
    for name, node in file.mapping(given["timeouts"], "timeouts", timeouts).items():
        if timeouts[name] in given:
            raise file.error(node, f"timeouts.{name} and {timeouts[name]} are the same, and both are there")
        _fill_one(file, f"timeouts.{name}", KEYS[timeouts[name]], node, bundles)


def _fill_one(file: StrictYaml, name: str, key: Key, node: Node, bundles: Sequence[Any]) -> None:
    bundle = _owner(bundles, key.option)
    value, flag = key.read(file, node, name), getattr(bundle, key.option)
    if key.kind != "scalar":
        setattr(bundle, key.option, [*value, *(flag or ())])
    elif flag is None or flag is False:
        setattr(bundle, key.option, value)


def _owner(bundles: Sequence[Any], option: str) -> Any:
    return next((bundle for bundle in bundles if hasattr(bundle, option)), None)


def _print(bundles: Sequence[Any], services: Json, out: Output) -> None:
    config = {name: shown for name, key in KEYS.items() if _is_set(shown := _shown(key, bundles))}
    config |= {SERVICES: services} if services else {}
    if out.json:
        out.envelope(config)
        return
    import yaml

    write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True) if config else "")


def _is_set(value: Any) -> bool:
    return value is not None and value is not False


def _shown(key: Key, bundles: Sequence[Any]) -> Any:
    value = getattr(_owner(bundles, key.option), key.option, None)
    if key.kind == "map":
        return {name: text if sign else None for name, sign, text in (v.partition("=") for v in value or ())} or None
    if key.kind == "list":
        return [_plain(entry) for entry in value or ()] or None
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.expanduser().absolute())
    if isinstance(value, str) and value.startswith("{"):
        return json.loads(value)
    return value
