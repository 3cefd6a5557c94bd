"""Agents that the tests of the registry register."""

import threading
from collections.abc import Sequence
from typing import Any

from tta_agent_coordination import AgentCapability, AgentId

ONE, TWO, THREE = (AgentId("worker", name) for name in ("1", "2", "3"))
OTHER = AgentId("planner", "1")
PATIENCE = 10.0
"""Seconds in which what must happen has happened, on a busy machine too."""
TTL = 0.3
"""Seconds of a beat where a test lives through real beats."""


class Plain:
    """The least that can be registered."""

    def __init__(self, agent_id: AgentId = ONE, name: str = "plain") -> None:
        self.agent_id = agent_id
        self.name = name


class Stateful(Plain):
    """Has a state, and remembers what it was given."""

    def __init__(self, agent_id: AgentId = ONE, state: dict[str, Any] | None = None) -> None:
        super().__init__(agent_id)
        self.state = state
        self.given: list[dict[str, Any]] = []

    def export_state(self) -> dict[str, Any] | None:
        return self.state

    def import_state(self, state: dict[str, Any]) -> None:
        self.given.append(state)
        self.state = state


class Able(Plain):
    """Can do things."""

    def __init__(self, agent_id: AgentId, *capabilities: AgentCapability) -> None:
        super().__init__(agent_id)
        self.capabilities: Sequence[AgentCapability] = capabilities

    def get_capabilities(self) -> Sequence[AgentCapability]:
        return self.capabilities


class Moody(Plain):
    """Its health is what the test says."""

    def __init__(self, agent_id: AgentId = ONE, *, healthy: bool = True) -> None:
        super().__init__(agent_id)
        self.healthy = healthy
        self.status = "running"

    def health_check(self) -> bool:
        return self.healthy


class Hanging(Stateful):
    """Its export blocks until the test lets it go."""

    def __init__(self, agent_id: AgentId = ONE) -> None:
        super().__init__(agent_id, {"n": 0})
        self.hang = threading.Event()
        self.hangs = threading.Event()
        self.go_on = threading.Event()

    def export_state(self) -> dict[str, Any] | None:
        if self.hang.is_set():
            self.hangs.set()
            self.go_on.wait(PATIENCE)
        return self.state
