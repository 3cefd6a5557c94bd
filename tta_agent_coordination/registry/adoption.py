"""What becomes of the messages in the inbox of an agent that is dead."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import groupby

import attrs

from tta_agent_coordination.delivery import MessageResult
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.interfaces import MessageCoordinator
from tta_agent_coordination.message import AgentMessage

logger = logging.getLogger("tta_agent_coordination")

_A_STEP = 100
_STEPS = 100
# Shorter than the dedup window: when a move is taken up again, what was moved is recognized even
# if it was handled meanwhile.
_VISIBILITY = 30.0


def move_messages(coordinator: MessageCoordinator, origin: AgentId, to: AgentId) -> int:
    """Move what can be received in the inbox of `origin` to that of `to`; return how many.

    Each message is stored there first and acknowledged here after, under its own id. What is on
    lease, or delayed, stays until that has passed. At most 10,000 are moved in one call.
    """
    moved = 0
    if to == origin:
        return moved
    for _ in range(_STEPS):
        received = coordinator.receive_many(origin, _A_STEP, _VISIBILITY)
        results = _send(coordinator, [attrs.evolve(one.message, recipient=to) for one in received])
        pairs = list(zip(received, results, strict=True))
        stored = [one.token for one, result in pairs if result.delivered]
        moved += sum(map(bool, coordinator.ack_many(origin, stored)))
        if len(stored) < len(pairs):
            logger.warning(
                "the inbox of %s has no room for the messages of %s",
                to,
                origin,
                extra={"event": "no_room_to_move", "agent": str(origin), "inbox": str(to)},
            )
            for one, result in pairs:
                if not result.delivered:
                    coordinator.release(origin, one.token)
            break
        if not received:
            break
    return moved


def _send(coordinator: MessageCoordinator, messages: Sequence[AgentMessage]) -> list[MessageResult]:
    """Send messages in their order; those of one sender that follow each other, in one call."""
    return [
        result
        for sender, group in groupby(messages, key=lambda message: message.sender)
        for result in coordinator.send_many(sender, group)
    ]
