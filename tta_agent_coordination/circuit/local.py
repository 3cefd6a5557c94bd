"""The circuit of one process, while Redis is away: the rules of the scripts, in memory."""

from __future__ import annotations

import secrets
import threading
import time

import attrs

from tta_agent_coordination.circuit.config import CircuitBreakerConfig, CircuitBreakerState
from tta_agent_coordination.circuit.view import Outcome, View

_CLOSED, _OPEN, _HALF_OPEN = CircuitBreakerState


class LocalCircuit:
    """A circuit that goes on from what was last known of the shared one.

    Its first period is that of the shared circuit, so that calls which were admitted there count
    here, and the other way round; periods that begin here are known nowhere else.
    """

    def __init__(self, seed: View) -> None:
        """Begin as `seed` says."""
        self._view = seed
        self._places: set[str] = set()
        self._lock = threading.Lock()

    def admit(self, call: str, config: CircuitBreakerConfig) -> View:
        """Let a call through, or not; a probe has a place from then on."""
        with self._lock:
            if self._may_be_tried():
                self._enter(_HALF_OPEN, config)
            admitted = self._has_room(config)
            if admitted and self._view.phase is _HALF_OPEN:
                self._places.add(call)
            return self._seen(admitted=admitted)

    def settle(
        self, call: str, period: int, outcome: Outcome, config: CircuitBreakerConfig
    ) -> View:
        """Count what came of a call, and give its place back."""
        with self._lock:
            self._places.discard(call)
            if period == self._view.period and self._view.phase is not _OPEN:
                if outcome is Outcome.FAILURE:
                    self._fail(config)
                elif outcome is Outcome.SUCCESS:
                    self._succeed(config)
            return self._seen()

    def read(self, config: CircuitBreakerConfig) -> View:
        """Look at it, and change nothing."""
        with self._lock:
            return self._seen(admitted=self._may_be_tried() or self._has_room(config))

    def set(self, phase: CircuitBreakerState, config: CircuitBreakerConfig) -> View:
        """Put it into a phase."""
        with self._lock:
            self._enter(phase, config)
            return self._seen()

    def let_pass(self, seconds: float) -> None:
        """Make it so many seconds older, when a test has moved the server's clock."""
        with self._lock:
            self._view = self._view.older(seconds)

    def _may_be_tried(self) -> bool:
        return self._view.phase is _OPEN and time.monotonic() >= self._view.ends

    def _has_room(self, config: CircuitBreakerConfig) -> bool:
        if self._view.phase is _HALF_OPEN:
            return len(self._places) < config.half_open_max_calls
        return self._view.phase is _CLOSED

    def _fail(self, config: CircuitBreakerConfig) -> None:
        failures = self._view.failures + 1
        self._view = attrs.evolve(self._view, failures=failures)
        if self._view.phase is _HALF_OPEN or failures >= config.failure_threshold:
            self._enter(_OPEN, config)

    def _succeed(self, config: CircuitBreakerConfig) -> None:
        successes = self._view.successes + (self._view.phase is _HALF_OPEN)
        self._view = attrs.evolve(self._view, failures=0, successes=successes)
        if self._view.phase is _HALF_OPEN and successes >= config.success_threshold:
            self._enter(_CLOSED, config)

    def _enter(self, phase: CircuitBreakerState, config: CircuitBreakerConfig) -> None:
        self._places.clear()
        kept = attrs.evolve(self._view, phase=phase, period=-secrets.randbits(48), successes=0)
        if phase is _CLOSED:
            kept = attrs.evolve(kept, failures=0, opened_at=0.0)
        if phase is _OPEN:
            ends = time.monotonic() + config.timeout_seconds
            kept = attrs.evolve(kept, opened_at=time.time(), ends=ends)
        self._view = kept

    def _seen(self, *, admitted: bool = True) -> View:
        now = time.monotonic()
        self._view = attrs.evolve(
            self._view,
            probes=len(self._places),
            asked_at=now,
            known_at=now,
            stamp=self._view.stamp + 1,
        )
        phase = _HALF_OPEN if self._may_be_tried() else self._view.phase
        return attrs.evolve(self._view, phase=phase, admitted=admitted)
