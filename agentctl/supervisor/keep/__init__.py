"""A session kept on a volume that cannot append, rename or change a file, or that shows late what was written.

Log and HOME live on the sandbox's own disk. What is on the volume are whole files, written once and never changed; each
has in its name what it is and the SHA-256 of what is in it, so that a reader takes what is complete and nothing else,
whatever step a writer died at. Nothing points to anything: the names are all there is to know. ::

    <to>/log/<after>-<last>.<fencing>.<sha256>.kept    the records after one number up to another (a piece)
    <to>/log/<fencing>-<held>.begin                    a writer of this fencing number went on after record ``held``
    <to>/log/<fencing>.claim                           a writer of this fencing number is at work: lower ones stop
    <to>/log/sessions/<name>/…                         the same for sessions that share the sandbox
    <to>/home/<number>.<fencing>.<sha256>.tgz          HOME as a compressed tar (a generation): the newest two
    <to>/home/<fencing>.claim

Log. An event is shown when it is in the local log, and ``turn.ended`` when that is on the local disk; the volume
follows at once after everything durable (``turn.ended``, ``turn.queued``), and otherwise every ``PERIOD_S`` while there
is something new. So a sandbox that is lost with its disk can take the last two seconds from the volume; what a host has
streamed of them is in its store, and the next supervisor says the rest of the gap as ``log.gap``. Small pieces become
bigger ones: the bigger is written first, then those that it replaces are removed. A torn or missing piece ends the log.

HOME. A generation is made after each turn and when the supervisor leaves, unless nothing in HOME has changed, of an
agent that has ended its turn but still lives; another turn may begin meanwhile and is not kept waiting. So each file
is as it was when it was read, and files that are written while they are read (a database) may not fit together until
the generation after that turn, which is made in any case. The last one, after the agents have ended, is exact. What is
changed outside of turns only (files put there, commands run) is kept with the next of these. Left out are caches
(``home_files.CACHES``), sockets, and what agentctl itself put there and puts there again at each start: logins and the
user's files, as long as nobody has changed them. A login that the agent renewed is the agent's, and is kept. A HOME
above ``HOME_LIMIT_BYTES`` is not kept, and that is said.

What cannot be written ends no turn: it is said once, as ``sandbox.keep_failed`` and in ``/v1/health``, tried again with
the next, and said to be over as ``sandbox.keep_resumed``.
"""

PERIOD_S = 2.0
LEAVE_S = 100.0
"""How long a supervisor that leaves may need to bring the last of log and HOME to the volume."""

HOME_LIMIT_BYTES = 2 * 1024 * 1024 * 1024
"""Of one generation, compressed."""
