"""What the keys of an inbox hold at each step of a message's life, from send to ack or dead letter.

Only to look at: read no keys in a program, for they may change with a version.
"""

import logging
from typing import Any, cast

import redis

from tta_agent_coordination import AgentId, AgentMessage, FailureType, RedisMessageCoordinator
from tta_agent_coordination.embedded import EmbeddedServer

SHOP, BANK = AgentId("shop"), AgentId("bank")
TAG = "tta-coord:{bank}:"


def show(step: str, client: Any) -> None:
    """Print how many entries each key of the inbox has."""
    count = {"hash": client.hlen, "zset": client.zcard, "string": client.get}
    names: list[str] = sorted(client.keys(TAG + "*"))
    held = [f"{name.removeprefix(TAG)}={count[client.type(name)](name)}" for name in names]
    print(f"{step:16}", *held)


def main() -> None:
    """Lead two messages through their lives."""
    logging.getLogger("tta_agent_coordination").setLevel(logging.ERROR)  # one is to die
    with (
        EmbeddedServer() as server,
        cast("Any", redis.Redis).from_url(server.url, decode_responses=True) as client,
        RedisMessageCoordinator.from_url(server.url) as coordinator,
    ):
        coordinator.send_message(SHOP, BANK, AgentMessage(SHOP, BANK, {"pay": 5}))
        show("send", client)
        received = coordinator.receive(BANK)
        assert received is not None
        show("receive", client)
        coordinator.nack(BANK, received.token, error="no connection", delay=0.01)
        show("nack", client)
        received = coordinator.receive(BANK, wait=5.0)
        assert received is not None
        show("receive again", client)
        coordinator.ack(BANK, received.token)
        show("ack", client)

        coordinator.send_message(SHOP, BANK, AgentMessage(SHOP, BANK, {"pay": -5}))
        received = coordinator.receive(BANK)
        assert received is not None
        coordinator.nack(BANK, received.token, failure=FailureType.PERMANENT, error="negative")
        show("permanent nack", client)
        coordinator.replay_dead_letters(BANK)
        show("replay", client)
        coordinator.purge(BANK)
        show("purge", client)


if __name__ == "__main__":
    main()
