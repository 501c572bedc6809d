"""Builds behind a network that opens TLS (``--ca-bundle``): every stage gets the certificates before its first step.

The classic builder has no secrets and no mounts, so the file is copied into the image, where a sandbox's own bundle is
mounted over it. It holds certificates only, which are public, beside those that everybody trusts. The variables that
point to it stay, too: an argument would give way to what the base image sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from agentctl.errors import UsageError
from agentctl.providers.docker import certificates
from agentctl.providers.docker.context import Context

_FILE = ".agentctl-ca-bundle.pem"
_FROM = re.compile(r"FROM\s", re.IGNORECASE)
_ESCAPE = re.compile(r"#\s*escape\s*=\s*(\S)\s*", re.IGNORECASE)
_DIRECTIVE = re.compile(r"#\s*\w+\s*=")


def trusting(context: Context, ca_bundle: str | None) -> Context:
    """The context with ``ca_bundle``, a PEM file of this host, for all steps. Raise ``UsageError``."""
    if ca_bundle is None:
        return context
    bundle = certificates.public_roots() + certificates.read(ca_bundle)
    path = context.directory / context.dockerfile
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"The Dockerfile {path} cannot be read: {e}.") from e
    variables = " ".join(f"{name}={certificates.BUNDLE}" for name in certificates.VARIABLES)
    added = _after_each_from(text, [f"COPY {_FILE} {certificates.BUNDLE}", f"ENV {variables}"])
    return replace(context, added={context.dockerfile: added.encode(), _FILE: bundle.encode()})


def _after_each_from(text: str, steps: Iterable[str]) -> str:
    lines: list[str] = []
    escape = _escape(text)
    is_from = goes_on = False
    for line in text.splitlines():
        lines.append(line)
        said = line.strip()
        if said.startswith("#") or (goes_on and not said):  # neither ends an instruction
            continue
        is_from = is_from if goes_on else _FROM.match(said) is not None
        goes_on = said.endswith(escape)
        if is_from and not goes_on:
            lines += steps
    return "\n".join([*lines, ""])


def _escape(text: str) -> str:
    """What continues a line: a directive in the first lines may say so."""
    for line in text.splitlines():
        if match := _ESCAPE.fullmatch(line.strip()):
            return match[1]
        if not _DIRECTIVE.match(line.strip()):
            break
    return "\\"
