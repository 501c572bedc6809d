"""The supervisor in a started sandbox: its bundle brought there unless it is there, its Boot told by a file.

Three calls: one looks and prepares, one sends files, one starts and waits for Ready. The file with the Boot line lies
in a directory that only the sandbox's user can enter, and is gone when the supervisor has it open.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import field, replace
from typing import Any

from agentctl.errors import DeadlineExceeded, SandboxError, UsageError
from agentctl.frozen import frozen
from agentctl.paths import StatePaths
from agentctl.providers.daytona import place
from agentctl.providers.daytona.bundle import bundle_of
from agentctl.providers.daytona.client import call
from agentctl.wire import Boot, Ready

Json = dict[str, Any]
READY_TIMEOUT_S = 60
PREPARE_S = 60
STOP_S = 120
"""A supervisor's orderly end: agents stopped, HOME packed and put on the volume."""

OLDEST_PYTHON = (3, 11)
_NO_PYTHON, _NO_ROOM, _NOT_READY = 90, 91, 93
_TAIL_BYTES = 4000

_PROBE = """
import json, os, sys
def own(place):
    try:
        os.makedirs(place, exist_ok=True)
    except PermissionError:
        return False
    return os.access(place, os.W_OK)
runtime, new, run, log = sys.argv[1:5]
if not all([own(place) for place in sys.argv[2:]]):
    sys.exit(92)
os.chmod(run, 0o700)
os.chmod(log, 0o700)
for entry in [*os.scandir(run), *os.scandir(new)]:
    if not entry.is_dir(follow_symlinks=False):
        os.unlink(entry)
try:
    libc = "glibc" if (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc") else "musl"
except (OSError, ValueError):
    libc = "musl"
known = {"python": sys.executable, "version": list(sys.version_info[:3])}
print(json.dumps({**known, "libc": libc, "machine": os.uname().machine, "env": dict(os.environ)}))
if os.path.exists(runtime + "/key"):
    print(open(runtime + "/key").read())
"""
"""One process for all of it: each that a shell would start besides costs some milliseconds."""

_PREPARE = """
python=$(command -v python3) || exit 90
look() { "$python" -IS -c "$PROBE" "$RUNTIME" "$RUNTIME.new" "$RUN" "$LOG" "$@" </dev/null; }
own() {
  { mkdir -p "$1" && [ -w "$1" ]; } 2>/dev/null && return
  sudo -n mkdir -p "$1" && sudo -n chown "$(id -u):$(id -g)" "$1" || exit 91
}
look "$@"
case $? in 0) exit 0 ;; 92) ;; *) exit 90 ;; esac
for place in "$@" "$RUNTIME.new" "$RUN" "$LOG"; do own "$place"; done
look "$@" || exit 91
"""

_SHOW = """
if [ -f "$RUNTIME.new/key" ]; then rm -rf "$RUNTIME" && mv "$RUNTIME.new" "$RUNTIME" || exit 91; fi
"""
"""What was sent: whole under its name, or not there."""

_START = """
cd /
mkfifo -m 600 "$RUN/talk" || exit 91
setsid sh -c '{ "$1" -IS "$2/__main__.py" serve <"$3/boot" 2>>"$3/log"; echo "$?" >"$3/ended"; } >"$3/talk"' \
  serve "$PYTHON" "$RUNTIME" "$RUN" </dev/null >/dev/null 2>&1 &
ready=$(timeout "$LIMIT" head -n 1 "$RUN/talk")
rm -f "$RUN/boot" "$RUN/talk"
[ -n "$ready" ] && echo "$ready" >"$RUN/ready" && echo "$ready" && exit
tail -c 4000 "$RUN/log"; exit 93
"""

_STOP = """
[ -s "$RUN/ready" ] || exit 0
pid=$(sed -n 's/.*"pid": *\\([0-9]*\\).*/\\1/p' "$RUN/ready")
kill "$pid" 2>/dev/null || exit 0
turns=0
while [ ! -e "$RUN/ended" ] && [ "$turns" -lt "$TURNS" ]; do sleep 0.05; turns=$((turns + 1)); done
"""


@frozen
class Facts:
    """What is to be known of a sandbox before a supervisor can run in it. ``key`` names the bundle that it has."""

    python: str
    version: list[int]
    libc: str
    machine: str
    key: str = ""
    env: dict[str, str] = field(default_factory=dict)


