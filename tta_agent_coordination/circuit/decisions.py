"""Who decides: the view at hand, Redis, or the circuit of this process while Redis is away."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import attrs

from tta_agent_coordination.circuit.config import CircuitBreakerConfig, CircuitBreakerState
from tta_agent_coordination.circuit.known import KnownCircuit
from tta_agent_coordination.circuit.local import LocalCircuit
from tta_agent_coordination.circuit.server import ServerCircuit
from tta_agent_coordination.circuit.view import Outcome, View
from tta_agent_coordination.errors import ConfigurationError, CoordinationError


@attrs.frozen
class Decisions:
    """Decides for one breaker.

    Attributes:
        known: What this process knows of the circuit.
        server: The circuit in Redis.
        config: Of the breaker.
        refresh: Seconds for which a view decides alone.
        patience: Seconds that asking Redis takes at most.
        closed: Set when the breaker was closed for good.
        asked: Set once this breaker has asked: what others of this process knew before it was
            made may be of a server that was emptied since.
    """

    known: KnownCircuit
    server: ServerCircuit
    config: CircuitBreakerConfig
    refresh: float
    patience: float
    closed: threading.Event
    asked: threading.Event = attrs.field(factory=threading.Event, init=False)

    def admit(self, call: str) -> View:
        """Let a call through or not, as ``admitted`` of the answer says."""
        self._check_open()
        view = self.known.decided(self.refresh, self.patience) if self.asked.is_set() else None
        if view is not None:
            return attrs.evolve(view, admitted=view.phase is CircuitBreakerState.CLOSED)
        return self._ask(
            lambda: self.server.admit(call, self.config),
            lambda local: local.admit(call, self.config),
        )

    def settle(self, call: str, period: int, outcome: Outcome) -> None:
        """Count what came of a call, where it counts; never raises what Redis may."""
        with contextlib.suppress(ConfigurationError):  # closed for good
            self._check_open()
            self._ask(
                lambda: self.server.settle(call, period, outcome, self.config),
                lambda local: local.settle(call, period, outcome, self.config),
            )

    def read(self) -> View:
        """Look at the circuit."""
        self._check_open()
        return self._ask(
            lambda: self.server.read(self.config), lambda local: local.read(self.config)
        )

    def set(self, phase: CircuitBreakerState) -> View:
        """Put the circuit into a phase."""
        self._check_open()
        return self._ask(
            lambda: self.server.set(phase, self.config),
            lambda local: local.set(phase, self.config),
        )

    def _ask(self, server: Callable[[], View], local: Callable[[LocalCircuit], View]) -> View:
        self.asked.set()
        here = self.known.local()
        if here is None:
            try:
                view = server()
            except CoordinationError as error:
                self._check_open()  # that somebody closed the connections is no outage
                here = self.known.lose(error)
            else:
                self.known.learn(view)
                return view
        view = local(here)
        self.known.note(view)
        return view

    def _check_open(self) -> None:
        if self.closed.is_set():
            raise ConfigurationError("this circuit breaker was closed for good: make a new one")
