"""One message in a session that is made for it, or in one that is there: what ``agentctl run`` does."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from agentctl.cli import headstart
from agentctl.cli.message import build_message, can_ask, hook_command
from agentctl.cli.output import write_text
from agentctl.cli.progress import watched
from agentctl.cli.spec import check_same, session_spec
from agentctl.cli.turn_driver import drive, watcher
from agentctl.errors import AgentctlError, SessionNotFound
from agentctl.ops import session_end, sessions, turns
from agentctl.ops.app import App
from agentctl.store.references import LAST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentctl.cli.compute_options import ComputeOptions
    from agentctl.cli.interrupts import Interrupts
    from agentctl.cli.options import MessageOptions, SpecOptions, TurnOptions
    from agentctl.cli.output import Output
    from agentctl.cli.project_options import ProjectOptions
    from agentctl.cli.setup_options import SetupOptions
    from agentctl.model import Session


class OneMessage:
    """``throw_away``: the session is deleted when its turn is over, however it ends."""

    def __init__(
        self,
        out: Output,
        given: SpecOptions,
        setup: SetupOptions,
        machine: ComputeOptions,
        message: MessageOptions,
        turn: TurnOptions,
        files: Sequence[str] = (),
        project: ProjectOptions | None = None,
        *,
        throw_away: bool,
    ) -> None:
        self._out = out
        self._given = given
        self._setup = setup
        self._machine = machine
        self._message = message
        self._turn = turn
        self._files = files
        self._project = project
        self._throw_away = throw_away

    async def go(self, interrupts: Interrupts, said: str, name: str | None, *, detach: bool) -> int:
        """Send ``said`` and watch its turn, or leave at once. Returns the exit code."""
        with App.open() as app, watched(app, self._out):
            app.prespawned = headstart.take()
            session = await self._session(app, name)
            try:
                if detach:
                    return await self._submit(app, session, said)
                return await self._watch(app, session, said, interrupts)
            finally:
                if self._throw_away and interrupts.code != 128 + signal.SIGHUP:  # hung up: the turn goes on
                    await self._delete(app, session)

    async def _session(self, app: App, name: str | None) -> Session:
        if name is not None:
            try:
                found = sessions.get(app, name)
            except SessionNotFound:
                if name == LAST:
                    raise  # nothing can be made under that name
            else:
                check_same(found, self._given, self._machine, self._project)
                self._give_secrets(app, found)
                return found
        given = (self._given, self._setup, self._machine, self._turn, self._out, self._files, self._project)
        spec = session_spec(app, *given)
        return await sessions.create(
            app,
            spec,
            name=name,
            provision=bool(spec.clones or spec.copies or spec.project),  # what cannot be got leaves no session
            ephemeral=self._throw_away,
            sure=self._project is not None and self._project.yes,
            report=self._out.step,
        )

    def _give_secrets(self, app: App, session: Session) -> None:
        if self._setup.secret:
            from agentctl.cli.secrets import values_given
            from agentctl.ops import secrets

            app.given_secrets.update(values_given(self._setup.secret, app.environ))
            secrets.give(app, session)

    async def _watch(self, app: App, session: Session, said: str, interrupts: Interrupts) -> int:
        attended = can_ask()
        message = build_message(said, self._message, self._turn, session, attended=attended)
        watch = watcher(self._out, streams=True)
        hook = hook_command(self._message)
        code = await drive(app, session, message, watch, self._out, interrupts, attended=attended, hook=hook)
        if not self._throw_away:
            self._out.story(f"Go on with: agentctl sessions stream {session.name} MESSAGE", "dim")
        return code

    async def _submit(self, app: App, session: Session, said: str) -> int:
        message = build_message(said, self._message, self._turn, session, attended=False, watched=False)
        sent = await turns.send(app, session.id, message, self._out.step)
        if self._out.json:
            self._out.envelope({"session_id": session.id, "session": session.name, **sent})
        else:
            write_text(f"{session.id if self._out.quiet else session.name}\n")
            self._out.story(f"Follow it with: agentctl sessions events {session.name} --follow", "dim")
        return 0

    async def _delete(self, app: App, session: Session) -> None:
        """Also after Ctrl-C: the sandbox is not left behind; another Ctrl-C would leave it to the orphan sweep."""
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        try:
            if session.spec.project is not None and await self._is_kept(app, session):
                return
            await session_end.delete(app, session.id, at_once=True)
        except AgentctlError as e:
            self._out.story(f"The session {session.name} could not be deleted: {e.message}", "warning")

    async def _is_kept(self, app: App, session: Session) -> bool:
        """Whether the session did work in a copy or a worktree, which would be lost with it."""
        from agentctl.ops import project_changes

        try:
            changed = await project_changes.unpulled(app, session)
        except AgentctlError as e:
            self._out.story(f"Whether the project was changed cannot be told: {e.message}", "warning")
        else:
            if not changed:
                return False
            self._out.story(
                f"Changed in its {(session.spec.project or {})['mode']}: {project_changes.listed(changed)}", "dim"
            )
        self._out.story(f"The session {session.name} is kept; see: agentctl sessions diff {session.name}", "warning")
        return True
