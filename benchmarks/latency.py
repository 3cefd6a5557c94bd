"""From the start of a send to the message in the hands of a consumer that was waiting for it."""

from __future__ import annotations

import json
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from time import perf_counter

from benchmarks.floor import Floor
from benchmarks.ours import LEASE, Ours
from benchmarks.report import Row, at_most
from benchmarks.server import Ground
from benchmarks.timing import percentile

PAUSE = 0.004
"""Seconds between two sends, at least; up to half as long again. The consumer waits by then."""

_WAIT = 0.5


def latency(ground: Ground) -> Iterator[Row]:
    """One consumer thread that waits, one message at a time, in the process of the sender."""
    floor, ours = Floor(ground), Ours(ground)
    found: dict[str, list[list[float]]] = {"floor": [], "ours": []}
    count = min(ground.messages, 500)  # most of the time is pauses
    blocks: dict[str, Callable[[], list[float]]] = {
        "floor": lambda: _latencies(count, lambda: floor.send(1), lambda note: _pop(floor, note)),
        "ours": lambda: _latencies(count, lambda: ours.send(1), lambda note: _receive(ours, note)),
    }
    for turn in range(ground.rounds):
        for name in list(blocks)[:: 1 if turn % 2 else -1]:
            found[name].append(blocks[name]())
    for percent, target in ((50, 1.3), (99, 2.0)):
        mine = [percentile(values, percent) for values in found["ours"]]
        base = [percentile(values, percent) for values in found["floor"]]
        ratio = statistics.median(a / b for a, b in zip(mine, base, strict=True))
        note = f"{statistics.median(mine):.2f} ms to {statistics.median(base):.2f} ms"
        yield at_most(f"send to receive(wait), idle, p{percent}", ratio, target, "x floor", note)
    floor.close()
    ours.close()


def _latencies(
    count: int, send: Callable[[], object], take: Callable[[Callable[[], object]], object]
) -> list[float]:
    """Return milliseconds; `take` waits a while for one message and notes when it has it."""
    arrived: SimpleQueue[float] = SimpleQueue()
    stop = threading.Event()

    def consume() -> None:
        while not stop.is_set():
            take(lambda: arrived.put(perf_counter()))

    consumer = threading.Thread(target=consume, name="bench-consumer")
    consumer.start()
    found: list[float] = []
    for _ in range(count + 20):
        time.sleep(PAUSE * random.uniform(1, 1.5))
        start = perf_counter()
        send()
        found.append((arrived.get(timeout=5) - start) * 1000)
    stop.set()
    consumer.join()
    return found[20:]


def _pop(floor: Floor, note: Callable[[], object]) -> None:
    popped = floor.client.brpop(floor.key, timeout=_WAIT)
    if popped is not None:
        json.loads(popped[1])
        note()


def _receive(ours: Ours, note: Callable[[], object]) -> None:
    received = ours.coordinator.receive(ours.inbox, LEASE, wait=_WAIT)
    if received is not None:
        note()
        ours.coordinator.ack(ours.inbox, received.token)
