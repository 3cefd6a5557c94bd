"""Rates of sending and consuming, against the floor and the rivals."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmarks.floor import Floor
from benchmarks.ours import Ours
from benchmarks.report import Row, at_least
from benchmarks.rivals import Dramatiq, Huey, Rival
from benchmarks.server import Ground
from benchmarks.timing import Block, interleave, median_ratio

Rates = Mapping[str, Sequence[float]]

RIVALS: Mapping[str, Callable[[Ground], Rival]] = {"huey": Huey, "dramatiq": Dramatiq}


def sending(ground: Ground) -> Iterator[Row]:
    """One thread that sends, one message a call and 100 a call."""
    floor, ours = Floor(ground), Ours(ground)
    rivals = {name: make(ground) for name, make in RIVALS.items()}
    blocks = {
        "floor": floor.sends(),
        "send_message": ours.sends(),
        "send_many": Block(ours.send_many, lambda _count: ours.coordinator.purge(ours.inbox)),
    }
    blocks |= {name: Block(rival.send, rival.clear) for name, rival in rivals.items()}
    rates = interleave(blocks, ground.messages, ground.rounds)
    yield _row("send_message, one thread", rates, "send_message", "floor", 0.80)
    yield _row("send_many, 100 a call", rates, "send_many", "floor", 4.0)
    for name in rivals:
        yield _row(f"{name}, one thread that sends", rates, name, "floor", None)
    _close(floor, ours, rivals)


def consuming(ground: Ground) -> Iterator[Row]:
    """One thread of ours, one message at a time and 32 at a time; 8 threads of a rival."""
    floor, ours = Floor(ground), Ours(ground)
    rivals = {name: make(ground) for name, make in RIVALS.items()}
    blocks = {
        "floor": Block(floor.consume_in_threads, floor.fill),
        "floor1": Block(floor.consume, floor.fill),
        "lpush": floor.sends(),
        "receive": Block(ours.consume, ours.fill),
        "batches": Block(ours.consume_in_batches, ours.fill),
    }
    blocks |= {name: Block(rival.consume, rival.fill, rival.rest) for name, rival in rivals.items()}
    rates = interleave(blocks, ground.messages, ground.rounds)
    yield _row("receive + ack, one at a time, one thread", rates, "receive", "floor", 0.40)
    yield _row("the same, against BRPOP in one thread", rates, "receive", "floor1", None)
    yield _row("the same, against LPUSH in one thread", rates, "receive", "lpush", None)
    yield _row("receive_many(32) + ack_many, one thread", rates, "batches", "floor", None)
    for name in rivals:
        yield _row(f"{name}, 8 worker threads", rates, name, "floor", None)
    _close(floor, ours, rivals)


def _row(name: str, rates: Rates, system: str, floor: str, target: float | None) -> Row:
    mine, base = statistics.median(rates[system]), statistics.median(rates[floor])
    ratio = median_ratio(rates[system], rates[floor])
    note = f"{mine:,.0f}/s to {base:,.0f}/s"
    return at_least(name, ratio, target, note, rates=rates[system], floor=rates[floor])


def _close(floor: Floor, ours: Ours, rivals: Mapping[str, Rival]) -> None:
    floor.close()
    ours.close()
    for rival in rivals.values():
        rival.clear()
