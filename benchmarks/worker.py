"""`AgentWorker` with 8 threads, against huey's and against plain BRPOP in 8 threads."""

from __future__ import annotations

import itertools
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

from benchmarks.floor import Floor
from benchmarks.ours import LEASE, SENDER, Ours
from benchmarks.payload import PAYLOAD
from benchmarks.report import Row, at_least
from benchmarks.rivals import LONGEST_BLOCK, THREADS, Huey
from benchmarks.server import Ground
from benchmarks.timing import Block, interleave, median_ratio, percentile
from tta_agent_coordination import Agent, AgentMessage, AgentWorker

REQUESTS = 500


class _Counting(Agent):
    """Handles events by counting them, and requests by answering nothing."""

    def start(self) -> None:
        """Begin to count."""
        self._numbers = itertools.count(1)
        self.all_done = threading.Event()

    def expect(self, count: int) -> None:
        """Say how many there are."""
        self._last = count

    def on_event(self, message: AgentMessage) -> None:
        """Count."""
        del message
        if next(self._numbers) == self._last:
            self.all_done.set()

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Answer."""
        del payload
        return {}


class Worker:
    """One agent of ours on its own inbox and the one of its type, with leases, acks, renewal."""

    def __init__(self, ground: Ground) -> None:
        """Use an inbox of its own."""
        self.ours = Ours(ground)
        self._agent = _Counting(self.ours.inbox)
        self.worker = AgentWorker(
            self._agent, self.ours.coordinator, threads=THREADS, visibility_timeout=LEASE
        )

    def consume(self, count: int) -> None:
        """Start the worker, and see the last handler run."""
        self._agent.expect(count)
        self.worker.start()
        if not self._agent.all_done.wait(LONGEST_BLOCK):
            raise AssertionError("a message was not handled")

    def rest(self, count: int) -> None:
        """Stop it: all must be acknowledged by then."""
        del count
        self.worker.stop()
        if self.ours.coordinator.internals.held(self.ours.inbox):
            raise AssertionError("a message was not acknowledged")

    def request(self) -> None:
        """Ask and wait for the answer."""
        self.ours.coordinator.request(SENDER, self.ours.inbox, PAYLOAD, timeout=5.0)


def working(ground: Ground) -> Iterator[Row]:
    """All messages are there before the worker starts; what stays is checked after the clock."""
    floor, ours, huey = Floor(ground), Worker(ground), Huey(ground)
    blocks = {
        "floor": Block(floor.consume_in_threads, floor.fill),
        "worker": Block(ours.consume, ours.ours.fill, ours.rest),
        "huey": Block(huey.consume, huey.fill, huey.rest),
    }
    rates = interleave(blocks, ground.messages * 2, ground.rounds)
    for base, target in (("huey", 8.0), ("floor", 2.5)):
        yield at_least(
            f"AgentWorker, {THREADS} threads, against {base}",
            median_ratio(rates["worker"], rates[base]),
            target,
            f"{statistics.median(rates['worker']):,.0f}/s to "
            f"{statistics.median(rates[base]):,.0f}/s",
            rates=rates["worker"],
            floor=rates[base],
        )
    yield _requests(ours)
    floor.close()
    huey.clear()
    ours.ours.close()


def _requests(ours: Worker) -> Row:
    """One thread that asks a worker at rest, in the process of the worker."""
    with ours.worker:
        found = sorted(_milliseconds(ours.request) for _ in range(REQUESTS + 20))[20:]
    p50, p99 = (percentile(found, percent) for percent in (50, 99))
    return Row(
        "request and reply, idle, p50 and p99",
        f"{p50:.2f} ms and {p99:.2f} ms",
        figures={"p50": p50, "p99": p99},
    )


def _milliseconds(work: Callable[[], object]) -> float:
    time.sleep(0.002 * random.uniform(1, 1.5))
    start = perf_counter()
    work()
    return (perf_counter() - start) * 1000
