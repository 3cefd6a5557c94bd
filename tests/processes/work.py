"""What the processes of `worker` do."""

import json
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from tta_agent_coordination import AgentId, AgentMessage, RedisMessageCoordinator

INBOX, PRODUCER = AgentId("worker"), AgentId("producer")
LEASE = 0.6
"""Seconds; short, so that what a stopped process held comes back while others watch."""


def say(line: str) -> None:
    print(line, flush=True)


def hold(coordinator: RedisMessageCoordinator) -> None:
    """Receive one message, tell so, and ack it when told to."""
    item = coordinator.receive(INBOX, LEASE, wait=5.0)
    say(item.message.message_id)
    sys.stdin.readline()
    say(coordinator.ack(INBOX, item.token).name)


def scenario(coordinator: RedisMessageCoordinator) -> None:
    """Go through all that depends on time, and tell what came of each."""
    told: dict[str, object] = {"clock": datetime.now(UTC).timestamp()}

    def message(name: str, **fields: object) -> AgentMessage:
        return AgentMessage(PRODUCER, INBOX, message_id=f"{name}-message", **fields)

    def receive(lease: float, wait: float = 0.0) -> list[object]:
        item = coordinator.receive(INBOX, lease, wait=wait)
        if item is None:
            return [None]
        held = [item.message.message_id, item.queue_message.delivery_attempts]
        return [*held, coordinator.ack(INBOX, item.token).name] if lease > 1 else held

    coordinator.send_message(PRODUCER, INBOX, message("delayed"), delay=0.3)
    told["too early"] = receive(5.0)
    told["delay over"] = receive(5.0, wait=5.0)
    coordinator.send_message(PRODUCER, INBOX, message("leased"))
    told["leased"] = receive(0.3)
    told["hidden"] = receive(5.0)
    told["lease over"] = receive(5.0, wait=5.0)
    again = coordinator.send_message(PRODUCER, INBOX, message("leased"))
    told["window"] = again.duplicate
    coordinator.send_message(PRODUCER, INBOX, message("mortal", ttl=0.2))
    coordinator.send_message(PRODUCER, INBOX, message("living", ttl=60.0))
    threading.Event().wait(0.25)
    told["ttl over"] = receive(5.0)
    told["dead"] = [letter.reason for letter in coordinator.dead_letters(INBOX)]
    coordinator.send_message(PRODUCER, INBOX, message("failing"))
    item = coordinator.receive(INBOX, 5.0)
    told["nack"] = coordinator.nack(INBOX, item.token, delay=0.3).name
    told["before the retry"] = receive(5.0)
    told["retry"] = receive(5.0, wait=5.0)
    say(json.dumps(told))


ROLES: dict[str, Callable[[RedisMessageCoordinator], None]] = {"hold": hold, "scenario": scenario}
