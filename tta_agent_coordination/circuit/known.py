"""What a process knows of a circuit: the last view of it, and its own while Redis is away."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Hashable
from weakref import WeakValueDictionary

from tta_agent_coordination import policy
from tta_agent_coordination.circuit.config import CircuitBreakerState
from tta_agent_coordination.circuit.local import LocalCircuit
from tta_agent_coordination.circuit.view import View

logger = logging.getLogger("tta_agent_coordination")


class KnownCircuit:
    """Shared by all breakers of one circuit in one process, so that none knows less than another.

    Every method is quick: its lock is never held while anything is waited for.
    """

    def __init__(self, name: str) -> None:
        """Begin with nothing known; `name` is for the log."""
        self._name = name
        self._view: View | None = None
        self._local: LocalCircuit | None = None
        self._ask_again_at = 0.0
        self._renewed_until = 0.0
        self._error: Exception | None = None
        self._lock = threading.Lock()

    @property
    def view(self) -> View:
        """The last view; a closed circuit if there is none yet."""
        return self._view or View()

    @property
    def error(self) -> Exception | None:
        """Why Redis is not asked; None while it is."""
        return self._error

    def decided(self, refresh: float, patience: float) -> View | None:
        """Return the view if it is fresh enough to decide alone, else None: ask.

        Of several threads that come when it is old, one is told to ask. The others go by the
        view until the answer is there, for `patience` seconds at most; with a `refresh` of 0 all
        ask.
        """
        if refresh == 0:
            return None
        with self._lock:
            view, now = self._view, time.monotonic()
            if view is None or self._local is not None or not view.decides_at(now):
                return None
            age = now - view.asked_at
            if age < refresh or (now < self._renewed_until and age < refresh + patience):
                return view
            self._renewed_until = now + patience
            return None

    def local(self) -> LocalCircuit | None:
        """Return the circuit of this process while Redis is away.

        None when Redis is to be asked: it is there, or it is this thread's turn to look.
        """
        with self._lock:
            now = time.monotonic()
            if self._local is not None and now >= self._ask_again_at:
                self._ask_again_at = now + policy.CIRCUIT_AWAY_PAUSE
                return None
            return self._local

    def learn(self, view: View) -> None:
        """Take over what Redis answered; it is what counts again if it was away."""
        with self._lock:
            back, self._local, self._error = self._local is not None, None, None
            self._renewed_until = 0.0
            change = self._take(view, surely=back)
        if back:
            logger.info(
                "circuit breaker %s: Redis is back, its state counts again",
                self._name,
                extra={"event": "breaker_shared", "breaker": self._name},
            )
        self._tell(change)

    def note(self, view: View) -> None:
        """Take over what the local circuit came to."""
        with self._lock:
            change = self._take(view) if self._local is not None else None
        self._tell(change)

    def lose(self, error: Exception) -> LocalCircuit:
        """Go on without Redis from what is known, and return the circuit that counts now."""
        with self._lock:
            local, first = self._local, self._local is None
            if local is None:
                local = self._local = LocalCircuit(self.view)
            self._error = error.with_traceback(None)
            self._ask_again_at = time.monotonic() + policy.CIRCUIT_AWAY_PAUSE
        if first:
            logger.warning(
                "circuit breaker %s: Redis does not serve it, going by what this process sees: %s",
                *(self._name, error),
                extra={"event": "breaker_alone", "breaker": self._name},
            )
        return local

    def let_pass(self, seconds: float) -> None:
        """Make what is known so many seconds older, when a test has moved the server's clock."""
        with self._lock:
            self._ask_again_at -= seconds
            self._renewed_until -= seconds
            if self._view is not None:
                self._view = self._view.older(seconds)
            if self._local is not None:
                self._local.let_pass(seconds)

    def _take(self, view: View, *, surely: bool = False) -> tuple[View, View] | None:
        old = self._view
        if old is not None and not surely and not old.is_older_than(view):
            return None
        self._view = view
        return None if old is None or old.phase is view.phase else (old, view)

    def _tell(self, change: tuple[View, View] | None) -> None:
        if change is None:
            return
        old, new = (view.phase.value for view in change)
        bad_news = (old, new) == (CircuitBreakerState.CLOSED, CircuitBreakerState.OPEN)
        level = logging.WARNING if bad_news else logging.INFO
        logger.log(
            level, "circuit breaker %s: %s after %s", self._name, new, old,
            extra={"event": "breaker_changed", "breaker": self._name, "old": old, "new": new},
        )  # fmt: skip


_KNOWN: WeakValueDictionary[tuple[int, Hashable, str], KnownCircuit] = WeakValueDictionary()


def known_circuit(place: Hashable, key: str, name: str) -> KnownCircuit:
    """Return what this process knows of the circuit under `key` of the server at `place`."""
    # Not the parent's: another thread of it may hold the lock for ever.
    return _KNOWN.setdefault((os.getpid(), place, key), KnownCircuit(name))


def known_circuits(place: Hashable) -> list[KnownCircuit]:
    """Return all that this process knows of circuits of the server at `place`."""
    here = (os.getpid(), place)
    return [known for (pid, at, _), known in list(_KNOWN.items()) if (pid, at) == here]
