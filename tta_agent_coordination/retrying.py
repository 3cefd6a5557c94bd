"""`retry`: call again what failed for a reason that may pass."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast, overload

import attrs

from tta_agent_coordination import checks
from tta_agent_coordination.errors import (
    CircuitBreakerOpenError,
    ConfigurationError,
    CoordinatorUnavailableError,
)
from tta_agent_coordination.waits import pauses

logger = logging.getLogger("tta_agent_coordination")

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_ATTEMPTS = 5
"""Calls in all, the first included."""
DEFAULT_DEADLINE = 30.0
"""Seconds after the first call begins in which another may begin."""
DEFAULT_FIRST_WAIT = 0.1
"""Seconds below which the first pause is drawn; twice as much for each further one."""
DEFAULT_LONGEST_WAIT = 5.0
"""Seconds below which every pause is drawn."""

On: TypeAlias = "type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]"
"""What is tried again: classes of exceptions, or a function that says whether one is meant."""


def is_transient(error: Exception) -> bool:
    """Whether an exception says by its class that trying again may help; the default.

    ``ConnectionError`` and ``TimeoutError`` of Python, and `CoordinatorUnavailableError`, unless
    the credentials are wrong. Those of your HTTP or database client are its own: name them.
    """
    passing = (ConnectionError, TimeoutError, CoordinatorUnavailableError)
    return isinstance(error, passing) and not isinstance(error, ConfigurationError)


@attrs.frozen
class FailedAttempt:
    """What a hook of `retry` is told before each pause.

    Attributes:
        number: Of the attempt that failed; 1 is the first.
        error: What it raised.
        wait: Seconds until the next.
        elapsed: Seconds since the first began.
    """

    number: int
    error: Exception
    wait: float
    elapsed: float


def _condition(on: Any) -> Callable[[Exception], bool]:
    if on is None:
        return is_transient
    if callable(on) and not isinstance(on, type):
        return cast("Callable[[Exception], bool]", on)
    several = isinstance(on, Iterable) and not isinstance(on, (type, str))
    kinds = tuple(cast("Iterable[object]", on)) if several else (cast("object", on),)
    return functools.partial(_is_one_of, tuple(_kind(kind) for kind in kinds))


def _kind(kind: object) -> type[Exception]:
    if isinstance(kind, type) and issubclass(kind, Exception):
        return kind
    raise TypeError(
        "on must be subclasses of Exception, or a function that takes an exception and returns "
        f"whether to try again, not {checks.describe(cast('object', kind))}"
    )


def _is_one_of(kinds: tuple[type[Exception], ...], error: Exception) -> bool:
    return isinstance(error, kinds)


def _positive(_: object, attribute: attrs.Attribute[float], value: object) -> None:
    if checks.duration(attribute.name, value) == 0:
        raise ValueError(f"{attribute.name} must be more than 0 seconds")


def _duration(_: object, attribute: attrs.Attribute[float], value: object) -> None:
    checks.duration(attribute.name, value)


def _attempts(_: object, attribute: attrs.Attribute[int], value: object) -> None:
    checks.count(attribute.name, value, least=1)


@attrs.frozen(kw_only=True)
class Retry:
    """Calls again what failed; `retry` makes it and tells of its options. Threads may share it."""

    on: Callable[[Exception], bool] = attrs.field(default=None, converter=_condition)
    attempts: int | None = attrs.field(
        default=DEFAULT_ATTEMPTS, validator=attrs.validators.optional(_attempts)
    )
    deadline: float | None = attrs.field(
        default=DEFAULT_DEADLINE, validator=attrs.validators.optional(_positive)
    )
    first_wait: float = attrs.field(default=DEFAULT_FIRST_WAIT, validator=_positive)
    longest_wait: float = attrs.field(default=DEFAULT_LONGEST_WAIT, validator=_duration)
    stop: threading.Event | None = None
    on_retry: Callable[[FailedAttempt], object] | None = None

    def __attrs_post_init__(self) -> None:
        """Check what the options are to each other."""
        if self.longest_wait < self.first_wait:
            raise ConfigurationError(
                f"longest_wait ({self.longest_wait:g} s) must be at least first_wait "
                f"({self.first_wait:g} s)"
            )
        if self.attempts is None and self.deadline is None and self.stop is None:
            raise ConfigurationError(
                "without attempts, deadline and stop nothing would end it: give one of them"
            )

    def call(self, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `func` until it returns, and return what it returned.

        Raises:
            Exception: The last one that `func` raised, with a note of how often it was tried.
            TypeError: `func` is asynchronous or a generator function.
        """
        checks.plain_function(func, "a loop of your own around an await")
        return self._call(func, *args, **kwargs)

    def __call__(self, func: Callable[P, T]) -> Callable[P, T]:
        """Return a function that calls `func` as `call` does: for use as a decorator."""
        checks.plain_function(func, "a loop of your own around an await")

        @functools.wraps(func)
        def retried(*args: P.args, **kwargs: P.kwargs) -> T:
            return self._call(func, *args, **kwargs)

        return retried

    def _call(self, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        began = time.monotonic()
        waits = pauses(self.first_wait, self.longest_wait)
        number = 0
        while True:
            number += 1
            try:
                return func(*args, **kwargs)
            except Exception as error:
                elapsed = time.monotonic() - began
                failed = FailedAttempt(number, error, _wait(next(waits), error), elapsed)
                if self._ends_with(failed) or not self._pause(failed):
                    _leave_note(failed, time.monotonic() - began)
                    raise

    def _ends_with(self, failed: FailedAttempt) -> bool:
        if not self.on(failed.error):
            return True
        if self.attempts is not None and failed.number >= self.attempts:
            return True
        return self.deadline is not None and failed.elapsed + failed.wait >= self.deadline

    def _pause(self, failed: FailedAttempt) -> bool:
        """Wait for the next attempt; False if it was told to stop."""
        if self.on_retry is not None:
            try:
                self.on_retry(failed)
            except Exception:
                logger.exception("a hook for retries raised", extra={"event": "retry_hook_failed"})
        if self.stop is None:
            time.sleep(failed.wait)
            return True
        return not self.stop.wait(failed.wait)


def _wait(pause: float, error: Exception) -> float:
    """Return how long to wait: an open circuit breaker says when it is of use to come again."""
    if isinstance(error, CircuitBreakerOpenError):
        return error.retry_after + pause
    return pause


def _leave_note(failed: FailedAttempt, elapsed: float) -> None:
    if failed.number > 1:
        failed.error.add_note(f"given up after {failed.number} attempts in {elapsed:.1f} s")


@overload
def retry(func: Callable[P, T], /) -> Callable[P, T]: ...
@overload
def retry(
    *,
    on: On | None = None,
    attempts: int | None = DEFAULT_ATTEMPTS,
    deadline: float | None = DEFAULT_DEADLINE,
    first_wait: float = DEFAULT_FIRST_WAIT,
    longest_wait: float = DEFAULT_LONGEST_WAIT,
    stop: threading.Event | None = None,
    on_retry: Callable[[FailedAttempt], object] | None = None,
) -> Retry: ...
def retry(
    func: Callable[..., Any] | None = None,
    /,
    *,
    on: On | None = None,
    attempts: int | None = DEFAULT_ATTEMPTS,
    deadline: float | None = DEFAULT_DEADLINE,
    first_wait: float = DEFAULT_FIRST_WAIT,
    longest_wait: float = DEFAULT_LONGEST_WAIT,
    stop: threading.Event | None = None,
    on_retry: Callable[[FailedAttempt], object] | None = None,
) -> Any:
    """Call again what failed for a reason that may pass, after pauses with full jitter.

    ::

        @retry(on=httpx.TransportError, attempts=4)
        def fetch(url): ...

        retry(deadline=10.0).call(fetch, url)

    ``KeyboardInterrupt``, ``SystemExit`` and whatever else is no ``Exception`` pass through. The
    last error comes to the caller as it was raised, with a note of attempts and time.

    Args:
        func: For use as a bare decorator, with the defaults.
        on: What is tried again: a subclass of ``Exception``, several, or a function that says
            so; None for `is_transient`. If `CircuitBreakerOpenError` is among them, the pause
            lasts until the breaker may let a call through.
        attempts: Calls in all; None for any number.
        deadline: Seconds, on a monotonic clock, in which an attempt may begin; one that runs is
            not interrupted. None for no deadline.
        first_wait: Seconds; the first pause is drawn evenly between nothing and this, and the
            bound doubles with each.
        longest_wait: Seconds at which the bound stops growing.
        stop: Ends a pause when it is set; the last error is raised then.
        on_retry: Told of each `FailedAttempt` that is followed by another; logged if it raises.

    Raises:
        TypeError, ValueError: An option is wrong.
        ConfigurationError: Two of them contradict each other, or nothing would end it.
    """
    made = Retry(
        on=on,
        attempts=attempts,
        deadline=deadline,
        first_wait=first_wait,
        longest_wait=longest_wait,
        stop=stop,
        on_retry=on_retry,
    )
    return made if func is None else made(func)
