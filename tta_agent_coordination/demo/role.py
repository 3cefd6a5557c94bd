"""What the agents of the demo have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from tta_agent_coordination import Agent, AgentId, MessageCoordinator


class Tell(Protocol):
    """How a process tells its parent what it did."""

    def __call__(self, kind: str, **facts: Any) -> None:
        """Tell one thing, with its facts as JSON values."""
        ...


class Role(Agent):
    """An agent of the demo."""

    def __init__(
        self, agent_id: AgentId, coordinator: MessageCoordinator, folder: Path, tell: Tell
    ) -> None:
        """Work on the files of `folder`."""
        super().__init__(agent_id)
        self.coordinator, self.folder, self.tell = coordinator, folder, tell
