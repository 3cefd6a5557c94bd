"""What the breaker, the retries and the deadline add to one command."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks.payload import dump
from benchmarks.report import Row, at_most
from benchmarks.server import Ground
from benchmarks.timing import Block, interleave
from tta_agent_coordination.transport.gate import Command
from tta_agent_coordination.transport.link import Link


class _Pushes:
    """One LPUSH of the payload a message: the shortest call there is, so the hardest measure."""

    def __init__(self, ground: Ground) -> None:
        self.client = ground.client()
        self.link = Link(ground.client(), call_timeout=5.0)
        self.key = ground.new_name("gate")
        self._pool: Any = self.client.connection_pool

    def through_the_gate(self, count: int) -> None:
        run = self.link.commands.run
        for _ in range(count):
            run(self.key, Command(("LPUSH", self.key, dump())))

    def without(self, count: int) -> None:
        for _ in range(count):
            connection = self._pool.get_connection()
            connection.send_packed_command(connection.pack_command("LPUSH", self.key, dump()))
            connection.read_response()
            self._pool.release(connection)

    def clear(self, _count: int) -> None:
        self.client.delete(self.key)


def gate(ground: Ground) -> Iterator[Row]:
    """`Gate.run` against the same exchange on a pooled connection of plain redis-py."""
    pushes = _Pushes(ground)
    blocks = {
        "gate": Block(pushes.through_the_gate, pushes.clear),
        "bare": Block(pushes.without, pushes.clear),
    }
    rates = interleave(blocks, ground.messages, ground.rounds)
    extra = [1 / a - 1 / b for a, b in zip(rates["gate"], rates["bare"], strict=True)]
    share = [e * b for e, b in zip(extra, rates["bare"], strict=True)]
    yield at_most(
        "the gate on one call (an LPUSH)",
        statistics.median(share) * 100,
        5,
        "%",
        f"{statistics.median(extra) * 1e6:.1f} us on "
        f"{1e6 / statistics.median(rates['bare']):.0f} us",
    )
    pushes.clear(0)
    pushes.link.close()
    pushes.client.close()
