"""What a claim asks for, and what it brings."""

from __future__ import annotations

from functools import lru_cache

import attrs

from tta_agent_coordination.coordinator.calls import HORIZON, microseconds
from tta_agent_coordination.coordinator.leases import burial
from tta_agent_coordination.delivery import ReceivedMessage
from tta_agent_coordination.policy import InboxPolicy
from tta_agent_coordination.transport.command import Ready

MOST_A_CLAIM = 1000
"""Messages handed out in one step at most, so that no script holds the server up."""
FEWER = 4
"""A claim that got no answer is made again for so many times fewer messages."""


@attrs.frozen
class Claim:
    """What one claim brought.

    Attributes:
        messages: Those that decode.
        due: Seconds until the inbox has something again: 0 for now, None for not of itself.
        filled: How many it asked for if it brought as many, so that there may be more; else 0.
    """

    messages: list[ReceivedMessage]
    due: float | None
    filled: int = 0

    @property
    def is_due_soon(self) -> bool:
        """Whether those who wait are to be told when it is."""
        return self.due is not None and microseconds(self.due) < HORIZON


@lru_cache(maxsize=256)
def settings(
    rules: InboxPolicy, holder: str, life: int, visibility: float, *, staying: bool
) -> Ready:
    """Return what claims take from ``visibility`` to ``lifetime``: most ask for the same."""
    return Ready.of((
        microseconds(visibility), holder, int(staying), HORIZON,
        rules.deliveries, *burial(rules), life,
    ))  # fmt: skip


def asked_again(most: int, before: int) -> int:
    """Return how many a claim asks for when it is made again, for up to `most` now.

    Fewer than the `before` that got no answer: it may have been too large to come in time.
    """
    return min(most, max(before // FEWER, 1))
