"""How a circuit stood when somebody looked."""

from __future__ import annotations

import time
from enum import StrEnum

import attrs

from tta_agent_coordination.circuit.config import CircuitBreakerState


class Outcome(StrEnum):
    """What came of a call."""

    SUCCESS = "success"
    FAILURE = "failure"
    NONE = "none"
    """Nothing that counts: it was excluded or interrupted."""


@attrs.frozen(kw_only=True)
class View:
    """A circuit at one moment.

    Attributes:
        phase: Closed, open or half-open.
        period: Of this phase; another after each change.
        failures: In a row.
        successes: Of probes, while half-open.
        probes: Calls that have a place, while half-open.
        opened_at: When it opened, in seconds since 1970; 0 while it is closed.
        ends: When an open one may surely be tried, on this process's monotonic clock.
        asked_at: When it was looked at, at the earliest, on the same clock.
        known_at: When the answer was here.
        stamp: By which views are ordered: the server's time, counted up while it is away.
        admitted: Whether the call that asked has been let through, or would be.
    """

    phase: CircuitBreakerState = CircuitBreakerState.CLOSED
    period: int = 0
    failures: int = 0
    successes: int = 0
    probes: int = 0
    opened_at: float = 0.0
    ends: float = 0.0
    asked_at: float = 0.0
    known_at: float = 0.0
    stamp: float = 0.0
    admitted: bool = True

    def decides_at(self, now: float) -> bool:
        """Whether calls can be let through, or refused, by this alone while it is fresh."""
        if self.phase is CircuitBreakerState.CLOSED:
            return self.failures == 0
        return self.phase is CircuitBreakerState.OPEN and now < self.ends

    def seconds_left(self) -> float:
        """Seconds until an open circuit may surely be tried."""
        if self.phase is not CircuitBreakerState.OPEN:
            return 0.0
        return max(self.ends - time.monotonic(), 0.0)

    def older(self, seconds: float) -> View:
        """Return what it would be if it had been seen so many seconds earlier."""
        return attrs.evolve(
            self,
            ends=self.ends - seconds,
            asked_at=self.asked_at - seconds,
            known_at=self.known_at - seconds,
        )

    def is_older_than(self, other: View) -> bool:
        """Whether `other` was seen later, also where the server's clock was set back."""
        return self.stamp <= other.stamp or self.known_at < other.asked_at
