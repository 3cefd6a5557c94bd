"""What the parts of this package need of a coordinator beside its interface."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from tta_agent_coordination.coordinator.calls import Calls
from tta_agent_coordination.coordinator.copies import store_copies
from tta_agent_coordination.coordinator.feed import Feed, feeds
from tta_agent_coordination.coordinator.inbox import Inbox
from tta_agent_coordination.coordinator.outbox import Outbox
from tta_agent_coordination.coordinator.steps import Steps
from tta_agent_coordination.delivery import InboxStats, MessageResult, ReceivedMessage
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.transport.link import Link


@attrs.frozen
class CoordinatorInternals:
    """For workers, asyncio and metrics of this package alone; may change without notice.

    Arguments are not checked, but by `steps`. Every method may raise
    `CoordinatorUnavailableError`.

    Attributes:
        steps: Calls that wait, to be made in steps.
    """

    _calls: Calls
    _inbox: Inbox
    _outbox: Outbox
    steps: Steps

    @property
    def link(self) -> Link:
        """The connections."""
        return self._calls.link

    @property
    def prefix(self) -> str:
        """What every key begins with."""
        return self._calls.keys.prefix

    def feed(self, agent_ids: Sequence[AgentId]) -> list[Feed]:
        """Return inboxes that can be waited for together."""
        return feeds(self._calls, self._inbox, agent_ids)

    def store_copies(
        self, origin: AgentId, to: AgentId, received: Sequence[ReceivedMessage]
    ) -> list[MessageResult]:
        """Store in one inbox what was received from another: see `copies.store_copies`."""
        return store_copies(self._outbox, origin, to, received)

    def held(self, agent_id: AgentId) -> int:
        """Return how many unfinished messages an inbox holds."""
        return self._inbox.held([agent_id])[0]

    def held_by_each(self, agent_ids: Sequence[AgentId]) -> dict[AgentId, int]:
        """Return how many each of several holds, asked together."""
        return dict(zip(agent_ids, self._inbox.held(agent_ids), strict=True))

    def stats_of_each(self, agent_ids: Sequence[AgentId]) -> dict[AgentId, InboxStats]:
        """Count what each of several inboxes holds, asked together."""
        return dict(zip(agent_ids, self._inbox.stats_of_each(agent_ids), strict=True))
