"""One round of looking after agents: who is unwell, who is restarted, whose messages move."""

from __future__ import annotations

import logging

from tta_agent_coordination.agents.record import Liveness
from tta_agent_coordination.coordinator.core import RedisMessageCoordinator
from tta_agent_coordination.errors import CoordinationError
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.registry.adoption import move_messages
from tta_agent_coordination.registry.recovery import Recovery, RecoverySummary, RestartPolicy
from tta_agent_coordination.registry.store import Look

logger = logging.getLogger("tta_agent_coordination")


class Supervision:
    """Restarts agents that are unwell, and moves the messages of those that are gone.

    Attributes:
        recovery: Calls the hooks.
    """

    def __init__(self, policy: RestartPolicy) -> None:
        """Begin without hooks; messages stay where they are."""
        self.recovery = Recovery(policy)
        self._coordinator: RedisMessageCoordinator | None = None
        self._heir: AgentId | None = None

    def move_messages(self, coordinator: RedisMessageCoordinator, to: AgentId | None) -> None:
        """Move the messages of the dead, and of those that were ended, from now on."""
        self._coordinator, self._heir = coordinator, to

    def round(self, look: Look, unwell: set[AgentId]) -> RecoverySummary:
        """Treat those who are dead or unwell; `unwell` are known to be so."""
        bad = [one for one in look.present if not one.well or one.agent_id in unwell]
        done = self.recovery.run(bad)
        # Who was ended for so long does not come back by itself either; but it was meant to end.
        gone = [one for one in (*bad, *look.ended) if one.liveness is Liveness.DEAD]
        moved = sum(self._adopt(one.agent_id) for one in gone)
        return RecoverySummary(
            checked=len(look.present),
            unhealthy=tuple(one.agent_id for one in bad),
            restarted=tuple(done.get("restarted", ())),
            waiting=tuple(done.get("waiting", ())),
            given_up=tuple(done.get("given_up", ())),
            failed=tuple(done.get("failed", ())),
            moved=moved,
        )

    def _adopt(self, dead: AgentId) -> int:
        if self._coordinator is None or dead.instance is None:
            return 0
        try:
            return move_messages(self._coordinator, dead, self._heir or AgentId(dead.type))
        except CoordinationError as error:
            logger.warning(
                "the messages of %s could not be moved: %s",
                dead,
                error,
                extra={"event": "messages_not_moved", "agent": str(dead)},
            )
            return 0
