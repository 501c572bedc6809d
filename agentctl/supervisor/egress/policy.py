"""What a sandbox may reach: names and ports that were listed, at addresses that are public.

A name that leads to a private address would open the host's own networks, and the cloud's metadata, to whoever owns a
listed domain. Such an address is reached only when it was listed itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

Address = IPv4Address | IPv6Address
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?")
_PORT = re.compile(r"[0-9]{1,5}")
_LAST_PORT = 65535
_NOT_PUBLIC = tuple(
    ip_network(text)
    for text in (
        "168.63.129.16/32",  # a cloud's own, though its number is public
        "192.88.99.0/24",
        "::/96",
        "64:ff9b::/96",  # IPv4 in IPv6: where they lead is not seen
        "64:ff9b:1::/48",
        "2001::/32",
        "2002::/16",
    )
)


class Target(NamedTuple):
    """``host`` is a name in lower case without a last dot, or an address in its usual form."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def target_of(authority: str, default_port: int | None = None) -> Target:
    """``host:port`` or ``[address]:port``. Raise ``ValueError`` for anything else."""
    bracketed, host, port = _split(authority)
    if not port and default_port is not None:
        port = str(default_port)
    if not _PORT.fullmatch(port) or not 0 < int(port) <= _LAST_PORT:
        raise ValueError(f"no port: {authority!r}")
    return Target(_host(host, bracketed=bracketed), int(port))


def _split(authority: str) -> tuple[bool, str, str]:
    if authority.startswith("["):
        host, _, rest = authority[1:].partition("]")
        if rest and not rest.startswith(":"):
            raise ValueError(f"no host and port: {authority!r}")
        return True, host, rest[1:]
    host, _, port = authority.partition(":")
    return False, host, port


def _host(text: str, *, bracketed: bool) -> str:
    if bracketed:
        return str(IPv6Address(text))
    name = text.lower().removesuffix(".")
    if not _NAME.fullmatch(name):
        raise ValueError(f"no host: {text!r}")
    return name


class Policy:
    """``listed`` are ``host:port``, ``*.domain:port`` (all below it, not itself), ``address:port`` and
    ``[address]:port``. Raise ``ValueError`` for others."""

    def __init__(self, listed: Iterable[str]) -> None:
        self._exact: set[Target] = set()
        self._below: set[Target] = set()
        for text in listed:
            if text.startswith("*."):
                self._below.add(target_of(text[2:]))
            else:
                self._exact.add(target_of(text))

    def allows(self, target: Target) -> bool:
        """Whether it was listed; its address is another question."""
        if target in self._exact:
            return True
        if _address_of(target.host) is not None:
            return False
        labels = target.host.split(".")
        return any(Target(".".join(labels[at:]), target.port) in self._below for at in range(1, len(labels)))

    def reaches(self, address: str, port: int) -> bool:
        """Whether a listed name may lead to this address: a public one, or one that was listed itself."""
        found = _address_of(address.partition("%")[0])
        if found is None:
            return False
        return Target(str(found), port) in self._exact or is_public(found)


def is_public(address: Address) -> bool:
    """Whether it is of the open internet, as far as a number can tell."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in net for net in _NOT_PUBLIC if net.version == address.version):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _address_of(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
