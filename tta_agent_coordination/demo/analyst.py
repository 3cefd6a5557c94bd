"""An analyst: takes requests from the shared inbox, and sends what it finds to the reporter."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import attrs

from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    FailureType,
    MessageCoordinator,
    MessagePriority,
    ReceivedMessage,
)
from tta_agent_coordination.demo.analysis import Analysis, NotPythonError, analyze_task
from tta_agent_coordination.demo.corpus import Task
from tta_agent_coordination.demo.settings import (
    ANALYST,
    HOLD,
    LEASE,
    PREFETCH,
    REPORTER,
    WAIT,
    Settings,
    Tell,
)


def run(
    coordinator: MessageCoordinator, settings: Settings, stop: threading.Event, tell: Tell
) -> None:
    """Handle requests until `stop` is set."""
    analyst = Analyst(AgentId.parse(settings.me), coordinator, Path(settings.folder), stop, tell)
    while not stop.is_set():
        analyst.handle(coordinator.receive_many(ANALYST, PREFETCH, LEASE, wait=WAIT))


@attrs.frozen
class Verdict:
    """What became of one request.

    Attributes:
        failure: How it failed, if it did.
        reason: Why it failed.
        duplicate: Whether its result had been sent before.
    """

    failure: FailureType | None = None
    reason: str | None = None
    duplicate: bool = False


@attrs.frozen
class Analyst:
    """Handles requests, a few at a time."""

    me: AgentId
    coordinator: MessageCoordinator
    folder: Path
    stop: threading.Event
    tell: Tell

    def handle(self, batch: list[ReceivedMessage]) -> None:
        """Analyze what was received, answer, and finish it, one after the other."""
        for position, received in enumerate(batch):
            verdict = self._work(received)
            again = received.queue_message.delivery_attempts > 1
            if HOLD in received.message.headers and not again:
                self._hold(batch[position:])
                return
            if again:
                self.tell(
                    "redelivered",
                    message_id=received.message.message_id,
                    duplicate=verdict.duplicate,
                )
            self._settle(received, verdict)
            self.tell("handled", inbox=str(ANALYST), count=1)

    def _work(self, received: ReceivedMessage) -> Verdict:
        try:
            found = analyze_task(self.folder, _task(received))
        except NotPythonError as error:
            return Verdict(FailureType.PERMANENT, str(error))
        sent = self.coordinator.send_message(self.me, REPORTER, self._result(received, found))
        if not sent.delivered:
            return Verdict(FailureType.TRANSIENT, sent.error)
        return Verdict(duplicate=sent.duplicate)

    def _settle(self, received: ReceivedMessage, verdict: Verdict) -> None:
        if verdict.failure is None:
            self.coordinator.ack(ANALYST, received.token)
        else:
            self.coordinator.nack(ANALYST, received.token, verdict.failure, verdict.reason)

    def _result(self, received: ReceivedMessage, found: Analysis) -> AgentMessage:
        # An analyst that dies after it sent a result, and before it finished the request, leaves
        # the request to be handled again. The second result has the id of the first, so the
        # reporter's inbox takes it for the same.
        request = received.message
        return AgentMessage(
            self.me,
            REPORTER,
            _payload(received, found),
            message_id=f"{request.message_id}.result",
            correlation_id=request.message_id,
        )

    def _hold(self, unfinished: list[ReceivedMessage]) -> None:
        """Stand still at the worst of moments, answered and not finished, until the end."""
        self.tell("holding", message_ids=[one.message.message_id for one in unfinished])
        self.stop.wait()


def _task(received: ReceivedMessage) -> Task:
    payload = received.message.payload
    return Task(payload["file"], source=payload["source"])


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
