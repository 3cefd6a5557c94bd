"""The planner: asks for an analysis of each file."""

from __future__ import annotations

from tta_agent_coordination import AgentMessage, MessageType, handles
from tta_agent_coordination.demo.corpus import Task, plan
from tta_agent_coordination.demo.role import Role
from tta_agent_coordination.demo.settings import ANALYST, HOLD, PLANNER

WINDOW = 5_000
"""Requests that wait for their answers at most: half of what an inbox holds."""


class Planner(Role):
    """Sends one request for each task; once the window is full, one for each answer that comes."""

    def start(self) -> None:
        """Fill the window."""
        self._requests = [request(*numbered) for numbered in enumerate(plan(self.folder))]
        self._sent = 0
        self._answered: set[str | None] = set()
        self._send(WINDOW)

    @handles(message_type=MessageType.RESPONSE)
    def answered(self, message: AgentMessage) -> None:
        """Count an answer, which is an error where the file is no Python."""
        if message.correlation_id not in self._answered:
            self._send(1)
            self._answered.add(message.correlation_id)
            self.tell("answered", failed="error" in message.payload)
        self.tell("handled", inbox=str(PLANNER))

    def _send(self, most: int) -> None:
        batch = self._requests[self._sent : self._sent + most]
        if batch:
            self.coordinator.send_many(PLANNER, batch)
            self._sent += len(batch)
            self.tell("sent", count=len(batch), of=len(self._requests))


def request(number: int, task: Task) -> AgentMessage:
    """Return the request for a task.

    Its id follows from its number: a planner that dies and begins again asks for nothing twice.
    """
    return AgentMessage(
        PLANNER,
        ANALYST,
        {"file": task.file, "source": task.source},
        message_type=MessageType.REQUEST,
        priority=task.priority,
        message_id=f"request-{number}",
        headers={HOLD: "yes"} if task.hold else {},
    )
