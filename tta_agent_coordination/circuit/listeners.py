"""Tells pybreaker's listeners what happens, and is pybreaker's storage."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pybreaker

from tta_agent_coordination.circuit.config import CircuitBreakerState
from tta_agent_coordination.circuit.decisions import Decisions
from tta_agent_coordination.events import BreakerChanged, Events

logger = logging.getLogger("tta_agent_coordination")

_STATES = {
    CircuitBreakerState.CLOSED: pybreaker.CircuitClosedState,
    CircuitBreakerState.OPEN: pybreaker.CircuitOpenState,
    CircuitBreakerState.HALF_OPEN: pybreaker.CircuitHalfOpenState,
}

Listeners = Callable[[], tuple[pybreaker.CircuitBreakerListener, ...]]


class CircuitStorage(pybreaker.CircuitBreakerStorage):
    """A circuit as pybreaker sees it.

    It shows what is known, without asking Redis. Counting is left to the scripts, which decide
    in the same step: what pybreaker would count is ignored.
    """

    def __init__(self, name: str, decisions: Decisions) -> None:
        """Show the circuit of `decisions`."""
        super().__init__(name)
        self._decisions = decisions

    @property
    def state(self) -> str:
        """One of pybreaker's ``STATE_…``; setting it puts the shared circuit into that state."""
        return self._decisions.known.view.phase.value

    @state.setter
    def state(self, state: str) -> None:
        self._decisions.set(CircuitBreakerState(state))

    @property
    def counter(self) -> int:
        """Failures in a row."""
        return self._decisions.known.view.failures

    @property
    def success_counter(self) -> int:
        """Successes of probes."""
        return self._decisions.known.view.successes

    @property
    def opened_at(self) -> datetime | None:
        """When it opened, by the server's clock; None while it is closed. Setting is ignored."""
        at = self._decisions.known.view.opened_at
        return datetime.fromtimestamp(at, UTC) if at else None

    @opened_at.setter
    def opened_at(self, datetime: datetime) -> None:
        pass


class Announcer:
    """Calls the listeners of one breaker, outside of every lock; one that raises is logged."""

    def __init__(
        self, name: str, decisions: Decisions, listeners: Listeners, events: Events
    ) -> None:
        """Announce to what `listeners` returns at the time, and changes to `events`."""
        self._name = name
        self._events = events
        config = decisions.config
        self._known = decisions.known
        self._listeners = listeners
        self._told: CircuitBreakerState | None = None
        self._lock = threading.Lock()
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=config.failure_threshold,
            reset_timeout=config.timeout_seconds,
            success_threshold=config.success_threshold,
            exclude=[config.excludes],
            state_storage=CircuitStorage(name, decisions),
            name=name,
        )

    def before_call(
        self, func: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """A call was let through."""
        for listener in self._listeners():
            self._call(listener.before_call, self._breaker, func, *args, **kwargs)

    def success(self) -> None:
        """It succeeded."""
        for listener in self._listeners():
            self._call(listener.success, self._breaker)

    def failure(self, error: Exception) -> None:
        """It failed, and that counts."""
        for listener in self._listeners():
            self._call(listener.failure, self._breaker, error)

    def look(self) -> None:
        """Tell of a change since the last look."""
        new = self._known.view.phase
        if new is self._told:  # without the lock: most looks see nothing new
            return
        with self._lock:
            old, self._told = self._told, new
        if old is None or old is new:
            return
        before = _STATES[old](self._breaker, None)
        after = _STATES[new](self._breaker, before)
        for listener in self._listeners():
            self._call(listener.state_change, self._breaker, before, after)
        if self._events.observers:
            self._events.tell(BreakerChanged(breaker=self._name, old=old.value, new=new.value))

    def _call(self, tell: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        try:
            tell(*args, **kwargs)
        except Exception:
            logger.exception(
                "a listener of circuit breaker %s raised",
                self._name,
                extra={"event": "listener_failed", "breaker": self._name},
            )
