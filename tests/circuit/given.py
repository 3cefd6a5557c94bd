"""What the tests of circuit breakers call, and configurations for them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.waiting import eventually
from tta_agent_coordination import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitBreakerOpenError,
    CircuitBreakerState,
)

NAME = "llm/eu"
PATIENCE = 10.0
"""Seconds in which what must happen has happened, on a busy machine too."""
CONFIG = CircuitBreakerConfig(failure_threshold=3)
CLOSED, OPEN, HALF_OPEN = CircuitBreakerState


class ServiceError(Exception):
    """What the service raises."""


def fail() -> None:
    raise ServiceError("it is down")


def succeed() -> str:
    return "done"


def fails(breaker: CircuitBreaker, times: int = 1) -> None:
    """Call the service while it fails."""
    for _ in range(times):
        with pytest.raises(ServiceError):
            breaker.call(fail)


def succeeds(breaker: CircuitBreaker, times: int = 1) -> None:
    """Call the service while it works."""
    for _ in range(times):
        assert breaker.call(succeed) == "done"


def trip(breaker: CircuitBreaker) -> None:
    """Open a closed circuit."""
    fails(breaker, breaker.config.failure_threshold)
    assert breaker.state is OPEN


def refused(breaker: CircuitBreaker) -> CircuitBreakerOpenError:
    """Call the service, and fail unless that is refused; return how."""
    called: list[int] = []
    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker.call(called.append, 1)
    assert called == [], "the service was called all the same"
    return caught.value


class Probe:
    """A call that runs in a thread of its own until the test ends it."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.runs = threading.Event()
        self.error: BaseException | None = None
        self._outcome: Callable[[], object] = succeed
        self._go_on = threading.Event()
        self._breaker = breaker
        self._thread = threading.Thread(target=self._run, name="probe")
        self._thread.start()
        eventually(lambda: self.runs.is_set() or self.error, timeout=PATIENCE)

    @property
    def admitted(self) -> bool:
        return self.runs.is_set()

    def end(self, outcome: Callable[[], object] = succeed) -> None:
        self._outcome = outcome
        self._go_on.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._breaker.call(self._work)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def _work(self) -> None:
        self.runs.set()
        self._go_on.wait(PATIENCE)
        self._outcome()


@contextmanager
def probes(breaker: CircuitBreaker, number: int) -> Iterator[list[Probe]]:
    """Have so many calls under way; those that the test does not end succeed at the end."""
    under_way = [Probe(breaker) for _ in range(number)]
    try:
        yield under_way
    finally:
        for probe in under_way:
            probe.end(probe._outcome)
