"""How much the inboxes of a worker's agents hold, asked for all of them together."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from tta_agent_coordination.coordinator.core import RedisMessageCoordinator
from tta_agent_coordination.errors import CoordinationError
from tta_agent_coordination.events import held
from tta_agent_coordination.identity import AgentId


class Depths:
    """Tells what was known last; `refresh` costs one round trip for all."""

    def __init__(self, coordinator: RedisMessageCoordinator, agent_ids: Sequence[AgentId]) -> None:
        """Ask for the inboxes of `agent_ids`."""
        self._coordinator = coordinator
        self._agent_ids = agent_ids
        self._known: dict[AgentId, int] = {}
        self._asking = threading.Lock()

    def of(self, agent_id: AgentId) -> int:
        """Return how many unfinished messages the inbox of one of them held."""
        return self._known.get(agent_id, 0)

    def refresh(self) -> None:
        """Ask, unless that is being done; without an answer, what is known is left as it is."""
        if not self._asking.acquire(blocking=False):
            return
        try:
            with held():
                self._known = self._coordinator.internals.held_by_each(self._agent_ids)
        except CoordinationError:  # the worker itself says that Redis is away
            pass
        finally:
            self._asking.release()
