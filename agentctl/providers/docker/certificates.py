"""Certificates that a sandbox trusts besides what its image trusts (``--ca-bundle``), in one file for all programs."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path
from typing import Any

from agentctl.compute import Compute
from agentctl.errors import UsageError
from agentctl.paths import state_errors

PLACE = "/opt/agentctl/ca"
BUNDLE = f"{PLACE}/bundle.pem"
VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "npm_config_cafile",
)
_ONE = re.compile(r"-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----")
_MAX_BYTES = 16 * 1024 * 1024


def read(path: str) -> str:
    """The certificates of a PEM file, without anything else that is in it. Raise ``UsageError`` for one that has none
    or that cannot be read."""
    import ssl

    try:
        with Path(path).open("rb") as file:
            text = file.read(_MAX_BYTES).decode("ascii", errors="replace")
    except OSError as e:
        raise UsageError(f"--ca-bundle {path} cannot be read: {e.strerror}.") from e
    found = _ONE.findall(text)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata="\n".join(found))
    except (ssl.SSLError, ValueError) as e:
        raise UsageError(
            f"--ca-bundle {path} is no PEM file with certificates.",
            hint="One begins with -----BEGIN CERTIFICATE-----. Of a DER file: openssl x509 -inform der -in FILE",
        ) from e
    return "\n".join([*found, ""])


def environment(compute: Compute) -> dict[str, str]:
    """What makes programs in the sandbox read the bundle."""
    return dict.fromkeys(VARIABLES, BUNDLE) if compute.ca_bundle else {}


def public_roots() -> str:
    """What this host's Python trusts by default: for an image whose own roots are not known."""
    import certifi

    return Path(certifi.where()).read_text()


def mount(bundle: str, directory: Path | None, labels: dict[str, str]) -> Any:
    """The mount of a directory that has the bundle: ``directory``, made for it, or for an engine elsewhere a volume to
    which ``archive`` is sent."""
    from docker.types import Mount

    if directory is None:
        return Mount(PLACE, None, type="volume", labels=labels, no_copy=True)
    with state_errors(directory):
        directory.mkdir()
        directory.chmod(0o755)
        path = directory / "bundle.pem"
        path.write_text(bundle)
        path.chmod(0o644)
    return Mount(PLACE, str(directory), type="bind", read_only=True)


def archive(bundle: str) -> bytes:
    """What ``put_archive`` takes for ``PLACE``."""
    buffer, content = io.BytesIO(), bundle.encode()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("bundle.pem")
        info.size, info.mode = len(content), 0o644
        tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
