"""How a test talks to an agent so that it shows what it still knows: one class per agent."""

from __future__ import annotations

import itertools
import json
from typing import ClassVar, Protocol

from agentctl.ops.result import Result
from tests.model_server import ModelServer


class Talk(Protocol):
    agent: ClassVar[str]

    def tell(self, text: str) -> str:
        """A message with ``text`` in it, that gets an answer."""

    def make_up(self, value: str) -> str:
        """A message whose answer holds a value that stands nowhere in the message: ``value`` in upper case."""

    def ask(self) -> str:
        """A message whose answer proves what the agent knows; see ``known``. Each is another one."""

    def known(self, message: str, result: Result) -> str:
        """All that the agent knew when it answered ``message``."""

    def last(self, seconds: float) -> str:
        """A message whose answer comes bit by bit, for about so long."""


class MockTalk:
    """The mock agent tells its history itself."""

    agent: ClassVar[str] = "mock"

    def tell(self, text: str) -> str:
        return text

    def make_up(self, value: str) -> str:
        return f'@sh!="echo {value} | tr a-z A-Z"'

    def ask(self) -> str:
        return "@context"

    def known(self, message: str, result: Result) -> str:
        return result.text

    def last(self, seconds: float) -> str:
        return f"@chunks={round(seconds / 0.05)} @delay=0.05"


class ClaudeTalk:
    """What claude knows is what it sends to the model."""

    agent: ClassVar[str] = "claude"

    def __init__(self, model: ModelServer) -> None:
        self._model = model
        self._numbers = itertools.count(1)

    def tell(self, text: str) -> str:
        return f"{text} [[say:noted]]"

    def make_up(self, value: str) -> str:
        return f"[[shell:echo {value} | tr a-z A-Z]]"

    def ask(self) -> str:
        return f"[[say:answer {next(self._numbers)}]]"

    def known(self, message: str, result: Result) -> str:
        return json.dumps(self._model.wait_for(message).body["messages"])

    def last(self, seconds: float) -> str:
        return f"[[slow:{round(seconds / 0.05)},0.05]]"
