"""`CircuitBreaker`: lets calls through, or not, and counts what comes of them."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast, overload

import attrs
import pybreaker

from tta_agent_coordination import checks, policy
from tta_agent_coordination.circuit.blocks import Blocks
from tta_agent_coordination.circuit.config import (
    DEFAULT_CALL_TIMEOUT,
    DEFAULT_REFRESH,
    CircuitBreakerConfig,
    CircuitBreakerState,
)
from tta_agent_coordination.circuit.decisions import Decisions
from tta_agent_coordination.circuit.known import known_circuit
from tta_agent_coordination.circuit.listeners import Announcer
from tta_agent_coordination.circuit.metrics import CircuitBreakerMetrics, Tally, metrics_of
from tta_agent_coordination.circuit.permit import Permit, Places
from tta_agent_coordination.circuit.server import ServerCircuit
from tta_agent_coordination.circuit.view import Outcome, View
from tta_agent_coordination.errors import CircuitBreakerOpenError
from tta_agent_coordination.events import Events
from tta_agent_coordination.keys import DEFAULT_KEY_PREFIX, Keys
from tta_agent_coordination.threads import PerProcess
from tta_agent_coordination.transport.connections import place_of
from tta_agent_coordination.transport.link import Link
from tta_agent_coordination.transport.url import target_of

if TYPE_CHECKING:
    from redis import Redis
    from redis.cluster import RedisCluster

P = ParamSpec("P")
T = TypeVar("T")


@attrs.frozen
class _Parts:
    """What a process has of a breaker."""

    decisions: Decisions
    announcer: Announcer
    places: Places
    tally: Tally = attrs.field(factory=Tally)


class CircuitBreaker:
    """Guards calls to a service that may fail, together with every process that uses its name.

    Use it as a decorator, as ``with breaker:``, or through `call`. It can be shared by threads,
    holds no lock while a call runs, and works in a process that was forked. While Redis is away
    it goes by what this process sees. Close it when it is not needed any more.
    """

    def __init__(
        self,
        redis: Redis | RedisCluster,
        name: str,
        config: CircuitBreakerConfig | None = None,
        key_prefix: str = DEFAULT_KEY_PREFIX,
        *,
        refresh: float = DEFAULT_REFRESH,
        call_timeout: float = DEFAULT_CALL_TIMEOUT,
        listeners: Iterable[pybreaker.CircuitBreakerListener] = (),
    ) -> None:
        """Make a breaker; nothing is connected before its first call.

        Args:
            redis: As for `RedisMessageCoordinator`.
            name: Of the service: 1 to 128 printable characters.
            config: When it opens and closes.
            key_prefix: What every key begins with.
            refresh: Seconds for which a process goes by what it knows while nothing failed; so
                late it may learn that another process opened the circuit. 0: it always asks.
            call_timeout: Seconds that asking Redis may hold up a call, when Redis is silent.
            listeners: Told of calls and changes.

        Raises:
            TypeError, ValueError: An argument is wrong.
        """
        if checks.duration("call_timeout", call_timeout) == 0:
            raise ValueError("call_timeout must be more than 0 seconds")
        given = CircuitBreakerConfig() if config is None else config
        self._config = checks.instance_of("config", given, CircuitBreakerConfig)
        self._keys = Keys(key_prefix).circuit(name)
        self._name = name
        self._refresh = checks.duration("refresh", refresh)
        self._call_timeout = float(call_timeout)
        self._listeners = tuple(_listener(listener) for listener in listeners)
        self._link = Link(redis, call_timeout=call_timeout, name=f"circuit {name}")
        self._place = place_of(redis)
        self._closed = threading.Event()
        self._blocks = Blocks()
        self._parts = PerProcess(self._make)

    @classmethod
    def from_url(
        cls,
        url: str,
        name: str,
        config: CircuitBreakerConfig | None = None,
        key_prefix: str = DEFAULT_KEY_PREFIX,
        *,
        refresh: float = DEFAULT_REFRESH,
        call_timeout: float = DEFAULT_CALL_TIMEOUT,
        listeners: Iterable[pybreaker.CircuitBreakerListener] = (),
    ) -> Self:
        """Make a breaker for the server at `url`; the rest is as for the class.

        Raises:
            ConfigurationError: The URL is none that `RedisMessageCoordinator.from_url` takes.
        """
        options: dict[str, Any] = {"refresh": refresh, "call_timeout": call_timeout}
        target: Any = target_of(url)
        return cls(target, name, config, key_prefix, listeners=listeners, **options)

    def __repr__(self) -> str:
        """Name the service and the prefix, and nothing that is secret."""
        return f"<{type(self).__name__} {self._name!r} key={self._keys['circuit']!r}>"

    @property
    def name(self) -> str:
        """Of the service."""
        return self._name

    @property
    def config(self) -> CircuitBreakerConfig:
        """When it opens and closes."""
        return self._config

    @property
    def state(self) -> CircuitBreakerState:
        """How the circuit stands now: asks Redis. Half-open as soon as calls may try again."""
        return self._read().phase

    @property
    def events(self) -> Events:
        """Who is told of changes: add and remove observers."""
        return self._link.events

    @property
    def listeners(self) -> tuple[pybreaker.CircuitBreakerListener, ...]:
        """Who is told of calls and changes."""
        return self._listeners

    def add_listener(self, listener: pybreaker.CircuitBreakerListener) -> None:
        """Tell one more of calls and changes; one that raises is logged, and told again."""
        self._listeners = (*self._listeners, _listener(listener))

    def add_listeners(self, *listeners: pybreaker.CircuitBreakerListener) -> None:
        """Tell several more; see `add_listener`."""
        self._listeners = (*self._listeners, *map(_listener, listeners))

    def remove_listener(self, listener: pybreaker.CircuitBreakerListener) -> None:
        """Tell one no longer.

        Raises:
            ValueError: It was not told before.
        """
        left = list(self._listeners)
        left.remove(listener)
        self._listeners = tuple(left)

    def call(self, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `func` if the circuit lets it through, and count what comes of it.

        What `func` returns or raises comes back unchanged, also if it opens the circuit.

        Raises:
            CircuitBreakerOpenError: The call was refused; ``retry_after`` says for how long.
            TypeError: `func` is asynchronous or a generator function: it would only have begun.
        """
        checks.plain_function(func, "tta_agent_coordination.aio.AsyncCircuitBreaker")
        return self._call(func, *args, **kwargs)

    @overload
    def __call__(self, func: Callable[P, T], /) -> Callable[P, T]: ...
    @overload
    def __call__(self, /) -> Self: ...
    def __call__(self, func: Callable[..., Any] | None = None, /) -> Callable[..., Any]:
        """Return a function that calls `func` as `call` does: ``@breaker`` or ``@breaker()``."""
        if func is None:
            return self
        checks.plain_function(func, "tta_agent_coordination.aio.AsyncCircuitBreaker")

        @functools.wraps(func)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return self._call(func, *args, **kwargs)

        return guarded

    def __enter__(self) -> Self:
        """Begin a guarded block, in any number of threads; raises as `call` does."""
        self._blocks.enter(self.admit())
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Count what came of the block; its exception goes on."""
        self.settle(self._blocks.leave(), error)

    def admit(
        self, func: Callable[..., object] | None = None, /, *args: object, **kwargs: object
    ) -> Permit:
        """Let a call through: the first half of `call`, for what cannot be called by it.

        Hand the permit to `settle` whatever comes of the call; a permit that is lost gives its
        place back when its lease has passed. Both may wait for Redis, `call_timeout` at most, and
        may be called in different threads.

        Args:
            func: What is about to be called, for the listeners.
            args: Its arguments.
            kwargs: Its arguments.

        Raises:
            CircuitBreakerOpenError: The call is refused.
        """
        parts = self._parts.get()
        permit = Permit()
        view = parts.decisions.admit(permit.token)
        parts.announcer.look()
        if not view.admitted:
            parts.tally.count("refused")
            raise self._refusal(view)
        permit.period = view.period
        permit.probe = view.phase is CircuitBreakerState.HALF_OPEN
        if permit.probe:
            parts.places.hold(permit)
        parts.tally.count("calls")
        parts.announcer.before_call(_block if func is None else func, args, kwargs)
        return permit

    def settle(self, permit: Permit, error: BaseException | None = None) -> None:
        """Count what came of a call that was let through: the second half of `call`.

        Args:
            permit: What `admit` returned; only its first return counts, and none in a child
                process: the parent counts what comes of its calls.
            error: What the call raised; None if it succeeded.
        """
        if permit.settled or permit.inherited:
            return
        permit.settled = True
        parts = self._parts.get()
        outcome = self._outcome(error)
        parts.tally.count(_TALLIED[outcome])
        if permit.probe:
            parts.places.let_go(permit)
        if _matters(permit, outcome, parts.decisions.known.view, self._refresh):
            parts.decisions.settle(permit.token, permit.period, outcome)
        if outcome is Outcome.SUCCESS:
            parts.announcer.success()
        elif outcome is Outcome.FAILURE:
            parts.announcer.failure(cast("Exception", error))
        parts.announcer.look()

    def is_call_permitted(self) -> bool:
        """Whether a call would be let through now: asks Redis, and takes no place."""
        return self._read().admitted

    def reset(self) -> None:
        """Close the circuit and forget what was counted, in all processes.

        Calls that run now count for nothing. While Redis is away, only this process closes.
        """
        parts = self._parts.get()
        parts.decisions.set(CircuitBreakerState.CLOSED)
        parts.announcer.look()

    def get_metrics(self) -> CircuitBreakerMetrics:
        """Say how the circuit stands, and what came of the calls of this object: asks Redis."""
        self._read()
        parts = self._parts.get()
        return metrics_of(self._name, parts.decisions.known, parts.tally)

    def close(self) -> None:
        """Close the connections for good; calls that run are finished and not counted.

        This does not close the circuit: `reset` does.
        """
        self._closed.set()
        self._parts.get().places.close(self._call_timeout + 1.0)
        self._link.close()

    def _call(self, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        permit = self.admit(func, *args, **kwargs)
        try:
            result = func(*args, **kwargs)
        except BaseException as error:
            self.settle(permit, error)
            raise
        self.settle(permit)
        return result

    def _make(self) -> _Parts:
        server = ServerCircuit(self._link.commands, self._keys)
        known = known_circuit(self._place, self._keys["circuit"], self._name)
        decisions = Decisions(
            known, server, self._config, self._refresh, self._call_timeout, self._closed
        )
        announcer = Announcer(self._name, decisions, lambda: self._listeners, self.events)
        return _Parts(decisions, announcer, Places(server.renew))

    def _read(self) -> View:
        parts = self._parts.get()
        view = parts.decisions.read()
        parts.announcer.look()
        return view

    def _outcome(self, error: BaseException | None) -> Outcome:
        if error is None:
            return Outcome.SUCCESS
        if not isinstance(error, Exception) or self._config.excludes(error):
            return Outcome.NONE
        return Outcome.FAILURE

    def _refusal(self, view: View) -> CircuitBreakerOpenError:
        if view.phase is CircuitBreakerState.OPEN:
            left = view.seconds_left()
            why = f"is open, and lets nothing through for {left:.1f} s more"
        else:
            left = min(self._config.timeout_seconds, policy.CIRCUIT_FULL_PAUSE)
            why = f"is half-open, and {view.probes} calls are trying whether it may close"
        return CircuitBreakerOpenError(f"circuit breaker {self._name!r} {why}", retry_after=left)


_TALLIED = {Outcome.SUCCESS: "succeeded", Outcome.FAILURE: "failed", Outcome.NONE: "uncounted"}


def _matters(permit: Permit, outcome: Outcome, view: View, refresh: float) -> bool:
    """Whether the circuit must hear of an outcome; a success is no news while nothing failed.

    During a long call other processes may have failed: what was known before it is too old.
    """
    if permit.probe or outcome is Outcome.FAILURE:
        return True
    nothing_failed = (
        view.phase is CircuitBreakerState.CLOSED
        and view.failures == 0
        and time.monotonic() - view.asked_at < max(refresh, DEFAULT_REFRESH)
    )
    return outcome is Outcome.SUCCESS and not nothing_failed


def _block() -> None:
    """Stand for a ``with`` block where a listener is told what is called."""


def _listener(listener: object) -> pybreaker.CircuitBreakerListener:
    kind = pybreaker.CircuitBreakerListener
    return checks.instance_of("listener", listener, kind)
