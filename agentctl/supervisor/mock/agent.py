"""The built-in ``mock`` agent: ACP on stdio with the standard library only, kind to users and scripted for tests.

Run it as ``python -IS path/to/mock/agent.py [FLAGS]`` or call ``main()``. It answers ``mock: <prompt>``, keeps its
sessions under ``$HOME/.mock-agent/`` so that another process can load, resume and list them, and obeys the ``@words``
of a prompt (``mock_knobs.py`` has the list; ``/help`` prints it), in the order in which they stand there. Every word
is also a flag that holds for all prompts: ``--chunks=100``. A value with spaces is quoted: ``@sh="echo hi"``.

Flags of the handshake and the process (also as words in the variable ``MOCK_AGENT_FLAGS``):

``--init-delay=S --new-delay=S``            answer later
``--auth-required``                         session/new fails with -32000 until ``authenticate``
``--no-load --no-resume --no-list``         do not offer it
``--load-error=CODE --resume-error=CODE``   offer it, and fail
``--load-null --replay-late --resume-replays``  odd answers: null; replay after the answer; replay where none may be
``--load-forgets[=last]``                   load without an error, and without the history, or the last message of it
``--protocol=N``                            answer this protocol version
``--no-image``                              take no images
``--no-permission-modes``                   have no modes
``--session-id=ID``                         give every new session this id
``--state-dir=DIR``                         instead of ``$HOME/.mock-agent``
``--exit-at-start=CODE --never-respond --banner --noise=LINES``  faults before the first answer
``--hold-pipes``                            leave a process behind that holds stdout and stderr, with --exit-at-start
``--early-request=METHOD``                  ask the client this before the answer to initialize, and wait for its answer
``--first-FLAG``                            obey ``--FLAG`` in the first process of a state directory only
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing costs a fifth of the start
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Serve ACP on stdin and stdout until stdin ends. ``argv`` are the flags (default ``sys.argv[1:]``)."""
    from agentctl.supervisor.mock.knobs import Flags, obeyed
    from agentctl.supervisor.mock.server import MockServer, state_dir

    given = [*os.environ.get("MOCK_AGENT_FLAGS", "").split(), *(sys.argv[1:] if argv is None else argv)]
    return MockServer(Flags(obeyed(given, state_dir(Flags(given))))).serve()


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))))
    sys.exit(main())
