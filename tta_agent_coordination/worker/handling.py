"""Calling the agent, and settling what comes of it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from tta_agent_coordination import checks
from tta_agent_coordination.agents.agent import (
    Agent,
    AgentProxy,
    Answer,
    CurrentMessage,
    RejectMessage,
    RetryLater,
    hand_over,
    set_current,
)
from tta_agent_coordination.coordinator.core import RedisMessageCoordinator
from tta_agent_coordination.coordinator.leases import Failure
from tta_agent_coordination.coordinator.records import LONGEST_ERROR
from tta_agent_coordination.coordinator.requests import ATTEMPTS_HEADER, ERROR_HEADER
from tta_agent_coordination.delivery import ReceivedMessage
from tta_agent_coordination.errors import CoordinationError, InboxFullError, MessageTooLargeError
from tta_agent_coordination.events import HandlerBegun, HandlerEnded
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.message import AgentMessage, FailureType, MessageType
from tta_agent_coordination.worker.desk import Task
from tta_agent_coordination.worker.loop import WorkerLoop
from tta_agent_coordination.worker.renewer import lose

logger = logging.getLogger("tta_agent_coordination")


_OUTCOMES: dict[type[BaseException], str] = {
    RejectMessage: "rejected",
    RetryLater: "retry_later",
}
"""What is told of handlers that say themselves what is to happen."""


@attrs.frozen
class _Failure:
    """How a message is given back."""

    error_type: str
    text: str
    failure: FailureType = FailureType.TRANSIENT
    delay: float | None = None

    def __str__(self) -> str:
        return f"{self.error_type}: {self.text}"


class Handling:
    """Hands messages to the agents of a worker."""

    def __init__(
        self,
        coordinator: RedisMessageCoordinator,
        agents: Mapping[AgentId, Sequence[AgentProxy]],
        raised: Callable[[str], None],
        loop: WorkerLoop,
    ) -> None:
        """Serve these inboxes with these agents; those of a shared inbox take turns.

        Args:
            coordinator: Carries the answers.
            agents: Who serves each inbox.
            raised: Is told what handlers raise.
            loop: Runs those that are asynchronous.
        """
        self._coordinator = coordinator
        self._agents = agents
        self._raised = raised
        self._events = coordinator.events
        self._loop = loop
        self._turns = 0

    def handle(self, task: Task) -> bool:
        """Handle one message; whether it is done and shall be acknowledged.

        Raises:
            CoordinationError: It failed, and Redis could not be told: its lease will pass.
        """
        if task.came_late:
            self._leave(task)
            return False
        opened = task.feed.inbox.opened(task.inbox, task.delivery)
        if opened is None:
            task.finished = True
            return False
        agent = self._agent(task.inbox)
        _, message = opened
        current = task.begin(*opened)
        set_current(current)
        begun = self._begin(agent, task.inbox, current)
        began_at, error = time.monotonic(), None
        try:
            answer = self._loop.finish(_call(agent, message))
            _check(message, answer)
            task.finished = True
            if message.message_type is MessageType.REQUEST and not task.inherited:
                self._answer(agent, message, answer or {})
        except BaseException as raised:
            task.finished, error = True, raised
            if task.inherited:
                raise
            self._give_back(agent, task, current.received, error)
            return False
        finally:
            if begun is not None and not task.inherited:
                self._end(begun, time.monotonic() - began_at, error)
            error = None  # it has this frame
            set_current(None)
        return True

    def _leave(self, task: Task) -> None:
        """Begin nothing that somebody else may have by now; to release it would be refused."""
        task.finished = True
        if not task.lease_lost:
            lose(task, "it was over before its handler began", self._events)

    def _begin(
        self, agent: AgentProxy, inbox: AgentId, current: CurrentMessage
    ) -> HandlerBegun | None:
        if not self._events.observers:
            return None
        begun = HandlerBegun(agent_id=agent.agent_id, inbox=inbox, received=current.received)
        self._events.tell(begun)
        return begun

    def _end(self, begun: HandlerBegun, seconds: float, error: BaseException | None) -> None:
        outcome = "done" if error is None else _OUTCOMES.get(type(error), "failed")
        self._events.tell(HandlerEnded(begun=begun, seconds=seconds, outcome=outcome, error=error))

    def _agent(self, inbox: AgentId) -> AgentProxy:
        agents = self._agents[inbox]
        self._turns += 1
        return agents[self._turns % len(agents)]

    def _give_back(
        self, agent: AgentProxy, task: Task, received: ReceivedMessage, error: BaseException
    ) -> None:
        failure = _failure(error)
        if not isinstance(error, (RejectMessage, RetryLater)):  # those were meant
            _log_raised(task.inbox, received, error)
        self._raised(str(failure))
        given = Failure(kind=failure.failure, error=str(failure), delay=failure.delay)
        outcome, died_of = task.feed.inbox.nack(task.inbox, received.token, given)
        message = received.message
        fate = died_of or ("will be retried" if outcome else f"its lease is {outcome.value}")
        logger.info(
            "message %s failed, %s: %s", message.message_id, fate, failure,
            extra={
                "event": "message_failed",
                "inbox": str(task.inbox),
                "message_id": message.message_id,
            },
        )  # fmt: skip
        if died_of and message.message_type is MessageType.REQUEST:
            self._tell(agent, received, failure)

    def _tell(self, agent: AgentProxy, received: ReceivedMessage, failure: _Failure) -> None:
        """Tell the one who asked that nothing will come of it."""
        attempts = received.queue_message.delivery_attempts
        headers = {ERROR_HEADER: failure.error_type, ATTEMPTS_HEADER: str(attempts)}
        message = received.message
        try:
            self._answer_shortened(agent, message, failure.text, headers)
        except CoordinationError as error:
            logger.warning(
                "who asked %s was not told of its end: %s", message.message_id, error,
                extra={
                    "event": "answer_lost",
                    "inbox": str(message.recipient),
                    "message_id": message.message_id,
                },
            )  # fmt: skip

    def _answer_shortened(
        self, agent: AgentProxy, request: AgentMessage, text: str, headers: dict[str, str]
    ) -> None:
        """Answer with as much of the text of an error as a message may hold."""
        while True:
            try:
                return self._answer(agent, request, {"error": text}, headers)
            except MessageTooLargeError:
                if not text:
                    raise
            text = text[: len(text) // 2]

    def _answer(
        self,
        agent: AgentProxy,
        request: AgentMessage,
        payload: dict[str, Any],
        headers: dict[str, str] | None = None,
    ) -> None:
        reply = AgentMessage(
            agent.agent_id,
            request.reply_to or request.sender,
            payload,
            message_type=MessageType.RESPONSE,
            priority=request.priority,
            message_id=_reply_id(request),
            correlation_id=request.correlation_id or request.message_id,
            headers=headers or {},
        )
        result = self._coordinator.send_message(reply.sender, reply.recipient, reply)
        if not result.delivered:
            raise InboxFullError(f"the inbox of {reply.recipient} takes no reply: {result.error}")


def _call(agent: AgentProxy, message: AgentMessage) -> Answer:
    return agent.handle(message) if isinstance(agent, Agent) else hand_over(agent, message)


def _check(message: AgentMessage, answer: object) -> None:
    if message.message_type is MessageType.REQUEST and answer is not None:
        checks.instance_of("the answer of a handler", answer, dict)


def _log_raised(inbox: AgentId, received: ReceivedMessage, error: BaseException) -> None:
    message_id = received.message.message_id
    logger.warning(
        "a handler of %s failed: message %s, attempt %d", inbox, message_id,
        received.queue_message.delivery_attempts, exc_info=error,
        extra={"event": "handler_failed", "inbox": str(inbox), "message_id": message_id},
    )  # fmt: skip


def _failure(error: BaseException) -> _Failure:
    return _Failure(
        type(error).__name__,
        _text(error),
        FailureType.PERMANENT if isinstance(error, RejectMessage) else FailureType.TRANSIENT,
        delay=error.delay if isinstance(error, RetryLater) else None,
    )


def _text(error: BaseException) -> str:
    try:
        return str(error)[:LONGEST_ERROR]
    except BaseException as broken:  # noqa: BLE001 - an error of the user's may be anything
        return f"its text cannot be read: {type(broken).__name__}"


def _reply_id(request: AgentMessage) -> str:
    """Return the same id for each delivery of a request, so that one reply is stored.

    The recipient is part of it: several may be sent the same message, and each one answers.
    """
    name = f"{request.recipient} {request.message_id}".encode("utf-8", "surrogatepass")
    return f"re-{hashlib.blake2b(name, digest_size=16).hexdigest()}"
