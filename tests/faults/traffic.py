"""Producers and consumers that go on through a fail-over, and what they saw."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.faults.calls import INBOX, SENDER
from tests.support.waiting import eventually
from tta_agent_coordination import (
    AgentMessage,
    CoordinatorUnavailableError,
    MessageResult,
    RedisMessageCoordinator,
)

PRODUCERS = CONSUMERS = 2
LEASE = 3.0
PAUSE = 0.005


class Traffic:
    """What was sent and what was handled, so far.

    Attributes:
        confirmed: The results of sends that did not fail.
        handled: Ids in the order of handling; some may come twice.
        errors: Those that calls raised.
        longest: Seconds of the call that took longest, less what it may wait for messages.
    """

    def __init__(
        self, coordinator: RedisMessageCoordinator, prefix: str, *, replicated: bool = True
    ) -> None:
        self.confirmed: list[MessageResult] = []
        self.handled: list[str] = []
        self.errors: list[CoordinatorUnavailableError] = []
        self.longest = 0.0
        self._coordinator = coordinator
        self._prefix = prefix
        self._replicated = replicated
        self._enough = threading.Event()
        self._end = threading.Event()

    @property
    def safe(self) -> set[str]:
        """Ids of those confirmed; where replicas count, of those that one had by then."""
        return {
            result.message_id
            for result in self.confirmed
            if result.replicas or not self._replicated
        }

    def await_more(self, number: int = 20, timeout: float = 30.0) -> None:
        """Return when so many more were sent safely and so many more were handled."""
        sent, handled = len(self.safe), len(self.handled)
        eventually(
            lambda: len(self.safe) >= sent + number and len(self.handled) >= handled + number,
            timeout=timeout,
            what="nothing goes on",
        )

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Send and handle meanwhile; at the end, handle all that was sent safely."""
        threads = [
            threading.Thread(target=job, args=(number,), name=f"{job.__name__}-{number}")
            for job in (self._produce, self._consume)
            for number in range(PRODUCERS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
            self._enough.set()
            eventually(
                lambda: self.safe <= set(self.handled),
                timeout=20.0,
                what=f"lost: {self.safe - set(self.handled)}",
            )
        finally:
            self._enough.set()
            self._end.set()
            for thread in threads:
                thread.join(20.0)

    def _produce(self, number: int) -> None:
        count = 0
        while not self._enough.is_set():
            count += 1
            name = f"{self._prefix}-{number}-{count:05}"
            message = AgentMessage(SENDER, INBOX, {}, message_id=name)
            confirmed = False
            while not confirmed and not self._end.is_set():
                with self._timed():
                    self.confirmed.append(self._coordinator.send_message(SENDER, INBOX, message))
                    confirmed = True
            self._enough.wait(PAUSE)

    def _consume(self, _number: int) -> None:
        while not self._end.is_set():
            with self._timed(waiting=0.5):
                received = self._coordinator.receive(INBOX, LEASE, wait=0.5)
            if received is not None:
                self.handled.append(received.message.message_id)
                with self._timed():
                    self._coordinator.ack(INBOX, received.token)

    @contextmanager
    def _timed(self, waiting: float = 0.0) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        except CoordinatorUnavailableError as error:
            self.errors.append(error)
            self._end.wait(PAUSE)
        self.longest = max(self.longest, time.monotonic() - began - waiting)


def until_it_works(call: Callable[[], object], timeout: float = 20.0) -> None:
    """Repeat a call until Redis is there."""
    done: list[bool] = []

    def works() -> bool:
        with suppress(CoordinatorUnavailableError):
            call()
            done.append(True)
        return bool(done)

    eventually(works, timeout=timeout)
