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

import os
import sys

TYPE_CHECKING = False  # typing costs 10 ms, which --version has not got
if TYPE_CHECKING:
    from agentctl.errors import AgentctlError

READER_GONE = 141


def main() -> None:
    """Run the command line of ``sys.argv`` and exit with its code."""
    argv = sys.argv[1:]
    if argv in (["--version"], ["-V"]):
        from agentctl import __version__

        sys.stdout.write(f"agentctl {__version__}\n")
        return
    code = run(argv)
    from contextlib import suppress

    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(code)  # all is closed and told by now: the interpreter's own tidying up would cost 20 ms more


def run(argv: list[str]) -> int:
    """Run one command and return its exit code; every error has been told by then."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # whatever the locale can show
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

    given = _options(argv)
    output.show_error(error, as_json="--json" in given, color=output.color_choice(given))
    return exec_exit.exit_code(error, argv)


def _crashed(e: Exception, argv: list[str]) -> int:
    from agentctl.cli.crash import report_crash, without_secrets
    from agentctl.errors import AgentctlError

    path = report_crash(e, argv)
    hint = f"The traceback is in {path}; --debug shows it." if path else "Run it again with --debug for the traceback."
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
