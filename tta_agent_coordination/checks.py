"""Checks of arguments, made before anything is sent; each says what was given and what is taken."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from typing import TypeVar, cast

T = TypeVar("T")

MAX_DURATION = 10 * 365 * 86_400.0
"""Seconds. Longer durations are refused: they are mistakes, and would overflow a score."""


def instance_of(name: str, value: object, kind: type[T]) -> T:
    """Return `value` when it is a `kind`, else raise a ``TypeError`` that names it."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {_article(kind.__name__)}, not {describe(value)}")
    return value


def duration(name: str, value: object) -> float:
    """Return `value` as seconds: a finite number, not negative, at most `MAX_DURATION`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {describe(value)}")
    # Comparisons also refuse NaN, and take whole numbers too large for a float.
    if not 0 <= value <= MAX_DURATION:
        raise ValueError(
            f"{name} must be a finite number of seconds from 0 to {MAX_DURATION:.0f}, "
            f"not {describe(value)}"
        )
    return float(value)


def count(name: str, value: object, *, least: int = 0) -> int:
    """Return `value` when it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {describe(value)}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {describe(value)}")
    return value


def factor(name: str, value: object) -> float:
    """Return `value` when it is a finite number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {describe(value)}")
    if not 1 <= value <= sys.float_info.max:
        raise ValueError(f"{name} must be a finite number of at least 1, not {describe(value)}")
    return float(value)


def strings(name: str, value: object) -> tuple[str, ...]:
    """Return an iterable of strings as a tuple; a bare string is refused, not split."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a sequence of strings, not {describe(value)}")
    items = cast("Iterable[object]", value)
    return tuple(instance_of(f"each of {name}", item, str) for item in items)


def plain_function(func: object, instead: str) -> None:
    """Refuse what has only begun its work when it returns; name what to use `instead`."""
    if is_coroutine_function(func):
        raise TypeError(f"{describe(func)} is asynchronous: use {instead}")


def callback(name: str, func: object) -> None:
    """Refuse what cannot be called in a thread, or has only begun its work when it returns."""
    if not callable(func):
        raise TypeError(f"{name} must be a function, not {describe(func)}")
    if is_coroutine_function(func):
        raise TypeError(
            f"{name} is called in a thread and must be an ordinary function, not the coroutine "
            f"function {describe(func)}"
        )


def handler(name: str, func: object, argument: str) -> None:
    """Refuse what cannot handle a message: it is called with one `argument`, and then it is done.

    A function without a signature that can be read is taken; so is a wrapper that takes anything.
    """
    if not callable(func):
        raise TypeError(f"{name} must be a function, not {describe(func)}")
    is_coroutine_function(func)  # which refuses those that have only begun when they return
    try:
        signature = inspect.signature(func, follow_wrapped=False)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise TypeError(
            f"{name} is called with one argument, {argument}, but takes {signature}: {error}"
        ) from None


def is_coroutine_function(func: object) -> bool:
    """Whether a function is to be awaited; refuse one that works only while it is iterated over."""
    if not callable(func):
        raise TypeError(f"a function is needed, not {describe(func)}")
    each = (func, getattr(func, "__call__", None))  # noqa: B004 - of an object, its method
    if any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in each):
        raise TypeError(
            f"{describe(func)} is a generator function, which works only while somebody iterates "
            "over it: use a function that returns when the work is done"
        )
    return any(map(inspect.iscoroutinefunction, each))


def describe(value: object) -> str:
    """Name a value and its type for an error message, cut short when it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # thousands of digits, or of lists in each other
        text = "one too large to show"
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIOUaeiou' else 'a'} {noun}"
