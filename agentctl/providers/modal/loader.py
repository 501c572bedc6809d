"""The main process of a sandbox until it is the supervisor: it takes the supervisor's program from stdin, and becomes
it.

Its text goes to the sandbox as an argument, so it needs nothing but a Python, and tells even one that is too old. What
comes in: a line ``{"bytes", "runtime", "private"}``; so many bytes, which are the length of an index in four bytes,
the index ``[[path, size], …]`` and the files themselves; then the Boot line.
"""

import os
import signal
import sys

PATIENCE_S = 120
"""A host that died before it sent everything leaves no sandbox waiting."""

TOO_OLD = 41
_SAID = "The image has Python {}.{}; the supervisor needs 3.11 or newer.\n"


def main() -> int:
    signal.alarm(PATIENCE_S)
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.stderr.write(_SAID.format(*sys.version_info[:2]))
        return TOO_OLD
    import json

    with os.fdopen(os.dup(0), "rb") as stdin:
        head = json.loads(stdin.readline())
        os.makedirs(head["private"], mode=0o700, exist_ok=True)
        unpack(stdin.read(head["bytes"]), head["runtime"])
        boot = json.loads(stdin.readline())
    boot["agent_env"] = {**of_the_image(), **boot["agent_env"]}
    prepare(boot, head["private"])
    place = os.memfd_create("boot")
    with os.fdopen(os.dup(place), "wb") as file:
        file.write(json.dumps(boot).encode() + b"\n")
    os.lseek(place, 0, os.SEEK_SET)
    os.dup2(place, 0)
    signal.alarm(0)
    return os.execv(sys.executable, [sys.executable, "-IS", head["runtime"] + "/__main__.py", "serve"])  # noqa: S606


def unpack(packed: bytes, target: str) -> None:
    import json

    data = memoryview(packed)
    at = 4 + int.from_bytes(data[:4], "big")
    made = set()
    for name, size in json.loads(bytes(data[4:at])):
        path = os.path.join(target, name)
        directory = os.path.dirname(path)
        if directory not in made:
            os.makedirs(directory, exist_ok=True)
            made.add(directory)
        with open(path, "wb") as file:
            file.write(data[at : at + size])
        at += size


def prepare(boot: "dict[str, str]", private: str) -> None:
    for directory in (boot["home"], boot["log_root"]):
        os.makedirs(directory, exist_ok=True)
        os.chmod(directory, 0o700)  # a mount is there already
    with open(os.open(private + "/token", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(boot["token"])  # for another machine, which may ask Modal for it


def of_the_image() -> "dict[str, str]":
    """What the image sets, without Modal's own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MODAL_")}


if __name__ == "__main__":
    sys.exit(main())
