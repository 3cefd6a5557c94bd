"""What a message costs the server in each state, by the size of its payload.

Run it as ``uv run python -m benchmarks.footprint``; docs/sizing.md explains the columns.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterator

import redis

from benchmarks.report import environment
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    FailureType,
    RedisMessageCoordinator,
)
from tta_agent_coordination.embedded import EmbeddedServer

SENDER = AgentId("shop")
SIZES = (100, 1_000, 10_000)
FOREVER = 86_400.0
ERROR = "ValueError: " + "x" * 88

Fill = Callable[[RedisMessageCoordinator, AgentId, int, int], None]
"""Brings so many messages of so many bytes into one state, in an inbox of their own."""


def ready(coordinator: RedisMessageCoordinator, inbox: AgentId, count: int, size: int) -> None:
    for start in range(0, count, 1000):
        some = range(min(1000, count - start))
        coordinator.send_many(SENDER, [message(inbox, size) for _ in some])


def delayed(coordinator: RedisMessageCoordinator, inbox: AgentId, count: int, size: int) -> None:
    for _ in range(count):
        coordinator.send_message(SENDER, inbox, message(inbox, size), delay=FOREVER)


def leased(coordinator: RedisMessageCoordinator, inbox: AgentId, count: int, size: int) -> None:
    ready(coordinator, inbox, count, size)
    for _ in received(coordinator, inbox):
        pass


def retried(coordinator: RedisMessageCoordinator, inbox: AgentId, count: int, size: int) -> None:
    ready(coordinator, inbox, count, size)
    for token in received(coordinator, inbox):
        coordinator.nack(inbox, token, error=ERROR, delay=FOREVER)


def dead(coordinator: RedisMessageCoordinator, inbox: AgentId, count: int, size: int) -> None:
    ready(coordinator, inbox, count, size)
    for token in received(coordinator, inbox):
        coordinator.nack(inbox, token, failure=FailureType.PERMANENT, error=ERROR)


def finished(coordinator: RedisMessageCoordinator, inbox: AgentId, count: int, size: int) -> None:
    ready(coordinator, inbox, count, size)
    for token in received(coordinator, inbox):
        coordinator.ack(inbox, token)


STATES: dict[str, Fill] = {
    "ready": ready,
    "delayed": delayed,
    "leased": leased,
    "retried": retried,
    "dead": dead,
    "finished": finished,
}


def message(inbox: AgentId, size: int) -> AgentMessage:
    text = "x" * (size - len(json.dumps({"text": ""}, separators=(",", ":"))))
    return AgentMessage(SENDER, inbox, {"text": text})


def received(coordinator: RedisMessageCoordinator, inbox: AgentId) -> Iterator[str]:
    while (one := coordinator.receive(inbox, FOREVER)) is not None:
        yield one.token


def bytes_each(state: str, size: int, count: int) -> float:
    """Return what `used_memory` grows by with each message, on a server of its own."""
    inbox = AgentId("measured")
    with (
        EmbeddedServer() as server,
        redis.Redis.from_url(server.url) as client,
        RedisMessageCoordinator.from_url(
            server.url, queue_size=count, dead_letter_limit=count, dedup_window=FOREVER
        ) as coordinator,
    ):
        other = AgentId("other")  # loads the scripts, and notes an inbox
        for fill in STATES.values():
            fill(coordinator, other, 1, size)
        before = client.info("memory")["used_memory"]
        STATES[state](coordinator, inbox, count, size)
        return (client.info("memory")["used_memory"] - before) / count


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description=__doc__)
    parser.add_argument(
        "--messages", type=int, default=10_000, metavar="N", help="for each figure; 10,000"
    )
    count = parser.parse_args().messages
    logging.getLogger("tta_agent_coordination").setLevel(logging.ERROR)  # not each dead letter
    with EmbeddedServer() as server, redis.Redis.from_url(server.url) as client:
        versions = environment(client)
    print("\n".join(f"{name}: {version}" for name, version in versions.items()), end="\n\n")
    print("| state |", " | ".join(f"{size:,} bytes" for size in SIZES), "|")
    print("| --- |", " | ".join("---" for _ in SIZES), "|")
    for state in STATES:
        each = [bytes_each(state, size, count) for size in SIZES]
        print(f"| {state} |", " | ".join(f"{one:,.0f}" for one in each), "|", flush=True)


if __name__ == "__main__":
    main()
