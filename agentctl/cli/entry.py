"""Where the process starts and ends: the version without any import, and the one place that turns errors into exits.

| exit | meaning                              | exit | meaning                                             |
|------|--------------------------------------|------|-----------------------------------------------------|
| 0    | done                                 | 7    | agent missing, crashed or broke the protocol        |
| 1    | unexpected error                     | 8    | provider or sandbox unavailable or failed           |
| 2    | usage                                | 9    | turn ended unfinished: refusal, max_tokens, …       |
| 3    | timeout or stalled                   | 10   | conflict or busy                                    |
| 4    | not found                            | 11   | context lost                                        |
| 5    | permission denied                    | 129, 130, 141, 143 | hung up, Ctrl-C, reader gone, SIGTERM |
| 6    | credentials missing or rejected      |      |                                                     |
"""

from __future__ import annotations

import gc
import os
import sys
import time

TYPE_CHECKING = False  # typing costs 10 ms, which --version has not got
if TYPE_CHECKING:
    from agentctl.errors import AgentctlError

READER_GONE = 141
COLLECT_AFTER = 100_000
"""Objects that may be made before garbage is looked for: what imports make stays, and Python's own 700 would have it
looked through again and again, a tenth of a short command's time."""

_facts: list[str] = []
"""What the log says of the command that runs, beside how it ended."""


def main() -> None:
    """Run the command line of ``sys.argv`` and exit with its code."""
    argv = sys.argv[1:]
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _open_closed_streams()
    if argv in (["--version"], ["-V"]):
        code = _printed_version()
    elif os.environ.get("_AGENTCTL_COMPLETE") in ("bash", "zsh", "fish"):
        from agentctl.cli import complete

        complete.main(os.environ["_AGENTCTL_COMPLETE"], argv)
        return
    else:
        gc.set_threshold(COLLECT_AFTER)
        code = run(argv)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # nobody reads it any more
            continue
    os._exit(code)  # all is closed and told by now: the interpreter's own tidying up would cost 20 ms more


def _open_closed_streams() -> None:
    """What was closed by who started us (``>&-``) reads as empty and takes what is written nowhere."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            fd = os.open(os.devnull, os.O_RDWR)
            if fd != number:
                os.dup2(fd, number)
            setattr(sys, name, open(number, "r" if number == 0 else "w"))  # noqa: SIM115 - for the whole process


def _printed_version() -> int:
    from agentctl import __version__

    try:
        sys.stdout.write(f"agentctl {__version__}\n")
        sys.stdout.flush()
    except OSError:
        return _reader_gone()
    return 0


def run(argv: list[str]) -> int:
    """Run one command and return its exit code; every error has been told by then."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # whatever the locale can show
    started = time.monotonic()
    code = _ended(argv)
    from agentctl.cli import log

    log.append(argv, code, time.monotonic() - started, *_facts)
    return code


def _ended(argv: list[str]) -> int:
    _facts.clear()
    try:
        code = _invoke(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except Exception as e:
        return _reader_gone() if _is_reader_gone(e) else _told(e, argv)
    return code


def _invoke(argv: list[str]) -> int:
    from agentctl.cli import headstart

    headstart.begin(argv)
    try:
        from agentctl.cli.main import root_command

        value = root_command().main(args=argv, prog_name="agentctl", standalone_mode=False)
        return value if isinstance(value, int) else 0
    finally:
        headstart.end()


def _told(e: Exception, argv: list[str]) -> int:
    from agentctl.errors import AgentctlError

    error = e if isinstance(e, AgentctlError) else _usage_error(e)
    try:
        return _tell(error, argv) if error else _crashed(e, argv)
    except Exception as e:
        if _is_reader_gone(e):
            return _reader_gone()
        raise


def _usage_error(e: Exception) -> AgentctlError | None:
    from agentctl.cli.usage import as_usage_error

    return as_usage_error(e)


def _tell(error: AgentctlError, argv: list[str]) -> int:
    from agentctl.cli import exec_exit, output

    _facts.append(f"error={error.code}")
    given = _options(argv)
    error.details |= _next(error, argv)
    output.show_error(error, as_json="--json" in given, color=output.color_choice(given))
    return exec_exit.exit_code(error, argv)


def _next(error: AgentctlError, argv: list[str]) -> dict[str, str]:
    if not error.details:
        return {}
    from agentctl.cli.next_command import next_command

    command = next_command(error, argv)
    return {"try": command} if command else {}


def _crashed(e: Exception, argv: list[str]) -> int:
    from agentctl.cli.crash import report_crash, without_secrets
    from agentctl.errors import AgentctlError

    path = report_crash(e, argv)
    hint = "Run it again with --debug for the traceback."
    if path is not None:
        _facts.append(f"crash={path.name}")
        hint = f"The traceback is in {path}; --debug shows it. Which commands ran before: {path.parent}/agentctl.log"
    error = AgentctlError(without_secrets(f"Unexpected {type(e).__name__}: {e}"), hint=hint)
    code = _tell(error, argv)
    if "--debug" in _options(argv):
        sys.excepthook(type(e), e, e.__traceback__)
    return code


def _options(argv: list[str]) -> list[str]:
    """What stands before ``--``, where options may be."""
    return argv[: argv.index("--")] if "--" in argv else argv


def _is_reader_gone(e: Exception) -> bool:
    from agentctl.cli.output import ReaderGone

    return isinstance(e, BrokenPipeError | ReaderGone)


def _reader_gone() -> int:
    """Nobody reads stdout any more: be quiet, also when the interpreter flushes it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return READER_GONE
