"""What the coordinator answers: results, leases, dead letters and the state of an inbox."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum

import attrs

from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.message import AgentMessage, MessagePriority, MessageType


@attrs.frozen
class MessageResult:
    """The outcome of sending one message to one inbox.

    Attributes:
        message_id: Of the message.
        delivered: Whether the inbox holds it, or has held it: with `duplicate`, the first copy may
            be finished or a dead letter by now.
        error: Why not, when not: ``"queue full"``.
        duplicate: Whether it had been sent before and nothing was stored this time.
        replicas: How many replicas have it too; None unless the coordinator was told to wait for
            ``replicas``. Fewer than that: it is stored, but a fail-over now could lose it.
    """

    message_id: str
    delivered: bool
    error: str | None = None
    duplicate: bool = False
    replicas: int | None = None


@attrs.frozen
class MessageSubscription:
    """A standing wish of an agent to get what is published.

    Attributes:
        subscription_id: Follows from the other fields, whatever their order: subscribing again
            changes nothing.
        agent_id: Whose inbox the messages go to.
        message_types: Which types it wants.
        topics: Which topics; one that ends in ``*`` stands for all that begin so. Empty: all.
    """

    subscription_id: str
    agent_id: AgentId
    message_types: tuple[MessageType, ...]
    topics: tuple[str, ...] = ()

    def matches(self, message: AgentMessage) -> bool:
        """Whether `message` is one this subscription asks for."""
        if message.message_type not in self.message_types:
            return False
        return not self.topics or any(
            topic_matches(wanted, message.routing.topic) for wanted in self.topics
        )


def topic_matches(wanted: str, topic: str | None) -> bool:
    """Whether `topic` is the one `wanted`, or begins with a wanted one that ends in ``*``."""
    if topic is None:
        return False
    return topic.startswith(wanted[:-1]) if wanted.endswith("*") else topic == wanted


@attrs.frozen
class QueueMessage:
    """A message with what its inbox knows of it.

    Attributes:
        message: As it was sent.
        priority: Its place among the others.
        enqueued_at: When the server stored it, by the server's clock.
        delivery_attempts: How often it was handed out, this time included.
        last_error: What the last ``nack`` gave as its error, since it was sent or replayed. A dead
            letter also has that of before a replay, if none came after.
    """

    message: AgentMessage
    priority: MessagePriority
    enqueued_at: datetime
    delivery_attempts: int = 0
    last_error: str | None = None


@attrs.frozen
class ReceivedMessage:
    """A message on lease to the one who received it.

    Attributes:
        token: Proof of this one delivery, for ack, nack, extend and release.
        queue_message: The message and its history.
        visibility_deadline: When the lease ends, by the server's clock.
    """

    token: str
    queue_message: QueueMessage
    visibility_deadline: datetime

    @property
    def message(self) -> AgentMessage:
        """The message itself."""
        return self.queue_message.message


@attrs.frozen
class DeadLetter:
    """A message that will not be delivered any more, unless it is replayed.

    Attributes:
        queue_message: The message and its history; None when its bytes do not decode.
        reason: ``permanent``, ``attempts_exhausted``, ``lease_expired``, ``expired`` or
            ``undecodable``.
        dead_at: When it died, by the server's clock.
        last_holder: Name of the consumer that held it last, by default ``host:pid``; None if
            nobody did.
        message_id: Of the message, decodable or not.
        raw: The stored bytes, when they do not decode.
    """

    queue_message: QueueMessage | None
    reason: str
    dead_at: datetime
    last_holder: str | None
    message_id: str = attrs.field(default="", kw_only=True)
    raw: bytes | None = attrs.field(default=None, kw_only=True)

    @property
    def message(self) -> AgentMessage | None:
        """The message itself; None when its bytes do not decode."""
        return None if self.queue_message is None else self.queue_message.message


class LeaseOutcome(Enum):
    """What became of an ack, nack, extend or release; true in a condition when it holds."""

    DONE = "done"
    """Carried out now."""
    ALREADY_DONE = "already done"
    """The same was done before with the same token."""
    STALE = "stale"
    """Somebody else holds the message, or held it since, or it was settled another way."""
    UNKNOWN = "unknown"
    """The inbox knows nothing of such a token, or not any more."""

    def __bool__(self) -> bool:
        """DONE and ALREADY_DONE are true."""
        return self in (LeaseOutcome.DONE, LeaseOutcome.ALREADY_DONE)


@attrs.frozen
class InboxStats:
    """The state of an inbox at one instant.

    Attributes:
        ready: How many can be received, for each priority.
        delayed: How many wait for their time, those included whose time has come but which no
            ``receive`` or ``recover_pending`` has met yet.
        leased: How many are on lease, those included whose deadline has passed but which no
            ``receive`` or ``recover_pending`` has met yet.
        dead: How many dead letters are kept.
        oldest_ready_age: Seconds since the oldest ready message was stored; None if none is ready.
        dead_dropped: How many dead letters were dropped because there were more than
            ``dead_letter_limit``, since they were last purged.
    """

    ready: Mapping[MessagePriority, int] = attrs.field(hash=False)
    delayed: int
    leased: int
    dead: int
    oldest_ready_age: float | None
    dead_dropped: int = 0
