"""Who is there, what can they do, who takes over: the registry from end to end."""

import logging
import sys
from typing import Any

from tta_agent_coordination import (
    Agent,
    AgentCapability,
    AgentId,
    AgentNotFoundError,
    AgentRecord,
    AgentWorker,
    Liveness,
    RedisAgentRegistry,
    RedisMessageCoordinator,
)
from tta_agent_coordination.embedded import EmbeddedServer

YOU = AgentId("you")


# [discovery_agent]
class Translator(Agent):
    """Translates; it keeps count, and its successor goes on with that."""

    def __init__(self, number: int, languages: tuple[str, ...], version: str = "1.0.0") -> None:
        """Begin with a count of nothing."""
        super().__init__(AgentId("translator", str(number)))
        self._capability = AgentCapability("translate", version, tags=languages)
        self.done = 0

    def get_capabilities(self) -> list[AgentCapability]:
        """Say what others may look for; asked at each heartbeat."""
        return [self._capability]

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Translate, more or less."""
        self.done += 1
        return {"text": payload["text"][::-1], "by": str(self.agent_id)}

    def health_check(self) -> bool:
        """Say whether it can work; False makes its status ``unhealthy``."""
        return True

    def export_state(self) -> dict[str, int]:
        """Say what a successor must know; stored with each heartbeat, and at the end."""
        return {"done": self.done}

    def import_state(self, state: dict[str, int]) -> None:
        """Go on where a predecessor of the same id ended."""
        self.done = state["done"]


# [/discovery_agent]


# [discovery_find]
def find(registry: RedisAgentRegistry) -> None:
    """Look for agents in each way."""
    for record in registry.discover(capability="translate"):  # alive only, least loaded first
        print(record.agent_id, record.liveness, record.capabilities[0].version)

    print(registry.pick(capability="translate", min_version="1.5.0", tags=("de", "fr")))
    try:
        registry.pick(capability="translate", tags=("la",))
    except AgentNotFoundError as error:
        print(error)


# [/discovery_find]


# [discovery_send]
def route(coordinator: RedisMessageCoordinator, registry: RedisAgentRegistry) -> None:
    """Reach an agent by type, and by what it can do."""
    anyone = AgentId("translator")  # the inbox of the type: whoever is free takes it
    chosen = registry.pick(capability="translate", tags=("fr",))  # the inbox of one agent
    for whom in (anyone, chosen):
        answer = coordinator.request(YOU, whom, {"text": "olleh"}, timeout=10.0)
        print(f"to {whom}: {answer.payload['text']}")


# [/discovery_send]


# [discovery_supervise]
def supervise(registry: RedisAgentRegistry, coordinator: RedisMessageCoordinator) -> None:
    """Do this in one process, for ever; here it ends with the first restart."""

    def restart(record: AgentRecord) -> None:
        print(f"{record.agent_id} is {record.liveness}: start its process again")

    def give_up(record: AgentRecord) -> None:
        print(f"{record.agent_id} was restarted too often: call somebody")

    registry.on_unhealthy(restart, fallback=give_up)
    registry.move_messages_of_dead(coordinator)  # to the inbox that its type shares
    for event in registry.watch(timeout=30.0):  # who is there now comes first
        print(f"{event.agent_id} {event.type}")
        if event.record.liveness is Liveness.DEAD and registry.detect_and_recover().restarted:
            return


# [/discovery_supervise]


class Sleeper(Agent):
    """Has one heartbeat, and no more."""

    agent_id = AgentId("sleeper", "1")

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Do nothing."""
        return payload


def main() -> None:
    """Find agents, send to them, restart one that is dead, and be a successor."""
    with (
        EmbeddedServer() as server,
        RedisMessageCoordinator.from_url(server.url) as coordinator,
        RedisAgentRegistry.from_url(server.url) as registry,
    ):
        agents = [Translator(1, ("de", "en")), Translator(2, ("de", "fr"), version="1.10.0")]
        with AgentWorker(agents, coordinator, registry, threads=4):
            find(registry)
            route(coordinator, registry)

        successor = Translator(2, ("de", "fr"))
        registry.restore_state_if_available(successor)
        print(f"the successor goes on with {successor.done}")

        with RedisAgentRegistry.from_url(server.url, heartbeat_ttl_s=0.5) as short_lived:
            short_lived.register(Sleeper())
        supervise(registry, coordinator)


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, level=logging.ERROR)
    main()
