"""An analyst: takes requests from the shared inbox, and sends what it finds to the reporter."""

from __future__ import annotations

import threading
from typing import Any

import attrs

from tta_agent_coordination import (
    AgentMessage,
    MessagePriority,
    MessageResult,
    ReceivedMessage,
    RejectMessage,
    RetryLater,
    current_message,
)
from tta_agent_coordination.demo.analysis import Analysis, NotPythonError, analyze_task
from tta_agent_coordination.demo.corpus import Task
from tta_agent_coordination.demo.role import Role
from tta_agent_coordination.demo.settings import ANALYST, HOLD, LEASE, REPORTER

NO_ROOM_DELAY = 0.5
"""Seconds before a request is tried again whose result the reporter's inbox has no room for."""


class Analyst(Role):
    """Answers each request once its result is on the way to the reporter."""

    def start(self) -> None:
        """Prepare to hold still."""
        self._released = threading.Event()

    def stop(self) -> None:
        """Hold still no longer; only one whose parent is gone gets here."""
        self._released.set()

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Analyze one file."""
        received = current_message().received
        task = Task(payload["file"], source=payload["source"])
        try:
            sent = self._send(received, analyze_task(self.folder, task))
        except NotPythonError as error:
            self._note(received, duplicate=False)
            raise RejectMessage(str(error)) from error
        if not sent.delivered:
            raise RetryLater(NO_ROOM_DELAY, f"the reporter: {sent.error}")
        self._note(received, duplicate=sent.duplicate)
        return {"file": task.file}

    def _send(self, received: ReceivedMessage, found: Analysis) -> MessageResult:
        # An analyst that dies after it sent a result, and before it finished the request, leaves
        # the request to be handled again. The second result has the id of the first, so the
        # reporter's inbox takes it for the same.
        request = received.message
        result = AgentMessage(
            self.agent_id,
            REPORTER,
            _payload(received, found),
            message_id=f"{request.message_id}.result",
            correlation_id=request.message_id,
        )
        return self.coordinator.send_message(self.agent_id, REPORTER, result)

    def _note(self, received: ReceivedMessage, *, duplicate: bool) -> None:
        message = received.message
        if received.queue_message.delivery_attempts > 1:
            self.tell("redelivered", message_id=message.message_id, duplicate=duplicate)
        elif HOLD in message.headers:
            # The worst of moments: the result is sent, and the request is not finished.
            self.tell("holding", message_id=message.message_id)
            self._released.wait()
        self.tell("handled", inbox=str(ANALYST))


def _payload(received: ReceivedMessage, found: Analysis) -> dict[str, Any]:
    stored = received.queue_message
    # Both times are the server's: no clock of any process is needed.
    handed_out = received.visibility_deadline.timestamp() - LEASE
    return {
        "file": received.message.payload["file"],
        "found": attrs.asdict(found),
        "urgent": stored.priority is MessagePriority.HIGH,
        "waited": max(handed_out - stored.enqueued_at.timestamp(), 0.0),
    }
