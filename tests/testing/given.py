"""Agents and messages that the tests of the sandbox share."""

import threading
from typing import Any

from tta_agent_coordination import Agent, AgentId, AgentMessage, MessageResult
from tta_agent_coordination.testing import Sandbox

SENDER, WORKER, OTHER = AgentId("sender"), AgentId("worker"), AgentId("other")


def send(sandbox: Sandbox, recipient: AgentId = WORKER, delay: float = 0.0, **payload: Any):
    message = AgentMessage(SENDER, recipient, payload)
    return sandbox.coordinator.send_message(SENDER, recipient, message, delay=delay)


def stored(result: MessageResult) -> bool:
    return result.delivered and not result.duplicate


class Noting(Agent):
    """Notes what it gets."""

    def __init__(self, agent_id: AgentId = WORKER) -> None:
        super().__init__(agent_id)
        self.got: list[dict[str, Any]] = []

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        self.got.append(payload)
        return {}


class Failing(Agent):
    """Fails."""

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError(f"cannot do {payload}")


class Holding(Agent):
    """Holds what it gets until it is let go."""

    def __init__(self, agent_id: AgentId = WORKER) -> None:
        super().__init__(agent_id)
        self.began, self.let_go = threading.Event(), threading.Event()

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        self.began.set()
        assert self.let_go.wait(10.0)
        return payload
