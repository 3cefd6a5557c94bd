"""Copies of messages that move to another inbox, each told apart from all others of its id."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import attrs

from tta_agent_coordination.coordinator.outbox import Letter, Outbox
from tta_agent_coordination.delivery import MessageResult, ReceivedMessage
from tta_agent_coordination.identity import AgentId


def store_copies(
    outbox: Outbox, origin: AgentId, to: AgentId, received: Sequence[ReceivedMessage]
) -> list[MessageResult]:
    """Store in the inbox of `to` what was received from that of `origin`.

    A move that was cut short and is made again finds its own copies, and says that they are stored.
    ``duplicate`` is what it says of a message whose id came from elsewhere, by a broadcast say:
    that one was not stored.
    """
    return outbox.store_all([_letter(outbox, origin, to, one) for one in received])


def _letter(outbox: Outbox, origin: AgentId, to: AgentId, received: ReceivedMessage) -> Letter:
    letter = outbox.letter(received.message.sender, to, received.message)
    return attrs.evolve(letter, call=_copy_id(origin, to, received))


def _copy_id(origin: AgentId, to: AgentId, received: ReceivedMessage) -> str:
    """Name the copy of what was stored once in one inbox: the same whenever it is moved."""
    stored_at = received.queue_message.enqueued_at.isoformat()
    what = f"{origin} {to} {stored_at} {received.message.message_id}"
    return hashlib.blake2b(what.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
