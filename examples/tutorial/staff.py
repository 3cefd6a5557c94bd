"""A process with two agents. Start it with a number for their names: ``python staff.py 1``."""

# [tutorial_staff]
import os
import sys
import time
from typing import Any

from tta_agent_coordination import (
    Agent,
    AgentCapability,
    AgentId,
    AgentWorker,
    RedisAgentRegistry,
    RedisMessageCoordinator,
    current_message,
)

URL = os.environ["TTA_COORDINATION_URL"]


class Counter(Agent):
    """Counts words."""

    def get_capabilities(self) -> list[AgentCapability]:
        """Say what it can do; the registry asks."""
        return [AgentCapability("count_words", "1.0.0")]

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Return how many words there are."""
        attempt = current_message().received.queue_message.delivery_attempts
        print(f"{self.agent_id} in process {os.getpid()} counts, attempt {attempt}", flush=True)
        time.sleep(payload.get("seconds", 0.0))  # as if it were hard work
        return {"words": len(payload["text"].split()), "by": str(self.agent_id)}


class Headliner(Agent):
    """Finds headlines."""

    def get_capabilities(self) -> list[AgentCapability]:
        """Say what it can do."""
        return [AgentCapability("find_headline", "1.2.0", tags=("english",))]

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Return the first sentence."""
        return {"headline": payload["text"].split(".")[0].strip()}


def main(number: str) -> None:
    """Serve both until Ctrl-C."""
    agents = [Counter(AgentId("counter", number)), Headliner(AgentId("headliner", number))]
    with (
        RedisMessageCoordinator.from_url(URL) as coordinator,
        RedisAgentRegistry.from_url(URL, heartbeat_ttl_s=3.0) as registry,
    ):
        AgentWorker(agents, coordinator, registry, threads=4, visibility_timeout=5.0).run()


if __name__ == "__main__":
    main(sys.argv[1])
# [/tutorial_staff]
