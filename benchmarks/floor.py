"""The floor: plain redis-py, one LPUSH a send, one BRPOP a message, and nothing kept safe."""

from __future__ import annotations

import json
import threading

from benchmarks.payload import dump
from benchmarks.server import Ground
from benchmarks.timing import Block

_END = "null"


class Floor:
    """A list in Redis, pushed to and popped from."""

    def __init__(self, ground: Ground) -> None:
        """Use a list of its own."""
        self.client = ground.client()
        self.key = ground.new_name("floor")

    def send(self, count: int) -> None:
        """One LPUSH a message, in this thread."""
        for _ in range(count):
            self.client.lpush(self.key, dump())

    def fill(self, count: int) -> None:
        """Have exactly `count` messages ready."""
        self.client.delete(self.key)
        for start in range(0, count, 1000):
            self.client.lpush(self.key, *[dump()] * min(1000, count - start))

    def consume(self, count: int) -> None:
        """One BRPOP a message, in this thread."""
        for _ in range(count):
            json.loads(self.client.brpop(self.key)[1])

    def consume_in_threads(self, count: int, threads: int = 8) -> None:
        """One BRPOP a message in each of several threads, until all `count` are gone."""
        self.client.lpush(self.key, *[_END] * threads)
        taken: list[int] = []
        workers = [
            threading.Thread(target=self._consume_all, args=(taken,), name=f"floor-{number}")
            for number in range(threads)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if sum(taken) != count:
            raise AssertionError(f"{sum(taken)} of {count} messages were popped")

    def _consume_all(self, taken: list[int]) -> None:
        number = 0
        while json.loads(self.client.brpop(self.key)[1]) is not None:
            number += 1
        taken.append(number)

    def sends(self) -> Block:
        """One thread that sends to a list which is dropped before each block."""
        return Block(self.send, lambda _count: self.client.delete(self.key))

    def close(self) -> None:
        """Drop the list."""
        self.client.delete(self.key)
        self.client.close()
