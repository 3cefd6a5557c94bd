"""What a circuit breaker tells of itself."""

from __future__ import annotations

import threading
import time
from typing import Literal, TypedDict

import attrs

from tta_agent_coordination.circuit.config import CircuitBreakerState
from tta_agent_coordination.circuit.known import KnownCircuit


class CircuitBreakerMetrics(TypedDict):
    """What `CircuitBreaker.get_metrics` returns. Counts of calls are this object's, since made."""

    name: str
    """Of the circuit."""
    state: CircuitBreakerState
    """Closed, open or half-open."""
    failures: int
    """In a row, in all processes."""
    successes: int
    """Of probes, in all processes, while half-open."""
    probes: int
    """Calls that have a place, in all processes, while half-open."""
    opened_at: float | None
    """When it opened, by the server's clock, in seconds since 1970; None while closed."""
    retry_after: float
    """Seconds until it may be tried; 0 unless open."""
    storage: Literal["redis", "local"]
    """Where this comes from: ``local`` while Redis is away."""
    storage_error: str | None
    """Why it is ``local``."""
    view_age: float
    """Seconds since this was true of the storage."""
    calls: int
    """Calls that were let through."""
    succeeded: int
    """Calls that succeeded."""
    failed: int
    """Calls that failed, those that are excluded not counted."""
    uncounted: int
    """Calls that ended with an excluded exception or an interruption."""
    refused: int
    """Calls that were refused."""


@attrs.define
class Tally:
    """Counts the calls of one breaker."""

    calls: int = 0
    succeeded: int = 0
    failed: int = 0
    uncounted: int = 0
    refused: int = 0
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def count(self, what: str) -> None:
        """Add one to `what`."""
        with self._lock:
            setattr(self, what, getattr(self, what) + 1)


def metrics_of(name: str, known: KnownCircuit, tally: Tally) -> CircuitBreakerMetrics:
    """Put together what is known of a circuit and of the calls through one breaker."""
    view, error = known.view, known.error
    return CircuitBreakerMetrics(
        name=name,
        state=view.phase,
        failures=view.failures,
        successes=view.successes,
        probes=view.probes,
        opened_at=view.opened_at or None,
        retry_after=view.seconds_left(),
        storage="redis" if error is None else "local",
        storage_error=None if error is None else str(error),
        view_age=time.monotonic() - view.asked_at,
        calls=tally.calls,
        succeeded=tally.succeeded,
        failed=tally.failed,
        uncounted=tally.uncounted,
        refused=tally.refused,
    )
