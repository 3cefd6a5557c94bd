"""What became of messages: told to observers, and the bad of it to the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from tta_agent_coordination.coordinator import records
from tta_agent_coordination.coordinator.records import Delivery
from tta_agent_coordination.delivery import LeaseOutcome
from tta_agent_coordination.events import (
    DeadLettered,
    DeadLettersDropped,
    Event,
    Events,
    LeaseRenewed,
    LeasesRecovered,
    MessageAcked,
    MessageNacked,
    MessageReceived,
    MessageReleased,
)
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.message import FailureType

logger = logging.getLogger("tta_agent_coordination")

Settled = Callable[..., Event]
"""The class of an event that has an inbox, a message and an outcome."""


class News:
    """Reads in the answers of scripts what there is to tell.

    What is told of an answer that was lost is lost with it: the call is repeated, and what it did
    the first time is not done, nor told, again.
    """

    def __init__(self, events: Events) -> None:
        """Tell `events`."""
        self._events = events

    def received(self, inbox: AgentId, deliveries: Sequence[Delivery], visibility: float) -> None:
        """Messages were handed out."""
        if not self._events.observers:
            return
        for delivery in deliveries:
            self._events.tell(
                MessageReceived(
                    inbox=inbox,
                    message_id=delivery.message_id,
                    attempts=delivery.attempts,
                    inbox_seconds=delivery.age(visibility),
                )
            )

    def acked(
        self, inbox: AgentId, message_ids: Iterable[bytes], outcomes: Iterable[LeaseOutcome]
    ) -> None:
        """Messages were acknowledged."""
        self._settled(MessageAcked, inbox, message_ids, outcomes)

    def renewed(
        self, inbox: AgentId, message_ids: Iterable[bytes], outcomes: Iterable[LeaseOutcome]
    ) -> None:
        """Leases were to be renewed."""
        self._settled(LeaseRenewed, inbox, message_ids, outcomes)

    def released(
        self, inbox: AgentId, message_ids: Iterable[bytes], outcomes: Iterable[LeaseOutcome]
    ) -> None:
        """Messages were given back unhandled."""
        self._settled(MessageReleased, inbox, message_ids, outcomes)

    def nacked(
        self,
        inbox: AgentId,
        message_id: bytes,
        outcome: LeaseOutcome,
        failure: FailureType,
        delay: float | None,
        error: str | None,
    ) -> None:
        """A message was given back as failed."""
        if self._events.observers:
            self._events.tell(
                MessageNacked(
                    inbox=inbox,
                    message_id=records.shown(message_id),
                    outcome=outcome,
                    failure=failure,
                    delay=delay,
                    error=error,
                )
            )

    def buried(self, inbox: AgentId, dead: Sequence[bytes], dropped: int) -> None:
        """Messages went to the dead letters while others were looked for.

        Args:
            inbox: Of which inbox they are.
            dead: Id and reason of each.
            dropped: How many older ones made room for them.
        """
        for message_id, reason in zip(dead[::2], dead[1::2], strict=True):
            self.died(inbox, message_id, reason)
        self.dropped(inbox, dropped)

    def died(
        self, inbox: AgentId, message_id: bytes, reason: bytes, error: str | None = None
    ) -> None:
        """A message went to the dead letters."""
        shown, why = records.shown(message_id), reason.decode()
        because = "" if error is None else f" ({error})"
        logger.warning(
            "message %s of %s is dead: %s%s", shown, inbox, why, because,
            extra={
                "event": "dead_lettered",
                "inbox": str(inbox),
                "message_id": shown,
                "reason": why,
            },
        )  # fmt: skip
        if self._events.observers:
            self._events.tell(DeadLettered(inbox=inbox, message_id=shown, reason=why, error=error))

    def dropped(self, inbox: AgentId, count: int) -> None:
        """The oldest dead letters made room for newer ones."""
        if not count:
            return
        logger.warning(
            "%d dead letters of %s were dropped: there were more than dead_letter_limit",
            count,
            inbox,
            extra={"event": "dead_letters_dropped", "inbox": str(inbox), "count": count},
        )
        if self._events.observers:
            self._events.tell(DeadLettersDropped(inbox=inbox, count=count))

    def recovered(self, inbox: AgentId, count: int) -> None:
        """Expired leases were moved back."""
        if count and self._events.observers:
            self._events.tell(LeasesRecovered(inbox=inbox, count=count))

    def _settled(
        self,
        kind: Settled,
        inbox: AgentId,
        message_ids: Iterable[bytes],
        outcomes: Iterable[LeaseOutcome],
    ) -> None:
        if not self._events.observers:
            return
        for message_id, outcome in zip(message_ids, outcomes, strict=True):
            shown = records.shown(message_id)
            self._events.tell(kind(inbox=inbox, message_id=shown, outcome=outcome))
