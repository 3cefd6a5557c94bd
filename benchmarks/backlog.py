"""The rates of ours with a million messages waiting, against those with a thousand."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

from benchmarks.ours import Ours
from benchmarks.report import Row, at_least
from benchmarks.server import Ground
from benchmarks.timing import Block, interleave, median_ratio

SHORT = 1_000


def backlog(ground: Ground) -> Iterator[Row]:
    """Every block sends or takes as many as the one before took or sent: both stay as long."""
    short, long = Ours(ground), Ours(ground)
    short.fill(SHORT)
    long.fill(ground.backlog)
    works: dict[str, Callable[[Ours], Block]] = {
        "send_message": lambda ours: Block(ours.send, rest=ours.consume_in_batches),
        "receive + ack": lambda ours: Block(ours.consume, ours.send_many),
        "receive_many(32) + ack_many": lambda ours: Block(ours.consume_in_batches, ours.send_many),
    }
    for name, work in works.items():
        blocks = {"short": work(short), "long": work(long)}
        rates = interleave(blocks, ground.messages, ground.rounds)
        yield at_least(
            f"{name} at a backlog of {ground.backlog:,}, against {SHORT:,}",
            median_ratio(rates["long"], rates["short"]),
            0.9,
            f"{statistics.median(rates['long']):,.0f}/s to "
            f"{statistics.median(rates['short']):,.0f}/s",
            rates=rates["long"],
            floor=rates["short"],
        )
    short.close()
    long.close()
