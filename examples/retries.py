"""What becomes of messages that fail: retried, given up, looked at, replayed and dropped."""

import logging
import sys
import time
from typing import Any

from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentMessage,
    AgentWorker,
    FailureType,
    RedisMessageCoordinator,
    RejectMessage,
    RetryLater,
    current_message,
)
from tta_agent_coordination.embedded import EmbeddedServer

SHOP, PRINTER = AgentId("shop"), AgentId("printer")


# [retries_agent]
class Printer(Agent):
    """Prints labels; the paper is not always there."""

    agent_id = PRINTER
    paper = 0
    warm = False

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Print one label."""
        if "text" not in payload:
            raise RejectMessage("there is nothing to print")  # a dead letter at once
        if payload.get("color") and not self.warm:
            raise RetryLater(0.2, "the color printer warms up")  # at a time of my choice
        if self.paper == 0:
            raise RuntimeError("out of paper")  # later, and later, and then a dead letter
        attempt = current_message().received.queue_message.delivery_attempts
        print(f"printed {payload['text']!r} at attempt {attempt}")
        return {}


# [/retries_agent]


# [retries_options]
def patient(url: str) -> RedisMessageCoordinator:
    """Retry for two minutes: 1, 2, 4, 8, 16, 30, 30 and 30 seconds apart."""
    return RedisMessageCoordinator.from_url(url, retry_attempts=8)


# [/retries_options]


# [retries_by_hand]
def print_one(coordinator: RedisMessageCoordinator) -> None:
    """Do without a worker what it does for you."""
    received = coordinator.receive(PRINTER, visibility_timeout=30.0, wait=5.0)
    if received is None:
        return
    try:
        text = received.message.payload["text"]
        print(text.upper())
    except KeyError as error:
        coordinator.nack(PRINTER, received.token, FailureType.PERMANENT, f"no {error}")
    except OSError as error:
        coordinator.nack(PRINTER, received.token, error=str(error))  # back-off; or delay=2.0
    else:
        coordinator.ack(PRINTER, received.token)


# [/retries_by_hand]


# [retries_look]
def sort_out(coordinator: RedisMessageCoordinator) -> None:
    """Try those again that were out of luck, and drop the others that we saw."""
    again: list[str] = []
    hopeless: list[str] = []
    for letter in coordinator.dead_letters(PRINTER, limit=100):
        stored = letter.queue_message  # None when the bytes do not decode: see letter.raw
        attempts = stored.delivery_attempts if stored else 0
        error = stored.last_error if stored else None
        print(f"{letter.message_id}: {letter.reason} after {attempts}, {error}")
        (again if letter.reason == "attempts_exhausted" else hopeless).append(letter.message_id)

    replayed = coordinator.replay_dead_letters(PRINTER, message_ids=again)
    dropped = coordinator.purge_dead_letters(PRINTER, message_ids=hopeless)
    print(f"{replayed} replayed, {dropped} dropped")


# [/retries_look]


def send(coordinator: RedisMessageCoordinator, name: str, **payload: Any) -> None:
    """Send a label under an id of our choice."""
    message = AgentMessage(SHOP, PRINTER, payload, message_id=f"label-{name}")
    coordinator.send_message(SHOP, PRINTER, message)


def unfinished(coordinator: RedisMessageCoordinator) -> int:
    """Count what is neither done nor dead."""
    stats = coordinator.stats(PRINTER)
    return sum(stats.ready.values()) + stats.delayed + stats.leased


def main() -> None:
    """Let labels fail in each way."""
    printer = Printer()
    with EmbeddedServer() as server, patient(server.url) as coordinator:
        # Shorter than in real life, to keep the example short.
        coordinator.configure(retry_attempts=2, backoff_base=0.1)
        with AgentWorker(printer, coordinator, threads=1):
            send(coordinator, "empty")
            send(coordinator, "color", text="Sale", color=True)
            send(coordinator, "plain", text="Tea")
            while coordinator.stats(PRINTER).dead < 3:
                time.sleep(0.02)

        sort_out(coordinator)
        printer.paper, printer.warm = 100, True
        with AgentWorker(printer, coordinator, threads=1):
            while unfinished(coordinator):
                time.sleep(0.02)

        send(coordinator, "hand", text="Done by hand")
        print_one(coordinator)
        send(coordinator, "none")
        print_one(coordinator)
        print([letter.reason for letter in coordinator.dead_letters(PRINTER)])


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, level=logging.ERROR)
    main()
