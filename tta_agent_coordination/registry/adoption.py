"""What becomes of the messages in the inbox of an agent that is gone."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable

from tta_agent_coordination.coordinator.core import RedisMessageCoordinator
from tta_agent_coordination.errors import CoordinationError
from tta_agent_coordination.identity import AgentId

logger = logging.getLogger("tta_agent_coordination")

_A_STEP = 100
_STEPS = 100
# Shorter than a mark lives: when a move is taken up again, what was moved is recognized even if it
# was handled meanwhile.
_VISIBILITY = 30.0


def move_messages(coordinator: RedisMessageCoordinator, origin: AgentId, to: AgentId) -> int:
    """Move what can be received in the inbox of `origin` to that of `to`; return how many.

    Each message is stored there first and acknowledged here after, under its own id. What is on
    lease, or delayed, stays until that has passed; so does a copy of a message whose id is known
    there from elsewhere. At most 10,000 are moved in one call.
    """
    if to == origin:
        return 0
    moved, kept = 0, list[str]()
    try:
        for _ in range(_STEPS):
            received = coordinator.receive_many(origin, _A_STEP, _VISIBILITY)
            results = coordinator.internals.store_copies(origin, to, received)
            stored = list[str]()
            for one, result in zip(received, results, strict=True):
                fits = result.delivered and not result.duplicate
                (stored if fits else kept).append(one.token)
            moved += sum(map(bool, coordinator.ack_many(origin, stored)))
            if not all(result.delivered for result in results):
                _warn_of_room(origin, to)
                break
            if not received:
                break
    finally:  # not before: they would be received again
        _release(coordinator, origin, kept)
    return moved


def _release(coordinator: RedisMessageCoordinator, origin: AgentId, tokens: Iterable[str]) -> None:
    with contextlib.suppress(CoordinationError):  # their leases will pass
        for token in tokens:
            coordinator.release(origin, token)


def _warn_of_room(origin: AgentId, to: AgentId) -> None:
    logger.warning(
        "the inbox of %s has no room for the messages of %s",
        to,
        origin,
        extra={"event": "no_room_to_move", "agent": str(origin), "inbox": str(to)},
    )
