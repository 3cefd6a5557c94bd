"""An agent that asks two others."""

# [tutorial_editor]
import os
from pathlib import Path
from typing import Any

from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentWorker,
    RedisAgentRegistry,
    RedisMessageCoordinator,
    RejectMessage,
    RemoteAgentError,
)

URL = os.environ["TTA_COORDINATION_URL"]


class Editor(Agent):
    """Summarizes files."""

    agent_id = AgentId("editor")

    def __init__(self, coordinator: RedisMessageCoordinator, registry: RedisAgentRegistry) -> None:
        """Keep what it needs to find others and to ask them."""
        super().__init__()
        self._coordinator = coordinator
        self._registry = registry

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Return how long a text is, and its headline."""
        if "path" not in payload:
            raise RejectMessage("it names no path")  # to try again would not help
        text = Path(payload["path"]).read_text("utf-8")
        # Whichever counter is free: they share the inbox of their type.
        counted = self._ask(AgentId("counter"), text)
        # The least busy of those who can do it, whatever their type.
        found = self._ask(self._registry.pick(capability="find_headline"), text)
        print(f"{payload['path']}: {found['headline']!r}, {counted['words']} words", flush=True)
        return {**counted, **found}

    def _ask(self, whom: AgentId, text: str) -> dict[str, Any]:
        try:
            answer = self._coordinator.request(self.agent_id, whom, {"text": text}, timeout=20.0)
        except RemoteAgentError as error:  # it failed for good: to ask again would not help
            raise RejectMessage(str(error)) from error
        return answer.payload


def main() -> None:
    """Serve it until Ctrl-C."""
    with (
        RedisMessageCoordinator.from_url(URL) as coordinator,
        RedisAgentRegistry.from_url(URL, heartbeat_ttl_s=3.0) as registry,
    ):
        AgentWorker(Editor(coordinator, registry), coordinator, registry, threads=4).run()


if __name__ == "__main__":
    main()
# [/tutorial_editor]
