"""The abstract interface of a message coordinator; `RedisMessageCoordinator` carries it out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Self

from tta_agent_coordination.delivery import (
    DeadLetter,
    InboxStats,
    LeaseOutcome,
    MessageResult,
    MessageSubscription,
    ReceivedMessage,
)
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.message import AgentMessage, FailureType, MessageType


class MessageCoordinator(ABC):
    """Carries messages between the inboxes of agents.

    All durations are seconds. Every method may raise `CoordinatorUnavailableError` when the
    server cannot be reached within the deadline of a call; every method may then be repeated.
    Arguments that are wrong raise ``TypeError`` or ``ValueError`` before anything is sent.
    """

    @abstractmethod
    def send_message(
        self, sender: AgentId, recipient: AgentId, message: AgentMessage, *, delay: float = 0.0
    ) -> MessageResult:
        """Store `message` in the inbox of `recipient`.

        Args:
            sender: Wins over the message's own sender.
            recipient: Wins over the message's own recipient.
            message: What to send. A second message of the same id is not stored while the first
                is unfinished, nor within the dedup window after its end.
            delay: Seconds before it can be received.

        Returns:
            Whether it is there; not when the inbox is full (``"queue full"``).

        Raises:
            MessageTooLargeError: Its stored form is larger than ``max_message_bytes``.
        """

    @abstractmethod
    def send_many(self, sender: AgentId, messages: Iterable[AgentMessage]) -> list[MessageResult]:
        """Store each message in the inbox of its own recipient, in few round trips.

        Each message is stored or not by itself; those to one inbox keep their order.

        Args:
            sender: Wins over the senders of the messages.
            messages: What to send.

        Returns:
            The outcomes, in the order given.

        Raises:
            MessageTooLargeError: One of them is larger than ``max_message_bytes`` in its stored
                form; none is stored then.
        """

    @abstractmethod
    def broadcast_message(
        self, sender: AgentId, message: AgentMessage, recipients: Iterable[AgentId]
    ) -> list[MessageResult]:
        """Store one independent copy of `message`, under its one id, in each inbox.

        Args:
            sender: Wins over the message's own sender.
            message: What to send.
            recipients: Whose inboxes.

        Returns:
            The outcomes, in the order given.

        Raises:
            MessageTooLargeError: Its stored form is larger than ``max_message_bytes``; no copy is
                stored then.
        """

    @abstractmethod
    def subscribe_to_messages(
        self,
        agent_id: AgentId,
        message_types: Iterable[MessageType],
        *,
        topics: Iterable[str] = (),
    ) -> MessageSubscription:
        """Ask for published messages, until `unsubscribe`; asking again changes nothing.

        Args:
            agent_id: Whose inbox they go to.
            message_types: Which types; at least one.
            topics: Which topics; one that ends in ``*`` stands for all that begin so. Empty: all.

        Returns:
            The subscription, which `unsubscribe` takes.
        """

    @abstractmethod
    def unsubscribe(self, subscription: MessageSubscription) -> None:
        """Withdraw a subscription; what is in the inbox already stays there."""

    @abstractmethod
    def publish(self, sender: AgentId, message: AgentMessage) -> list[MessageResult]:
        """Store a copy of `message` for every agent with a subscription that matches it.

        Args:
            sender: Wins over the message's own sender.
            message: What to send; its own recipient counts for nothing.

        Returns:
            One outcome for each such agent, in the order of their ids; empty if there is none.

        Raises:
            MessageTooLargeError: Its stored form is larger than ``max_message_bytes``; no copy is
                stored then.
        """

    @abstractmethod
    def receive(
        self, agent_id: AgentId, visibility_timeout: float = 5.0, *, wait: float = 0.0
    ) -> ReceivedMessage | None:
        """Take the next message of an inbox on lease.

        Args:
            agent_id: Whose inbox.
            visibility_timeout: Seconds for which nobody else gets it.
            wait: Seconds to wait for one, blocked on the server.

        Returns:
            The message with its token, or None if there is none.
        """

    @abstractmethod
    def receive_many(
        self,
        agent_id: AgentId,
        max_messages: int,
        visibility_timeout: float = 5.0,
        *,
        wait: float = 0.0,
    ) -> list[ReceivedMessage]:
        """Take up to `max_messages` on lease, 1,000 in each step.

        Args:
            agent_id: Whose inbox.
            max_messages: How many at most; at least 1.
            visibility_timeout: Seconds for which nobody else gets them.
            wait: Seconds to wait for the first, blocked on the server.

        Returns:
            Those that are ready, as soon as there is one; empty if there is none.
        """

    @abstractmethod
    def ack(self, agent_id: AgentId, token: str) -> LeaseOutcome:
        """Finish a message: it was handled.

        Args:
            agent_id: Whose inbox it came from.
            token: Of the delivery.

        Returns:
            True in a condition when it is finished: DONE, or ALREADY_DONE by the same token. False
            when nothing changed: STALE, because somebody else holds the message, or held it
            since, or this token gave it back; UNKNOWN, because the inbox does not know the token,
            or not any more. A lease that has passed still counts until it is handed out again.
        """

    @abstractmethod
    def ack_many(self, agent_id: AgentId, tokens: Sequence[str]) -> list[LeaseOutcome]:
        """Finish several messages, 1,000 in each step.

        Args:
            agent_id: Whose inbox they came from.
            tokens: Of the deliveries.

        Returns:
            An outcome for each token, in their order; see `ack`.
        """

    @abstractmethod
    def nack(
        self,
        agent_id: AgentId,
        token: str,
        failure: FailureType = FailureType.TRANSIENT,
        error: str | None = None,
        *,
        delay: float | None = None,
    ) -> LeaseOutcome:
        """Give a message back because it could not be handled.

        Args:
            agent_id: Whose inbox it came from.
            token: Of the delivery.
            failure: TRANSIENT and TIMEOUT are retried after a back-off, while attempts are left;
                PERMANENT goes to the dead letters at once.
            error: Why; kept with the message, up to 4,096 characters.
            delay: Seconds before the retry, in place of the back-off.

        Returns:
            True in a condition when it is given back: DONE, or ALREADY_DONE by the same token.
            STALE and UNKNOWN, as for `ack`, are false, and nothing changed.
        """

    @abstractmethod
    def extend(self, agent_id: AgentId, token: str, visibility_timeout: float) -> LeaseOutcome:
        """Let a lease end `visibility_timeout` seconds from now.

        Args:
            agent_id: Whose inbox the message came from.
            token: Of the delivery.
            visibility_timeout: Seconds, more or fewer than are left.

        Returns:
            DONE, which is true in a condition, also if the lease had passed but the message was
            not handed out again. STALE and UNKNOWN, as for `ack`, are false: the message is not
            the caller's any more.
        """

    @abstractmethod
    def release(self, agent_id: AgentId, token: str) -> LeaseOutcome:
        """Give a message back unhandled: receivable at once, the attempt not counted.

        Args:
            agent_id: Whose inbox it came from.
            token: Of the delivery.

        Returns:
            True in a condition when it is given back: DONE, or ALREADY_DONE by the same token.
            STALE and UNKNOWN, as for `ack`, are false, and nothing changed.
        """

    @abstractmethod
    def recover_pending(self, agent_id: AgentId | None = None) -> int:
        """Move expired leases back, or to the dead letters when no attempt is left.

        Only inboxes that nobody reads need it: ``receive`` does the same.

        Args:
            agent_id: Whose inbox; None for all.

        Returns:
            How many leases had expired.
        """

    @abstractmethod
    def configure(
        self,
        *,
        queue_size: int | None = None,
        retry_attempts: int | None = None,
        backoff_base: float | None = None,
        backoff_factor: float | None = None,
        backoff_max: float | None = None,
        dedup_window: float | None = None,
        dead_letter_limit: int | None = None,
        max_message_bytes: int | None = None,
    ) -> None:
        """Change options of this coordinator, from its next call on; None leaves one as it is.

        They are not shared: configure all processes that use an inbox alike.

        Args:
            queue_size: Unfinished messages that an inbox holds at most; 10,000 unless it is set.
            retry_attempts: Deliveries after the first; 3.
            backoff_base: Seconds before the first retry; 1.
            backoff_factor: What each further retry multiplies the wait by; 2.
            backoff_max: Seconds that a retry waits at most; 30.
            dedup_window: Seconds after its end for which a repeated message is recognized; 60.
            dead_letter_limit: Dead letters kept for an inbox; 10,000.
            max_message_bytes: Bytes of a message in its stored form; 1,048,576.
        """

    @abstractmethod
    def stats(self, agent_id: AgentId) -> InboxStats:
        """Count what an inbox holds; changes nothing."""

    @abstractmethod
    def purge(self, agent_id: AgentId) -> int:
        """Drop every unfinished message of an inbox, leased ones included; return how many."""

    @abstractmethod
    def dead_letters(
        self, agent_id: AgentId, *, limit: int = 100, offset: int = 0
    ) -> list[DeadLetter]:
        """Read up to `limit` dead letters of an inbox after the first `offset`, oldest first."""

    @abstractmethod
    def replay_dead_letters(
        self,
        agent_id: AgentId,
        *,
        message_ids: Sequence[str] | None = None,
        to: AgentId | None = None,
        limit: int | None = None,
    ) -> int:
        """Make dead letters receivable again, as if sent anew: attempts 0, last of their priority.

        A time to live begins anew: what expires again is a dead letter again, with the error that
        it had.

        Args:
            agent_id: Whose dead letters.
            message_ids: Which; None for all, the oldest first.
            to: Another inbox to move them to.
            limit: How many at most.

        Returns:
            How many were moved. Those for which there is no room, or which do not decode and were
            to go to another inbox, stay dead letters. ``max_message_bytes`` keeps none back.
        """

    @abstractmethod
    def purge_dead_letters(
        self, agent_id: AgentId, *, message_ids: Sequence[str] | None = None
    ) -> int:
        """Drop dead letters of an inbox: those named, or all; return how many."""

    @abstractmethod
    def request(
        self, sender: AgentId, recipient: AgentId, payload: dict[str, Any], *, timeout: float
    ) -> AgentMessage:
        """Send a REQUEST and wait for its RESPONSE.

        Any number of threads may wait at once; one thread of the library's own reads the replies
        for all. A reply that comes too late is dropped, and a request that nobody has begun when
        the time is up is taken back.

        Args:
            sender: Who asks.
            recipient: Who is asked.
            payload: A JSON object.
            timeout: Seconds to wait for the reply.

        Raises:
            RequestTimeoutError: No reply came in time; it says what had become of the request, and
                how its last try failed if one did.
            RemoteAgentError: The agent that was asked failed, and its retries are used up.
            InboxFullError: Its inbox has no room.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connections; calls under way fail. Safe to repeat, and from any thread."""

    def __enter__(self) -> Self:
        """Return itself; closed at the end of the ``with``."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
