"""Repositories cloned into the sandbox: several at once, all of them or none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from agentctl import errors
from agentctl.supervisor.git.failure import why
from agentctl.supervisor.git.process import git_environment, run_git
from agentctl.supervisor.git.request import Clone
from agentctl.supervisor.git.stage import Stage, is_free, sweep
from agentctl.supervisor.git.token import TokenDoor
from agentctl.wire import SANDBOX_ENV, Boot

Json = dict[str, Any]
_LOOK_S = 30.0


class Repositories:
    """Clones, and remembers what it cloned, so that it can be taken back when the session does not start."""

    def __init__(self, boot: Boot) -> None:
        self._env = {**boot.agent_env, "HOME": boot.home, SANDBOX_ENV: boot.sandbox_id}
        self._tmp = boot.tmp
        self._placed: dict[str, Stage] = {}

    async def clone(self, clones: Sequence[Clone]) -> list[Json]:
        """``{"path", "url", "branch", "commit", "cloned"}`` of each, in order; ``cloned`` is false where something was
        there and that was allowed.

        Raise ``CredentialsMissing``, ``CredentialsRejected``, ``RepositoryNotFound``, ``RemoteUnreachable``,
        ``AlreadyExists``, ``DeadlineExceeded``, ``DiskFull`` or ``GitFailed``. Nothing of any of them is left then.
        """
        wanted = [one for one in clones if not (one.if_missing and not is_free(one.target))]
        stages: dict[str, Stage] = {}
        try:
            for one in wanted:
                await asyncio.to_thread(sweep, one.target)
                stages[one.target] = Stage(one.target)
            facts = await _all(self._fetch(one, stages[one.target].repository) for one in wanted)
            for target in _place_all(stages, {one.target for one in wanted if one.if_missing}):
                stages.pop(target).drop()
        except BaseException:
            await asyncio.shield(asyncio.to_thread(_drop_all, list(stages.values())))
            raise
        self._placed |= stages
        made = dict(zip((one.target for one in wanted), facts, strict=True))
        return [_answer(one, made[one.target] if one.target in stages else None) for one in clones]

    async def take_back(self, paths: Sequence[str]) -> list[str]:
        """Remove those of ``paths`` that were cloned here; the others are left alone."""
        stages = [self._placed.pop(path) for path in paths if path in self._placed]
        for stage in stages:
            await asyncio.to_thread(stage.undo)
        return [stage.target for stage in stages]

    async def _fetch(self, one: Clone, repository: str) -> Json:
        env = git_environment(self._env, one.url)
        options = ["--quiet", *(["--branch", one.branch] if one.branch else [])]
        options += ["--depth", str(one.depth)] if one.depth else []
        options += ["--recurse-submodules"] if one.submodules else []
        options += ["--shallow-submodules"] if one.submodules and one.depth else []
        arguments = ["clone", *options, "--", one.url, repository]
        cwd = repository.rpartition("/")[0]
        if one.token is None:
            ran = await run_git(arguments, env=env, cwd=cwd, timeout_s=one.timeout_s)
        else:
            async with TokenDoor(self._tmp, one.url, one.token) as door:
                # A helper of the user's would be asked to keep the token.
                settings = ["credential.helper="]
                env_ = {**env, **door.environ}
                ran = await run_git(
                    arguments, env=env_, cwd=cwd, timeout_s=one.timeout_s, settings=settings, started=door.serve
                )
        if ran.code != 0:
            raise await why(one, ran.stderr, env, self._tmp)
        return await _head(repository, env)


async def _all(tasks: Any) -> list[Json]:
    """All of them at once; the first failure ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(task) for task in tasks]
    except BaseExceptionGroup as failed:
        raise _first(failed) from None
    return [task.result() for task in running]


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = failed.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _place_all(stages: Mapping[str, Stage], optional: set[str]) -> list[str]:
    """Give all of them their names, or none. Return those of ``optional`` whose name was taken meanwhile."""
    placed: list[Stage] = []
    late = []
    for target, stage in stages.items():
        try:
            stage.place()
            placed.append(stage)
        except errors.AgentctlError as e:
            if target in optional and isinstance(e, errors.AlreadyExists):
                late.append(target)
                continue
            for one in placed:
                one.undo()
            raise
    return late


def _drop_all(stages: list[Stage]) -> None:
    for stage in stages:
        stage.drop()


async def _head(repository: str, env: Mapping[str, str]) -> Json:
    """What is checked out; an empty repository has a branch and no commit, a tag has a commit and no branch."""
    commit = await run_git(["rev-parse", "--verify", "--quiet", "HEAD"], env=env, cwd=repository, timeout_s=_LOOK_S)
    branch = await run_git(["symbolic-ref", "--short", "--quiet", "HEAD"], env=env, cwd=repository, timeout_s=_LOOK_S)
    return {"commit": commit.stdout.strip() or None, "branch": branch.stdout.strip() or None}


def _answer(one: Clone, made: Json | None) -> Json:
    facts = made or {"commit": None, "branch": None}
    return {"path": one.target, "url": one.url, **facts, "cloned": made is not None}
