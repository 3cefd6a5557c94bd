"""Labels of metrics, with a bound to how many values they take."""

from __future__ import annotations

from tta_agent_coordination import checks
from tta_agent_coordination.identity import AgentId

DEFAULT_AGENT_TYPES = 200
"""Different values of the label ``agent_type``; what comes later is ``(other)``."""

_OTHER = "(other)"


class Labels:
    """Keeps the number of values of a label bounded."""

    def __init__(self, most: int) -> None:
        """Let `most` values through."""
        self._most = checks.count("agent_types", most, least=1)
        self._known = set[str]()

    def of(self, agent_id: AgentId) -> str:
        """Return the type of an agent, or what stands for all that are too many."""
        name = agent_id.type
        if name not in self._known:
            if len(self._known) >= self._most:
                return _OTHER
            self._known.add(name)
        return name
