"""An agent from end to end: written, served, found by what it can do, asked; what it gave up."""

import logging
import sys
import time
from pathlib import Path
from typing import Any

from tta_agent_coordination import (
    Agent,
    AgentCapability,
    AgentId,
    AgentMessage,
    AgentWorker,
    RedisAgentRegistry,
    RedisMessageCoordinator,
    RejectMessage,
    RoutingKey,
    current_message,
    handles,
)
from tta_agent_coordination.embedded import EmbeddedServer


# [agent]
class Reader(Agent):
    """Reads text files."""

    def __init__(self, number: int) -> None:
        """Give each reader an inbox of its own, beside the one of their type."""
        super().__init__(AgentId("reader", str(number)))
        self.seen: set[str] = set()

    def get_capabilities(self) -> list[AgentCapability]:
        """Say what others may look for; asked when it is registered."""
        return [AgentCapability("count_lines", "1.2.0", tags=("text",))]

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Answer a request. An exception is a failure: it is tried again, later and later."""
        if not payload["path"].endswith(".py"):
            raise RejectMessage("no Python file")  # final: to try again would not help
        text = Path(payload["path"]).read_text("utf-8")
        return {"lines": len(text.splitlines())}

    @handles(topic="files.*")
    def note(self, message: AgentMessage) -> None:
        """Take messages of these topics, in place of ``process``."""
        self.seen.add(message.payload["path"])
        attempt = current_message().received.queue_message.delivery_attempts
        print(f"{message.routing.topic}: {message.payload['path']}, attempt {attempt}")


# [/agent]


# [serve]
EDITOR, READERS = AgentId("editor"), AgentId("reader")


def serve(url: str) -> None:
    """Serve a reader in threads of this process, find it, and ask it."""
    with (
        RedisMessageCoordinator.from_url(url) as coordinator,
        RedisAgentRegistry.from_url(url) as registry,
        AgentWorker(Reader(1), coordinator, registry, threads=4),
    ):
        [record] = registry.discover(capability="count_lines", min_version="1.1.0")
        print(f"{record.agent_id} is {record.liveness}, {record.load.busy} threads are busy")

        answer = coordinator.request(EDITOR, record.agent_id, {"path": __file__}, timeout=10.0)
        print(answer.payload)

        # To the inbox that all readers share:
        event = AgentMessage(EDITOR, READERS, {"path": "a.py"}, routing=RoutingKey("files.new"))
        coordinator.send_message(EDITOR, READERS, event)
        look_at_what_died(coordinator)


# [/serve]


# [dead]
def look_at_what_died(coordinator: RedisMessageCoordinator) -> None:
    """Send what no reader takes, look at the dead letter, and send it on to somebody else."""
    hopeless = AgentMessage(EDITOR, READERS, {"path": "a.txt"})
    coordinator.send_message(EDITOR, READERS, hopeless)
    while not (letters := coordinator.dead_letters(READERS)):
        time.sleep(0.02)

    for letter in letters:
        error = letter.queue_message.last_error if letter.queue_message else None
        print(f"{letter.message_id}: {letter.reason}, {error}")

    coordinator.replay_dead_letters(READERS, message_ids=[hopeless.message_id], to=EDITOR)
    received = coordinator.receive(EDITOR)
    assert received is not None
    print(coordinator.ack(EDITOR, received.token))


# [/dead]

if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, level=logging.ERROR)
    with EmbeddedServer() as server:
        serve(server.url)
