"""Secrets of a session: its spec says where each value comes from, and the values are read anew at every start.

They reach the agent as environment variables and the supervisor as what to redact. The database never has one. A value
that was given directly is kept in a file of the state directory that only its owner can read, or, where the user
asked for that, nowhere: then it has to be given again when the session comes back.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentctl import errors
from agentctl.paths import state_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agentctl.model import Session
    from agentctl.ops.app import App

Json = dict[str, Any]
MAX_SECRET_BYTES = 64 * 1024
_seen: set[str] = set()
"""Every value that this process came to know, for ``unsaid``."""


def resolve(app: App, secrets: Iterable[Json], session: Session | None = None) -> dict[str, str]:
    """Variable → value of every secret of the session; None is one that is being created, whose values were all given
    or are elsewhere. Raise ``CredentialsMissing`` for one that is not there now."""
    secrets = list(secrets)
    kept = _kept(_file(app, session.id)) if session and any(s["from"] == "stored" for s in secrets) else {}
    name = session.name if session else "NAME"
    values = {secret["name"]: _value(app, name, secret, kept) for secret in secrets}
    _seen.update(values.values())
    return values


def unsaid(text: str) -> str:
    """``text`` without the secrets of this process: for what an error that nobody foresaw may hold."""
    from agentctl.supervisor.redaction import make_redactor

    redact = make_redactor(_seen)
    return redact(text.encode(errors="surrogatepass")).decode(errors="surrogatepass") if redact else text


def _value(app: App, session_name: str, secret: Json, kept: Mapping[str, str]) -> str:
    name, step = secret["name"], "Give it again"
    given = app.given_secrets.get(name)
    if given is not None:
        return given
    match secret["from"]:
        case "env":
            value, where = _text(app.environ.get(name)), f"The environment variable {name} is not set, or no text"
            step = f"Set {name}, or give its value"
        case "file":
            try:
                return read_file(Path(secret["path"]))
            except errors.CredentialsMissing as e:
                value, where, step = None, e.message.rstrip("."), "Put it back, or give the value"
        case "stored":
            value, where = kept.get(name), f"The value that was kept for {name} is gone"
        case _:
            value, where = None, f"The secret {name} is kept nowhere"
    if not value:
        raise errors.CredentialsMissing(
            f"{where}; the session needs it to start.",
            hint=f"{step}: agentctl sessions resume {session_name} --secret {name}=-",
        )
    return value


def _text(value: str | None) -> str | None:
    """A value from the environment, unless it is no UTF-8: it could not be found again in what is written."""
    try:
        return value if value is None or value.encode() else None
    except UnicodeEncodeError:
        return None


def read_file(path: Path) -> str:
    """The text of a secret's file without the newline at its end. Raise ``CredentialsMissing``."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
        text = data.decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as e:
        raise errors.CredentialsMissing(f"The secret's file {path} cannot be read: {e}.") from e
    if not text or len(data) > MAX_SECRET_BYTES or "\0" in text:
        raise errors.CredentialsMissing(f"The secret's file {path} is empty, binary or over {MAX_SECRET_BYTES} bytes.")
    return text


def warnings(app: App, secrets: Iterable[Json]) -> list[str]:
    """A sentence about each one whose value cannot be told from ordinary text. Raise as ``resolve``."""
    from agentctl.supervisor.redaction import MIN_SECRET_CHARS

    short = [name for name, value in resolve(app, secrets).items() if len(value) < MIN_SECRET_CHARS]
    return [f"{name} has fewer than {MIN_SECRET_CHARS} characters: it will not be redacted." for name in short]


def give(app: App, session: Session) -> None:
    """Take the values that came with this command for a session that there is. Raise ``UsageError`` for a secret that
    the session does not have; nothing is kept then."""
    known = {secret["name"] for secret in session.spec.secrets}
    unknown = sorted(app.given_secrets.keys() - known)
    if unknown:
        raise errors.UsageError(
            f"Session {session.name} has no secret {unknown[0]}.",
            hint=f"It has: {', '.join(sorted(known)) or 'none'}. A new one takes a new session.",
        )
    keep(app, session, app.given_secrets)


def keep(app: App, session: Session, values: Mapping[str, str]) -> None:
    """Keep the values of the session's ``stored`` secrets that were given directly."""
    stored = {s["name"] for s in session.spec.secrets if s["from"] == "stored"}
    new = {name: value for name, value in values.items() if name in stored}
    if not new:
        return
    from agentctl.providers.trees import make_private_directory, write_private

    path = _file(app, session.id)
    make_private_directory(path.parent)
    write_private(path, json.dumps({**_kept(path), **new}))


def forget(app: App, session_id: str) -> None:
    """Remove what is kept for a session. Forgetting nothing succeeds."""
    path = _file(app, session_id)
    with state_errors(path):
        path.unlink(missing_ok=True)


def _file(app: App, session_id: str) -> Path:
    return app.paths.secrets / f"{session_id}.json"


def _kept(path: Path) -> dict[str, str]:
    try:
        kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as e:
        raise errors.StateError(f"The kept secrets in {path} cannot be read: {e}.") from e
    return kept
