"""This library: a message made and sent, received on lease and acknowledged."""

from __future__ import annotations

from benchmarks.payload import PAYLOAD
from benchmarks.server import Ground
from benchmarks.timing import Block
from tta_agent_coordination import AgentId, AgentMessage, RedisMessageCoordinator

SENDER = AgentId("bench-sender", "1")
BATCH = 32
LEASE = 60.0


class Ours:
    """One inbox and one coordinator."""

    def __init__(self, ground: Ground) -> None:
        """Use an inbox of its own; its size must not stand in the way of what is measured."""
        self.inbox = AgentId("bench", ground.new_name("inbox"))
        self.coordinator = RedisMessageCoordinator(ground.client(), key_prefix="bench")
        self.coordinator.configure(queue_size=10_000_000)

    def message(self) -> AgentMessage:
        """Make a message, as a sender has to for each send."""
        return AgentMessage(SENDER, self.inbox, PAYLOAD)

    def send(self, count: int) -> None:
        """One `send_message` a message, in this thread."""
        for _ in range(count):
            self.coordinator.send_message(SENDER, self.inbox, self.message())

    def send_many(self, count: int, size: int = 100) -> None:
        """`send_many` of 100 messages a call."""
        for start in range(0, count, size):
            messages = [self.message() for _ in range(min(size, count - start))]
            self.coordinator.send_many(SENDER, messages)

    def fill(self, count: int) -> None:
        """Have exactly `count` messages ready."""
        self.coordinator.purge(self.inbox)
        self.send_many(count, 1000)

    def consume(self, count: int) -> None:
        """One `receive` and one `ack` a message, in this thread."""
        for _ in range(count):
            found = self.coordinator.receive(self.inbox, LEASE)
            if found is None or not self.coordinator.ack(self.inbox, found.token):
                raise AssertionError("a message is missing")

    def consume_in_batches(self, count: int) -> None:
        """`receive_many` of 32 and one `ack_many` for them, in this thread."""
        left = count
        while left > 0:
            found = self.coordinator.receive_many(self.inbox, min(BATCH, left), LEASE)
            if not all(self.coordinator.ack_many(self.inbox, [one.token for one in found])):
                raise AssertionError("a lease was lost")
            left -= len(found)

    def sends(self) -> Block:
        """One thread that sends to an inbox which is emptied before each block."""
        return Block(self.send, lambda _count: self.coordinator.purge(self.inbox))

    def close(self) -> None:
        """Empty the inbox."""
        self.coordinator.purge(self.inbox)
        self.coordinator.close()
