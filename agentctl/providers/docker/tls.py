"""TLS to an engine, as the docker command has it: meant by ``DOCKER_TLS_VERIFY``, or by an address with https; with
``ca.pem``, ``cert.pem`` and ``key.pem`` of ``DOCKER_CERT_PATH``. The engine's certificate is always verified."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from docker import APIClient
from docker.tls import TLSConfig

from agentctl.errors import ProviderUnavailable

_FILES = ("ca.pem", "cert.pem", "key.pem")
PORT = 2376


def is_meant(url: str) -> bool:
    scheme = urlsplit(url).scheme
    return scheme == "https" or (scheme == "tcp" and bool(os.environ.get("DOCKER_TLS_VERIFY")))


class TlsClient(APIClient):  # type: ignore[misc]  # the SDK has no types
    """The SDK's client to an engine at ``url``. Raise ``ProviderUnavailable`` for a certificate that is missing."""

    def __init__(self, url: str, **how: Any) -> None:
        ca, cert, key = _certificates(url)
        config = TLSConfig(ca_cert=ca, client_cert=(cert, key) if cert else None, verify=True)
        super().__init__(base_url=url, tls=config, **how)

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Else REQUESTS_CA_BUNDLE would go before the engine's own authority."""
        verify = self.verify if verify is None else verify
        return super().merge_environment_settings(url, proxies, stream, verify, cert)


def context(url: str) -> ssl.SSLContext | None:
    """The same for a stream of our own; None where it is not to be encrypted."""
    if not is_meant(url):
        return None
    ca, cert, key = _certificates(url)
    made = ssl.create_default_context(cafile=ca)
    if cert:
        try:
            made.load_cert_chain(cert, key)
        except ssl.SSLError as e:
            raise ProviderUnavailable(f"The certificate {cert} and its key cannot be used: {e.reason}.") from e
    return made


def _certificates(url: str) -> tuple[str | None, str | None, str | None]:
    """The files' paths; without a ``ca.pem`` the system's own authorities are trusted, if the place was not named."""
    named = os.environ.get("DOCKER_CERT_PATH")
    place = Path(named or Path.home() / ".docker")
    ca, cert, key = ((str(place / name) if (place / name).is_file() else None) for name in _FILES)
    missing = [name for name, path in zip(_FILES, (ca, cert, key), strict=True) if path is None]
    if (named and ca is None) or (cert is None) != (key is None):
        raise ProviderUnavailable(
            f"TLS to the Docker engine at {url} needs {' and '.join(missing)} in {place}.",
            hint="DOCKER_CERT_PATH names the directory of ca.pem, cert.pem and key.pem.",
            details={"engine": url, "missing": missing},
        )
    return ca, cert, key
