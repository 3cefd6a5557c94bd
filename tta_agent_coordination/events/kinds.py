"""The kinds of events: frozen values, each kind with a name that stays the same."""

from __future__ import annotations

from typing import ClassVar

import attrs

from tta_agent_coordination.delivery import LeaseOutcome, MessageResult, ReceivedMessage
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.message import AgentMessage, FailureType


@attrs.frozen(kw_only=True, eq=False)
class Event:
    """Something that happened.

    Attributes:
        name: Of this kind of event; it stays the same in later versions.
    """

    name: ClassVar[str]


@attrs.frozen(kw_only=True, eq=False)
class SendBegun(Event):
    """Messages are about to be stored.

    Attributes:
        operation: ``send``, or ``publish`` for what goes to subscribers.
        messages: Copies of what was given, with their final senders and recipients. What an
            observer adds to their ``headers`` is sent along.
    """

    name = "send_begun"
    operation: str
    messages: tuple[AgentMessage, ...]


@attrs.frozen(kw_only=True, eq=False)
class SendEnded(Event):
    """Messages were stored, or were not.

    Attributes:
        begun: What began.
        seconds: How long it took.
        results: What came of each, in their order; empty when there was an error.
        error: What was raised: whether anything was stored is not known. None: nothing was.
    """

    name = "send_ended"
    begun: SendBegun
    seconds: float
    results: tuple[MessageResult, ...] = ()
    error: BaseException | None = None

    @property
    def outcomes(self) -> list[str]:
        """For each message ``stored``, ``duplicate``, ``refused`` or ``failed``."""
        if self.error is not None:
            return ["failed"] * len(self.begun.messages)
        return [_outcome(result) for result in self.results]


def _outcome(result: MessageResult) -> str:
    if result.duplicate:
        return "duplicate"
    return "stored" if result.delivered else "refused"


@attrs.frozen(kw_only=True, eq=False)
class RequestBegun(Event):
    """A request is about to be sent, and its reply waited for.

    Attributes:
        sender: Who asks.
        recipient: Who is asked.
    """

    name = "request_begun"
    sender: AgentId
    recipient: AgentId


@attrs.frozen(kw_only=True, eq=False)
class RequestEnded(Event):
    """The reply to a request is here, or is not waited for any more.

    Attributes:
        begun: What began.
        seconds: How long it took.
        outcome: ``answered``; ``failed`` when the other agent did; ``timed_out``; ``refused`` when
            its inbox is full; ``error`` for anything else.
        error: What was raised; None: nothing was.
    """

    name = "request_ended"
    begun: RequestBegun
    seconds: float
    outcome: str
    error: BaseException | None = None


@attrs.frozen(kw_only=True, eq=False)
class MessageReceived(Event):
    """A message was handed out to this process.

    Attributes:
        inbox: From which inbox.
        message_id: Which message.
        attempts: How often it was handed out, this time included.
        inbox_seconds: From its storing to now, by the server's clock, a delay included; None
            when the stored bytes are no message.
    """

    name = "message_received"
    inbox: AgentId
    message_id: str
    attempts: int
    inbox_seconds: float | None


@attrs.frozen(kw_only=True, eq=False)
class MessageAcked(Event):
    """A message was acknowledged.

    Attributes:
        inbox: Of which inbox it is.
        message_id: Which message.
        outcome: Whether that counts.
    """

    name = "message_acked"
    inbox: AgentId
    message_id: str
    outcome: LeaseOutcome


@attrs.frozen(kw_only=True, eq=False)
class MessageNacked(Event):
    """A message was given back as failed.

    Attributes:
        inbox: Of which inbox it is.
        message_id: Which message.
        outcome: Whether that counts.
        failure: Why.
        delay: Seconds until it is tried again, as was asked for; None for the back-off.
        error: What was given as the error.
    """

    name = "message_nacked"
    inbox: AgentId
    message_id: str
    outcome: LeaseOutcome
    failure: FailureType
    delay: float | None
    error: str | None


@attrs.frozen(kw_only=True, eq=False)
class MessageReleased(Event):
    """A message was given back unhandled.

    Attributes:
        inbox: Of which inbox it is.
        message_id: Which message.
        outcome: Whether that counts.
    """

    name = "message_released"
    inbox: AgentId
    message_id: str
    outcome: LeaseOutcome


