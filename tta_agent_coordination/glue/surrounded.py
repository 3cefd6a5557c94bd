"""Agents that run within what a framework wants around its work."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

from tta_agent_coordination.agents.agent import (
    Agent,
    AgentProxy,
    Answer,
    Payload,
    check_servable,
    hand_over,
)
from tta_agent_coordination.agents.capability import AgentCapability
from tta_agent_coordination.message import AgentMessage

Around = Callable[[], AbstractContextManager[Any]]
"""Returns what is entered before, and left after, each call of an agent."""

T = TypeVar("T")


class SurroundedAgent(Agent):
    """Does what another agent does, with something around each call.

    Handlers run in threads of the worker, health checks and exports of state in those of the
    registry: each of them is surrounded.
    """

    def __init__(self, agent: AgentProxy, around: Around) -> None:
        """Surround the calls of `agent`.

        Raises:
            TypeError: It cannot handle a message: see `AgentWorker`.
        """
        check_servable(agent)
        super().__init__(agent.agent_id, agent.name)
        self._agent = agent
        self._around = around

    @property
    def status(self) -> object:
        """What the agent says of itself, if it does."""
        return getattr(self._agent, "status", None)

    def handle(self, message: AgentMessage) -> Answer:
        """Let the agent handle a message."""
        agent = self._agent
        handle = agent.handle if isinstance(agent, Agent) else partial(hand_over, agent)
        return self._call(lambda: handle(message))

    def process(self, payload: Payload) -> Payload | Awaitable[Payload]:
        """Let the agent process a payload."""
        return self._call(lambda: self._agent.process(payload))

    def start(self) -> Awaitable[None] | None:
        """Tell the agent that a worker begins to serve it."""
        return self._call(self._agent.start)

    def stop(self) -> Awaitable[None] | None:
        """Tell the agent that a worker ends serving it."""
        return self._call(self._agent.stop)

    def health_check(self) -> bool:
        """Ask the agent whether it is well."""
        with self._around():
            return self._agent.health_check()

    def export_state(self) -> Payload | None:
        """Ask the agent what a successor shall be given."""
        with self._around():
            return self._agent.export_state()

    def import_state(self, state: Payload) -> None:
        """Give the agent what a predecessor exported."""
        with self._around():
            self._agent.import_state(state)

    def get_capabilities(self) -> Sequence[AgentCapability]:
        """Ask the agent what it can do."""
        with self._around():
            return self._agent.get_capabilities()

    def _call(self, call: Callable[[], T]) -> T | Awaitable[Any]:
        with self._around():
            answer = call()
        return self._awaited(answer) if inspect.isawaitable(answer) else answer

    async def _awaited(self, answer: Awaitable[T]) -> T:
        with self._around():
            return await answer
