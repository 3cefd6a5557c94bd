"""`AsyncCircuitBreaker`: guards calls of asyncio programs."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast, overload

from tta_agent_coordination import checks
from tta_agent_coordination.aio.adapter import Adapter
from tta_agent_coordination.aio.pool import DEFAULT_MAX_WORKERS, Pool
from tta_agent_coordination.circuit.blocks import Blocks
from tta_agent_coordination.circuit.config import (
    DEFAULT_CALL_TIMEOUT,
    DEFAULT_REFRESH,
    CircuitBreakerConfig,
    CircuitBreakerState,
)
from tta_agent_coordination.circuit.core import CircuitBreaker
from tta_agent_coordination.circuit.metrics import CircuitBreakerMetrics
from tta_agent_coordination.circuit.permit import Permit
from tta_agent_coordination.keys import DEFAULT_KEY_PREFIX

if TYPE_CHECKING:
    import pybreaker

P = ParamSpec("P")
T = TypeVar("T")


class AsyncCircuitBreaker(Adapter[CircuitBreaker]):
    """Guards calls to a service that may fail, for asyncio.

    Use it as a decorator, as ``async with breaker:``, or through `call`. It decides and counts as
    the `CircuitBreaker` that it is made around, together with every process that uses its name.
    Coroutine functions run where they are awaited; ordinary ones, which would hold the event loop
    up, in threads of the adapter's own. A call that is cancelled is not counted.
    """

    _name = "breaker"

    def __init__(self, breaker: CircuitBreaker, *, max_workers: int = DEFAULT_MAX_WORKERS) -> None:
        """Make an adapter; no thread runs before the first call.

        Args:
            breaker: Decides and counts; stays the caller's to close, after the adapter.
            max_workers: Threads for ordinary functions at most, and as many again to ask Redis.

        Raises:
            TypeError, ValueError: An argument is wrong.
        """
        self._breaker = checks.instance_of("breaker", breaker, CircuitBreaker)
        super().__init__(breaker, max_workers=max_workers)
        self._functions = Pool("guarded", max_workers)
        self._blocks = Blocks()

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
        max_workers: int = DEFAULT_MAX_WORKERS,
    ) -> Self:
        """Make an adapter with a breaker of its own, which is closed with it.

        The arguments are those of `CircuitBreaker.from_url` and of the constructor.
        """
        breaker = CircuitBreaker.from_url(
            url,
            name,
            config,
            key_prefix,
            refresh=refresh,
            call_timeout=call_timeout,
            listeners=listeners,
        )
        return cls._owning(breaker, max_workers)

    @property
    def breaker(self) -> CircuitBreaker:
        """The breaker that decides and counts."""
        return self._breaker

    @property
    def name(self) -> str:
        """Of the service."""
        return self._breaker.name

    @property
    def config(self) -> CircuitBreakerConfig:
        """When it opens and closes."""
        return self._breaker.config

    @property
    def listeners(self) -> tuple[pybreaker.CircuitBreakerListener, ...]:
        """Who is told of calls and changes, in threads of the adapter."""
        return self._breaker.listeners

    def add_listener(self, listener: pybreaker.CircuitBreakerListener) -> None:
        """Tell one more of calls and changes; nothing to await."""
        self._breaker.add_listener(listener)

    def add_listeners(self, *listeners: pybreaker.CircuitBreakerListener) -> None:
        """Tell several more of calls and changes; nothing to await."""
        self._breaker.add_listeners(*listeners)

    def remove_listener(self, listener: pybreaker.CircuitBreakerListener) -> None:
        """Tell one no longer; nothing to await.

        Raises:
            ValueError: It was not told before.
        """
        self._breaker.remove_listener(listener)

    @property
    def state(self) -> Awaitable[CircuitBreakerState]:
        """How the circuit stands now: asks Redis, so write ``await breaker.state``."""
        return self._pool.run(lambda: self._breaker.state)

    @overload
    async def call(
        self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...
    @overload
    async def call(self, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def call(
        self, func: Callable[P, Awaitable[T] | T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call `func`, and await it, if the circuit lets it through; count what comes of it.

        What it returns or raises comes back unchanged, also if it opens the circuit.

        Raises:
            CircuitBreakerOpenError: The call was refused; ``retry_after`` says for how long.
            TypeError: `func` is a generator function: it would only have begun.
        """
        run = self._runner(func)
        with self._pool.call():
            permit = await self.admit(func, *args, **kwargs)
            try:
                result = await run(*args, **kwargs)
            except BaseException as error:
                await self._settle(permit, error)
                raise
            await self._settle(permit)
        return result

    @overload
    def __call__(
        self, func: Callable[P, Coroutine[Any, Any, T]], /
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __call__(self, func: Callable[P, T], /) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __call__(self, /) -> Self: ...
    def __call__(self, func: Callable[..., Any] | None = None, /) -> Callable[..., Any]:
        """Return a coroutine function that calls `func` as `call` does, for use as a decorator.

        ``@breaker`` and ``@breaker()`` are the same.
        """
        if func is None:
            return self
        self._runner(func)

        @functools.wraps(func)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            return await self.call(func, *args, **kwargs)

        return guarded

    async def __aenter__(self) -> Self:
        """Begin a guarded block, in any number of tasks; raises as `call` does."""
        self._blocks.enter(await self.admit())
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Count what came of the block; its exception goes on."""
        await self._settle(self._blocks.leave(), error)

    async def admit(
        self, func: Callable[..., object] | None = None, /, *args: object, **kwargs: object
    ) -> Permit:
        """Let a call through, and return the permit that `settle` takes.

        Cancelled, it gives back the place it had got.

        Raises:
            CircuitBreakerOpenError: The call was refused; ``retry_after`` says for how long.
        """
        admission = _Admission(functools.partial(self._breaker.admit, func, *args, **kwargs))
        try:
            return await self._pool.run(admission.ask)
        except Exception:
            raise
        except BaseException as error:
            give_back = functools.partial(admission.give_back, self._breaker, error)
            await self._pool.clean_up(give_back, error)
            raise

    async def settle(self, permit: Permit, error: BaseException | None = None) -> None:
        """Count what came of a call that `admit` let through: `error`, or a success."""
        await self._pool.run(self._breaker.settle, permit, error)

    async def is_call_permitted(self) -> bool:
        """Whether a call would be let through now: asks Redis, and takes no place."""
        return await self._pool.run(self._breaker.is_call_permitted)

    async def reset(self) -> None:
        """Close the circuit and forget what was counted, in all processes."""
        await self._pool.run(self._breaker.reset)

    async def get_metrics(self) -> CircuitBreakerMetrics:
        """Say how the circuit stands, and what came of the calls of this object: asks Redis."""
        return await self._pool.run(self._breaker.get_metrics)

    async def close(self) -> None:
        """Let calls under way finish, and end the threads. Safe to repeat.

        A breaker that `from_url` made is closed, too. This does not close the circuit: `reset`
        does.
        """
        await super().close()

    def _end(self) -> None:
        self._functions.shut_down()
        super()._end()

    def _runner(self, func: Callable[P, Any]) -> Callable[P, Coroutine[Any, Any, Any]]:
        """Return how to call `func` without holding up the loop."""
        if checks.is_coroutine_function(func):
            return cast("Callable[P, Coroutine[Any, Any, Any]]", func)
        return functools.partial(self._in_a_thread, func)

    async def _in_a_thread(self, func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> Any:
        answer = await self._functions.run(func, *args, **kwargs)
        return await answer if inspect.isawaitable(answer) else answer

    async def _settle(self, permit: Permit, error: BaseException | None = None) -> None:
        if permit.inherited:  # a child has no loop to wait on, and nothing to tell
            return
        settle = functools.partial(self._breaker.settle, permit, error)
        await self._pool.clean_up(settle, error)


class _Admission:
    """Asks for a permit, and gives it back if nobody waits for it any more."""

    def __init__(self, ask: Callable[[], Permit]) -> None:
        self._ask = ask
        self._permit: Permit | None = None
        self._lock = threading.Lock()

    def ask(self) -> Permit:
        with self._lock:
            self._permit = self._ask()
            return self._permit

    def give_back(self, breaker: CircuitBreaker, why: BaseException) -> None:
        with self._lock:
            if self._permit is not None:
                breaker.settle(self._permit, why)
