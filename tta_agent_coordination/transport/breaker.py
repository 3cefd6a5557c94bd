"""The circuit breaker of a gate: pybreaker decides, and is never held while Redis is waited for."""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
import time
from typing import Any

import pybreaker

from tta_agent_coordination import policy
from tta_agent_coordination.errors import (
    CoordinatorCircuitOpenError,
    CoordinatorUnavailableError,
)
from tta_agent_coordination.events import BreakerChanged, Events, held

logger = logging.getLogger("tta_agent_coordination")


class Breaker:
    """Counts failures in a row; refuses calls after too many, but for one now and then.

    ``pybreaker.CircuitBreaker.call`` holds its lock while the function runs, and counts Ctrl-C as
    a failure. So the calls are made outside, and it is given a function that only returns or
    raises what came of them.
    """

    def __init__(self, name: str, *, trial_time: float, events: Events) -> None:
        """Begin closed.

        Args:
            name: For the log and for errors.
            trial_time: Seconds after which a trial of which nothing was heard is over.
            events: Who is told what it does.
        """
        self._name = name
        self._trial_time = trial_time
        self._trial_ends = 0.0
        self._trial_lock = threading.Lock()
        self._opened = _Changes(events)
        self._cause: Exception | None = None
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=policy.BREAKER_FAILURES,
            reset_timeout=policy.BREAKER_RESET,
            listeners=[self._opened],
            name=name,
        )

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half-open``."""
        return self._breaker.current_state

    def admit(self) -> bool:
        """Let a call through, or not.

        Returns:
            Whether the call is the one trial of a breaker that was open; tell `succeeded`,
            `failed` or `abandoned`.

        Raises:
            CoordinatorCircuitOpenError: The breaker is open, or its trial is under way.
        """
        if self._breaker.current_state == pybreaker.STATE_CLOSED:
            return False
        left = self._seconds_left()
        if left > 0 or not self._begin_trial():
            raise self._refusal(left)
        with held():
            self._breaker.half_open()
        return True

    def check_closed(self) -> None:
        """Let nothing through but when closed: for what takes too long to be a trial.

        Raises:
            CoordinatorCircuitOpenError: The breaker is not closed.
        """
        if self._breaker.current_state != pybreaker.STATE_CLOSED:
            raise self._refusal(self._seconds_left())

    def succeeded(self, *, trial: bool) -> None:
        """The server answered: close, and forget the failures."""
        if self._breaker.current_state == pybreaker.STATE_CLOSED:
            if self._breaker.fail_counter:
                with contextlib.suppress(pybreaker.CircuitBreakerError):  # opened meanwhile
                    self._breaker.call(_succeed)
        else:
            with held():
                self._breaker.close()
        self.abandoned(trial=trial)

    def failed(self, error: Exception, *, trial: bool) -> None:
        """The server could not be reached: count it; the last of many, or a trial, opens."""
        self._cause = _twin(error)
        if trial or self._breaker.current_state == pybreaker.STATE_CLOSED:
            with held(), contextlib.suppress(pybreaker.CircuitBreakerError, _CountedError):
                self._breaker.call(_fail, error)
        self.abandoned(trial=trial)

    def abandoned(self, *, trial: bool) -> None:
        """Nothing is known of the server; give the place of a trial back."""
        if trial:
            self._trial_ends = 0.0

    def _begin_trial(self) -> bool:
        now = time.monotonic()
        with self._trial_lock:
            free = now >= self._trial_ends
            if free:
                self._trial_ends = now + self._trial_time
        return free

    def _seconds_left(self) -> float:
        return max(self._opened.at + policy.BREAKER_RESET - time.monotonic(), 0.0)

    def _refusal(self, left: float) -> CoordinatorCircuitOpenError:
        refusal = CoordinatorCircuitOpenError(
            f"Redis failed {policy.BREAKER_FAILURES} times in a row; the circuit breaker "
            f"{self._name!r} tries it again in {left:.1f} s; the last error: {self._cause}",
            retry_after=left,
        )
        refusal.__cause__ = self._cause
        return refusal


def _twin(error: Exception) -> Exception:
    """Return an error like the caller's own, which keeps its traceback: ours holds no frames."""
    try:
        return copy.copy(error)
    except Exception:  # noqa: BLE001 - one whose class cannot be made of its arguments
        return CoordinatorUnavailableError(f"{type(error).__name__}: {error}")


class _CountedError(Exception):
    """What pybreaker counts."""


def _succeed() -> None:
    return None


def _fail(error: Exception) -> None:
    raise _CountedError from error


_LEVELS = {
    (pybreaker.STATE_CLOSED, pybreaker.STATE_OPEN): logging.WARNING,
    (pybreaker.STATE_OPEN, pybreaker.STATE_CLOSED): logging.INFO,
    (pybreaker.STATE_HALF_OPEN, pybreaker.STATE_CLOSED): logging.INFO,
}


class _Changes(pybreaker.CircuitBreakerListener):
    """Says when it opens and when it closes; knows when it opened, monotonically."""

    def __init__(self, events: Events) -> None:
        self.at = 0.0
        self._events = events

    def state_change(self, cb: pybreaker.CircuitBreaker, old_state: Any, new_state: Any) -> None:
        if new_state.name == pybreaker.STATE_OPEN:
            self.at = time.monotonic()
        old, new = old_state.name, new_state.name
        level = _LEVELS.get((old, new), logging.DEBUG)  # trials of a long outage are no news
        logger.log(
            level, "circuit breaker %s: %s after %s", cb.name, new, old,
            extra={"event": "breaker_changed", "breaker": cb.name, "old": old, "new": new},
        )  # fmt: skip
        # pybreaker holds its lock here: whoever called it tells when that is free.
        self._events.tell(BreakerChanged(breaker=str(cb.name), old=old, new=new))
