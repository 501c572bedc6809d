"""Providers by name. Each is imported when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from agentctl.compute import Compute
from agentctl.errors import ProviderNotFound

if TYPE_CHECKING:
    from agentctl.paths import StatePaths
    from agentctl.providers.base import Provider
    from agentctl.providers.leftover import Sweeping

PROVIDERS = {
    "unix_local": ("agentctl.providers.unix_local", "UnixLocalProvider"),
    "docker": ("agentctl.providers.docker.provider", "DockerProvider"),
    "modal": ("agentctl.providers.modal.provider", "ModalProvider"),
    "daytona": ("agentctl.providers.daytona.provider", "DaytonaProvider"),
}
"""Name → (module, class)."""

SWEEPS = {
    "unix_local": ("agentctl.providers.local_leftovers", "LocalSweep"),
    "docker": ("agentctl.providers.docker.leftovers", "DockerSweep"),
    "modal": ("agentctl.providers.modal.leftovers", "ModalSweep"),
    "daytona": ("agentctl.providers.daytona.leftovers", "DaytonaSweep"),
}
"""Name → (module, class) of what finds and removes what the provider's sandboxes left."""

COMPUTE: dict[str, frozenset[str]] = {
    "docker": frozenset(Compute.__dataclass_fields__),
    "modal": frozenset({"dockerfile", "cpus", "memory_bytes", "network", "allow"}),
    "daytona": frozenset({"dockerfile", "cpus", "memory_bytes", "network", "allow"}),
}
"""Name → the fields of ``Compute`` that the provider has an answer to; none where it is not listed."""


def open_provider(name: str, paths: StatePaths) -> Provider:
    """The provider called ``name``. Raise ``ProviderNotFound`` with the nearest names and all there are."""
    require_provider(name)
    module, class_name = PROVIDERS[name]
    provider: Provider = getattr(import_module(module), class_name)(paths)
    return provider


def open_sweep(name: str, paths: StatePaths) -> Sweeping:
    """What looks for leftovers of the provider called ``name``. Raise ``ProviderNotFound`` as ``open_provider``."""
    require_provider(name)
    module, class_name = SWEEPS[name]
    sweep: Sweeping = getattr(import_module(module), class_name)(paths)
    return sweep


def require_provider(name: str) -> None:
    """Raise ``ProviderNotFound`` as ``open_provider``, importing none."""
    if name in PROVIDERS:
        return
    from difflib import get_close_matches

    near = get_close_matches(name, PROVIDERS, n=3)
    meant = f"Did you mean {' or '.join(near)}? " if near else ""
    raise ProviderNotFound(
        f"There is no provider {name!r}.",
        hint=f"{meant}There is: {', '.join(sorted(PROVIDERS))}.",
        details={"provider": name, "near": near, "providers": sorted(PROVIDERS)},
    )