@attrs.frozen(kw_only=True, eq=False)
class DeadLettered(Event):
    """A message went to the dead letters, in an operation of this process.

    Attributes:
        inbox: Of which inbox it is.
        message_id: Which message.
        reason: Why, as in `DeadLetter`.
        error: What the last nack gave as the error, where this was it; None otherwise.
    """

    name = "dead_lettered"
    inbox: AgentId
    message_id: str
    reason: str
    error: str | None = None


@attrs.frozen(kw_only=True, eq=False)
class DeadLettersDropped(Event):
    """The oldest dead letters made room for newer ones.

    Attributes:
        inbox: Of which inbox they were.
        count: How many were dropped.
    """

    name = "dead_letters_dropped"
    inbox: AgentId
    count: int


@attrs.frozen(kw_only=True, eq=False)
class LeaseRenewed(Event):
    """A lease was to be renewed.

    Attributes:
        inbox: Of which inbox the message is.
        message_id: Which message.
        outcome: Whether it was.
    """

    name = "lease_renewed"
    inbox: AgentId
    message_id: str
    outcome: LeaseOutcome


@attrs.frozen(kw_only=True, eq=False)
class LeaseLost(Event):
    """A worker has lost the lease of a message in hand: it may be handled twice.

    Attributes:
        inbox: Of which inbox the message is.
        message_id: Which message.
        why: In words.
    """

    name = "lease_lost"
    inbox: AgentId
    message_id: str
    why: str


@attrs.frozen(kw_only=True, eq=False)
class LeasesRecovered(Event):
    """Expired leases were moved back by ``recover_pending``, or by one who waited.

    Those that a ``receive`` moves are not counted; their messages come with more `attempts`.

    Attributes:
        inbox: Of which inbox.
        count: How many leases had expired.
    """

    name = "leases_recovered"
    inbox: AgentId
    count: int


@attrs.frozen(kw_only=True, eq=False)
class HandlerBegun(Event):
    """A worker is about to call an agent.

    Attributes:
        agent_id: Whose handler is called.
        inbox: From which inbox the message is.
        received: The message.
    """

    name = "handler_begun"
    agent_id: AgentId
    inbox: AgentId
    received: ReceivedMessage


@attrs.frozen(kw_only=True, eq=False)
class HandlerEnded(Event):
    """A handler has ended, and its answer is sent or its message given back.

    Attributes:
        begun: What began.
        seconds: How long it took, the answer or the giving back included.
        outcome: ``done``, ``failed``, ``rejected`` or ``retry_later``.
        error: What was raised; None: nothing was.
    """

    name = "handler_ended"
    begun: HandlerBegun
    seconds: float
    outcome: str
    error: BaseException | None = None


@attrs.frozen(kw_only=True, eq=False)
class BreakerChanged(Event):
    """A circuit breaker has opened or closed, or tries whether it may close.

    Attributes:
        breaker: Its name: ``redis-commands`` and ``redis-leases`` are those around Redis.
        old: Its state before: ``closed``, ``open`` or ``half-open``.
        new: Its state now.
    """

    name = "breaker_changed"
    breaker: str
    old: str
    new: str


@attrs.frozen(kw_only=True, eq=False)
class HeartbeatsFailed(Event):
    """A heartbeat of this process's agents failed, and the one before it had not.

    Attributes:
        error: Why.
    """

    name = "heartbeats_failed"
    error: str


@attrs.frozen(kw_only=True, eq=False)
class HeartbeatsRecovered(Event):
    """A heartbeat succeeded, and the one before it had not."""

    name = "heartbeats_recovered"


@attrs.frozen(kw_only=True, eq=False)
class AgentSuperseded(Event):
    """An agent of this process was taken over, or ended, by another process.

    Attributes:
        agent_id: Which agent.
    """

    name = "agent_superseded"
    agent_id: AgentId


@attrs.frozen(kw_only=True, eq=False)
class AgentsRecovered(Event):
    """A round of ``detect_and_recover`` found an agent dead or unwell.

    Attributes:
        unhealthy: How many were.
        restarted: How many were restarted.
        given_up: How many were restarted too often.
        failed: For how many a hook raised.
        moved: How many messages of dead agents were moved.
    """

    name = "agents_recovered"
    unhealthy: int
    restarted: int
    given_up: int
    failed: int
    moved: int
