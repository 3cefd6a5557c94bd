"""How much the inboxes of a worker's agents hold, asked for all of them together."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from tta_agent_coordination.coordinator.core import RedisMessageCoordinator
from tta_agent_coordination.events import held
from tta_agent_coordination.identity import AgentId


class Depths:
    """Tells each answer once; a beat, which wants each of them, costs one round trip for all."""

    def __init__(self, coordinator: RedisMessageCoordinator, agent_ids: Sequence[AgentId]) -> None:
        """Ask for the inboxes of `agent_ids`."""
        self._coordinator = coordinator
        self._agent_ids = agent_ids
        self._not_told: dict[AgentId, int] = {}
        self._asking = threading.Lock()

    def of(self, agent_id: AgentId) -> int:
        """Return how many unfinished messages the inbox of one of them holds."""
        with held(), self._asking:
            if agent_id not in self._not_told:
                self._not_told = self._coordinator.internals.held_by_each(self._agent_ids)
            return self._not_told.pop(agent_id)
