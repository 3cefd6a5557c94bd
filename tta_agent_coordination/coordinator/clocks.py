"""Until when, by the server's clock, the answer to a claim is waited for."""

from __future__ import annotations

import time

from tta_agent_coordination.coordinator.calls import microseconds
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.transport.command import Fresh
from tta_agent_coordination.transport.deadline import remaining

_MOST_REMEMBERED = 10_000
_NO_LIMIT = 0


class ServerClocks:
    """What time it is at the server of each inbox: by its last answer, and by what went by since.

    What went by is measured on this machine's monotonic clock, and that is all it is asked for.
    The time is behind the server's by what the answer took to come; so a claim that is still in
    time by it can be answered in time.
    """

    def __init__(self) -> None:
        """Begin with no answer."""
        self._offsets: dict[AgentId, int] = {}

    def note(self, agent_id: AgentId, now: int) -> None:
        """Note that an answer says it was `now` at the server, in microseconds since 1970."""
        if len(self._offsets) > _MOST_REMEMBERED:
            self._offsets.clear()
        self._offsets[agent_id] = now - microseconds(time.monotonic())

    def forget(self, agent_id: AgentId) -> None:
        """Go by the next answer: the server's clock was set, or another server took its place."""
        self._offsets.pop(agent_id, None)

    def answer_by(self, agent_id: AgentId, longer: float = 0.0) -> Fresh:
        """Return until when the server may answer, for the attempt in which it is sent.

        Args:
            agent_id: Whose inbox.
            longer: Seconds for which the answer is waited for after the time of the attempt.
        """

        def until() -> int:
            offset, left = self._offsets.get(agent_id), remaining()
            if offset is None or left is None:
                return _NO_LIMIT
            return offset + microseconds(time.monotonic() + left + longer)

        return Fresh(until)
