"""What is asked of a circuit breaker, and the words for how it stands."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Any, TypeAlias, cast

import attrs
import pybreaker

from tta_agent_coordination import checks

logger = logging.getLogger("tta_agent_coordination")

DEFAULT_FAILURE_THRESHOLD = 5
"""Failures in a row that open it."""
DEFAULT_TIMEOUT = 60.0
"""Seconds for which it stays open before calls may try again."""
DEFAULT_HALF_OPEN_MAX_CALLS = 3
"""Calls that may try at a time."""
DEFAULT_SUCCESS_THRESHOLD = 2
"""Calls that must succeed before it closes."""
DEFAULT_REFRESH = 0.1
"""Seconds for which a process goes by what it knows before it asks Redis again."""
DEFAULT_CALL_TIMEOUT = 0.5
"""Seconds that a question to Redis may take, all attempts included."""

Exclusion: TypeAlias = "type[BaseException] | Callable[[Exception], bool]"
"""A class of exceptions, or a function that says whether one is meant."""
Exclusions: TypeAlias = "Exclusion | Iterable[Exclusion | tuple[Exclusion, ...]]"
"""One or several of them."""


class CircuitBreakerState(StrEnum):
    """How a circuit breaker stands; the values are pybreaker's."""

    CLOSED = pybreaker.STATE_CLOSED
    """Calls pass."""
    OPEN = pybreaker.STATE_OPEN
    """Calls are refused."""
    HALF_OPEN = pybreaker.STATE_HALF_OPEN
    """A few calls pass, to see whether it may close."""


def _at_least_one(_: object, attribute: attrs.Attribute[int], value: object) -> None:
    checks.count(attribute.name, value, least=1)


def _duration(_: object, attribute: attrs.Attribute[float], value: object) -> None:
    checks.duration(attribute.name, value)


def _exclusions(value: Exclusions) -> tuple[Exclusion, ...]:
    return tuple(_flat(value))


def _flat(value: object) -> Iterator[Exclusion]:
    if _is_exclusion(value):
        yield cast("Exclusion", value)
    elif isinstance(value, Iterable) and not isinstance(value, (str, bytes, type)):
        for item in cast("Iterable[object]", value):
            yield from _flat(item)
    else:
        raise TypeError(
            "excluded must be classes of exceptions, or functions that take an exception and "
            f"return whether it is excluded, not {checks.describe(value)}"
        )


def _is_exclusion(value: Any) -> bool:
    if isinstance(value, type):
        return issubclass(value, BaseException)
    return callable(value)


@attrs.frozen
class CircuitBreakerConfig:
    """When a circuit breaker opens and closes. Configure all processes that share one alike.

    Attributes:
        failure_threshold: Failures in a row, in all processes together, that open it.
        timeout_seconds: Seconds for which it stays open; those of the process that opened it.
        half_open_max_calls: Calls that may try at a time afterwards, in all processes together.
        success_threshold: Calls that must succeed then before it closes.
        excluded: Exceptions that say nothing about the service, such as that of a bad request:
            classes, tuples of them, or functions that take an exception and return a bool. They
            neither count as a failure nor end a row of failures.

    Raises:
        TypeError, ValueError: A value is not allowed.
    """

    failure_threshold: int = attrs.field(default=DEFAULT_FAILURE_THRESHOLD, validator=_at_least_one)
    timeout_seconds: float = attrs.field(default=DEFAULT_TIMEOUT, validator=_duration)
    half_open_max_calls: int = attrs.field(
        default=DEFAULT_HALF_OPEN_MAX_CALLS, validator=_at_least_one
    )
    success_threshold: int = attrs.field(default=DEFAULT_SUCCESS_THRESHOLD, validator=_at_least_one)
    excluded: tuple[Exclusion, ...] = attrs.field(default=(), converter=_exclusions)

    def excludes(self, error: Exception) -> bool:
        """Whether an exception says nothing about the service.

        A function of the user's that raises excludes nothing; its error is logged.
        """
        return any(_matches(exclusion, error) for exclusion in self.excluded)


def _matches(exclusion: Exclusion, error: Exception) -> bool:
    if isinstance(exclusion, type):
        return isinstance(error, exclusion)
    try:
        return bool(exclusion(error))
    except Exception:
        logger.exception(
            "a function in excluded of a circuit breaker raised; %r counts",
            error,
            extra={"event": "exclusion_failed"},
        )
        return False
