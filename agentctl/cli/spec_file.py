"""``--spec FILE``, ``--preset NAME`` and ``--print-config``: options from a strict YAML file, under those of the
command line, and from a preset of the configuration, under both.

Scalars of what goes before replace, maps are merged, lists are appended. What ``--print-config`` prints is a spec
itself: reading it gives the same options again. Secrets are printed as where they come from.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentctl.cli.output import Output, write_text
from agentctl.cli.spec_keys import KEYS, TIMEOUTS, Key

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


def merged(
    path: Path | None,
    command: str,
    bundles: Sequence[Any],
    out: Output,
    *,
    preset: str | None = None,
    print_config: bool,
) -> bool:
    """Fill ``bundles``, the command's options, from the file, then from the preset. With ``print_config`` print what
    they are then and return True: nothing else is to be done. Raise ``UsageError`` with ``FILE:LINE``, or with
    ``FILE [presets.NAME]``."""
    settled: set[str] = set()
    if path is not None:
        from agentctl.cli.spec_yaml import StrictYaml

        _fill(StrictYaml(path), f"the spec of '{command}'", bundles, settled)
    if preset is not None:
        _fill(_of_preset(preset), f"a preset for '{command}'", bundles, settled)
    if print_config:
        _print(bundles, out)
    return print_config


def _of_preset(name: str) -> StrictYaml:
    from agentctl.cli.spec_yaml import OfPreset
    from agentctl.ops.app import App

    with App.open() as app:
        preset = app.config.preset(name)
    return OfPreset(name, preset.keys, preset.path)


def _fill(file: StrictYaml, what: str, bundles: Sequence[Any], settled: set[str]) -> None:
    """``settled`` are the scalars that went before; those of this file are added."""
    from agentctl.cli.spec_services import read_services

    own = {name: key for name, key in KEYS.items() if _owner(bundles, key.option) is not None}
    timeouts = {name: option for name, option in TIMEOUTS.items() if option in own}
    serving = _owner(bundles, "service")
    known = [*own, *([SERVICES] if serving is not None else []), *(["timeouts"] if timeouts else [])]
    given = file.mapping(file.root(), what, known)
    if "timeouts" in given:
        _fill_timeouts(file, given, timeouts, bundles, settled)
    for name, node in given.items():
        if name in own:
            _fill_one(file, name, own[name], node, bundles, settled)
    if SERVICES in given:
        serving.service = [*read_services(file, given[SERVICES]), *(serving.service or ())]


def _fill_timeouts(
    file: StrictYaml, given: dict[str, Node], timeouts: dict[str, str], bundles: Sequence[Any], settled: set[str]
) -> None:
    for name, node in file.mapping(given["timeouts"], "timeouts", timeouts).items():
        if timeouts[name] in given:
            raise file.error(node, f"timeouts.{name} and {timeouts[name]} are the same, and both are there")
        _fill_one(file, f"timeouts.{name}", KEYS[timeouts[name]], node, bundles, settled)


def _fill_one(file: StrictYaml, name: str, key: Key, node: Node, bundles: Sequence[Any], settled: set[str]) -> None:
    bundle = _owner(bundles, key.option)
    value, flag = key.read(file, node, name), getattr(bundle, key.option)
    if key.kind != "scalar":
        setattr(bundle, key.option, [*value, *(flag or ())])
    elif (flag is None or flag is False) and key.option not in settled:
        setattr(bundle, key.option, value)
        settled.add(key.option)


def _owner(bundles: Sequence[Any], option: str) -> Any:
    return next((bundle for bundle in bundles if hasattr(bundle, option)), None)


def _print(bundles: Sequence[Any], out: Output) -> None:
    config = {name: shown for name, key in KEYS.items() if _is_set(shown := _shown(key, bundles))}
    if services := getattr(_owner(bundles, "service"), "service", None):
        from agentctl.cli.spec_services import merged as merged_services

        config[SERVICES] = merged_services(services)
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