async def start_supervisor(sandbox: Any, paths: StatePaths, boot: Boot, facts: Facts) -> Ready:
    """Bring it up in a sandbox that was prepared, with the ``boot`` of a spec. Raise ``SandboxError`` with the end of
    its log when it dies first."""
    import daytona as sdk

    told = replace(boot, agent_env=place.environment(boot.sandbox_id, boot.agent_env, facts.env))
    files = [
        sdk.FileUpload(source=told.to_line(), destination=f"{place.RUN}/boot"),
        sdk.FileUpload(source=boot.token.encode(), destination=place.TOKEN),
    ]
    files += await _bundle_for(paths, facts)
    await call("send the supervisor", lambda: sandbox.fs.upload_files(files))
    return await _started(sandbox, facts.python, boot)


async def install(sandbox: Any, paths: StatePaths) -> None:
    """Have the bundle in a started sandbox, and nothing of it run."""
    files = await _bundle_for(paths, await prepare(sandbox))
    if files:
        await call("send the supervisor", lambda: sandbox.fs.upload_files(files))
        code, said = await run(sandbox, "show the supervisor", _variables() + _SHOW, PREPARE_S)
        if code != 0:
            raise SandboxError(f"The supervisor could not be put into the sandbox: {said.strip()[-300:]}")


async def _bundle_for(paths: StatePaths, facts: Facts) -> list[Any]:
    """What is to be sent: nothing where it is already."""
    import daytona as sdk

    bundle = await bundle_of(paths)
    if facts.key == bundle.key:
        return []
    return [
        sdk.FileUpload(source=path.read_bytes(), destination=f"{place.RUNTIME}.new/{path.name}")
        for path in bundle.files()
    ]


async def prepare(sandbox: Any) -> Facts:
    """Make the directories that a supervisor needs, and look around. Raise ``UsageError`` for an image in which none
    can run."""
    places = [place.PLACE, place.HOME, place.AGENTS]
    script = f"set -- {' '.join(places)}\n{_variables(PROBE=_PROBE)}{_PREPARE}"
    code, said = await run(sandbox, "prepare the sandbox", script, PREPARE_S)
    if code == _NO_PYTHON:
        raise UsageError(
            "The sandbox has no python3 that runs, and the supervisor needs Python 3.11 or newer.",
            hint="Install Python in the image or snapshot, or name another with --image.",
            details={"said": said[-500:]},
        )
    if code != 0:
        raise SandboxError(f"The sandbox could not be prepared: {said.strip()[-300:] or f'exit code {code}'}")
    facts, _, key = said.strip().partition("\n")
    machine = Facts(**json.loads(facts), key=key.strip())
    if tuple(machine.version[:2]) < OLDEST_PYTHON:
        version = ".".join(str(part) for part in machine.version)
        raise UsageError(
            f"The sandbox has Python {version}; the supervisor needs 3.11 or newer.",
            hint="Name another image or snapshot with --image.",
            details={"python": version},
        )
    return machine


async def _started(sandbox: Any, python: str, boot: Boot) -> Ready:
    script = _variables(PYTHON=python, LIMIT=str(READY_TIMEOUT_S)) + _SHOW + _START
    code, said = await run(sandbox, "start the supervisor", script, READY_TIMEOUT_S + 20)
    if code == 0:
        try:
            return Ready.from_line(said.encode())
        except (ValueError, TypeError):
            code = _NOT_READY
    for secret in filter(None, (boot.token, *boot.secrets)):
        said = said.replace(secret, "[redacted]")
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "")
    raise SandboxError(
        f"The supervisor ended before it was ready{': ' + last.strip() if last else '.'}",
        hint="`--json` shows the end of the supervisor's log.",
        details={"log": said[-_TAIL_BYTES:]},
    )


async def stop_supervisor(sandbox: Any, limit_s: float) -> None:
    """End it in good order, and wait for that a while: what it keeps on the volume is there then."""
    await run(sandbox, "stop the supervisor", _variables(TURNS=str(int(limit_s * 20))) + _STOP, int(limit_s) + 20)


async def run(sandbox: Any, what: str, script: str, limit_s: int) -> tuple[int, str]:
    """A script of a POSIX shell, with no stdin: its exit code, and what it printed on both streams. Raise
    ``DeadlineExceeded``."""
    answer = await call(
        what, lambda: sandbox.process.exec(f"sh -c {shlex.quote(script)} </dev/null", timeout=limit_s), repeatable=False
    )
    if answer.exit_code is None:
        raise DeadlineExceeded(f"Daytona did not {what} within {limit_s} s.")
    return int(answer.exit_code), str(answer.result)


def _variables(**more: str) -> str:
    values = {"RUN": place.RUN, "LOG": place.LOG, "RUNTIME": place.RUNTIME, **more}
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
