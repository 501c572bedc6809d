"""An authority of our own, and what it vouches for: made by openssl for one run of the tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

_DAYS = "2"


def make(place: Path, *, host: str = "127.0.0.1") -> Path:
    """A directory as ``DOCKER_CERT_PATH`` names one (ca.pem, cert.pem, key.pem), with ``server.pem`` beside them: key
    and certificate of an engine at ``host``."""
    place.mkdir()
    _openssl(
        place, "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=ca -keyout ca.key -out ca.pem"
    )
    _signed(place, "cert", "key", "extendedKeyUsage=clientAuth")
    _signed(place, "server-cert", "server-key", f"extendedKeyUsage=serverAuth\nsubjectAltName=IP:{host}")
    (place / "server.pem").write_text((place / "server-key.pem").read_text() + (place / "server-cert.pem").read_text())
    return place


def _signed(place: Path, name: str, key: str, extensions: str) -> None:
    (place / f"{name}.ext").write_text(extensions)
    _openssl(
        place,
        f"req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {key}.pem -out {name}.csr",
    )
    _openssl(
        place,
        f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {_DAYS} -extfile {name}.ext"
        f" -out {name}.pem",
    )


def _openssl(place: Path, arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], cwd=place, check=True, capture_output=True)
