"""Other queues on Redis, with the same payload and a handler that does nothing."""

from __future__ import annotations

import threading
from typing import Any, Protocol

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from huey import RedisHuey

from benchmarks.payload import PAYLOAD
from benchmarks.server import Ground

THREADS = 8
LONGEST_BLOCK = 60.0


class Rival(Protocol):
    """What is measured of a rival."""

    def send(self, count: int) -> None:
        """Enqueue one task a call, in this thread."""

    def fill(self, count: int) -> None:
        """Have exactly `count` tasks ready."""

    def consume(self, count: int) -> None:
        """Handle them all, in 8 worker threads."""

    def rest(self, count: int) -> None:
        """End the worker threads."""

    def clear(self, count: int = 0) -> None:
        """Drop all tasks."""


class _Countdown:
    """Says when so many handlers have run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = 0
        self._done = threading.Event()

    def start(self, count: int) -> None:
        self._left = count
        self._done.clear()

    def handle(self, _payload: dict[str, Any]) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._done.set()

    def wait(self) -> None:
        if not self._done.wait(LONGEST_BLOCK):
            raise AssertionError("a task was not handled")


class Huey:
    """huey: RPUSH, blocking pop in each of 8 worker threads; results are not stored."""

    def __init__(self, ground: Ground) -> None:
        """Use a queue of its own."""
        self._huey = RedisHuey(ground.new_name("huey"), url=ground.url, results=False)
        self._countdown = _Countdown()
        self._task = self._huey.task(name="handle")(self._countdown.handle)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def send(self, count: int) -> None:
        """Call the task."""
        for _ in range(count):
            self._task(PAYLOAD)

    def clear(self, count: int = 0) -> None:
        """Empty the queue."""
        del count
        self._huey.flush()

    def fill(self, count: int) -> None:
        """Empty the queue and send."""
        self.clear()
        self.send(count)

    def consume(self, count: int) -> None:
        """Run what huey's worker does, in threads: its consumer takes over signals."""
        self._countdown.start(count)
        self._stop.clear()
        self._threads = [
            threading.Thread(target=self._work, name=f"huey-{number}") for number in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()
        self._countdown.wait()

    def rest(self, count: int) -> None:
        """End the threads: their blocking pop ends after a second by itself, or with a task."""
        del count
        self._stop.set()
        self.send(THREADS)
        for thread in self._threads:
            thread.join()
        self.clear()

    def _work(self) -> None:
        while not self._stop.is_set():
            task = self._huey.dequeue()
            if task is not None:
                self._huey.execute(task)


class Dramatiq:
    """dramatiq: a fetch script that prefetches, and 8 worker threads; its default middleware."""

    def __init__(self, ground: Ground) -> None:
        """Use a namespace of its own."""
        self._url = ground.url
        self._namespace = ground.new_name("dramatiq")
        self._countdown = _Countdown()
        self._open()

    def _open(self) -> None:
        # A broker takes the middleware of one worker only.
        self._broker = RedisBroker(url=self._url, namespace=self._namespace)
        self._actor = dramatiq.actor(
            self._countdown.handle, actor_name="handle", broker=self._broker
        )

    def send(self, count: int) -> None:
        """Send to the actor."""
        for _ in range(count):
            self._actor.send(PAYLOAD)

    def clear(self, count: int = 0) -> None:
        """Empty the queue."""
        del count
        self._broker.flush_all()

    def fill(self, count: int) -> None:
        """Empty the queue and send."""
        self.clear()
        self.send(count)

    def consume(self, count: int) -> None:
        """Start dramatiq's own worker, and see the last handler run."""
        self._countdown.start(count)
        self._worker = dramatiq.Worker(self._broker, worker_threads=THREADS)
        self._worker.start()
        self._countdown.wait()

    def rest(self, count: int) -> None:
        """End the worker."""
        del count
        self._worker.stop()
        self._broker.close()
        self._open()
