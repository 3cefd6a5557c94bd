"""Ctrl-C at an instant that a test chooses."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest


@contextmanager
def striking(function: Callable[..., Any], event: str, *, skip: int = 0) -> Iterator[None]:
    """Let Ctrl-C strike in a function, as Python runs signal handlers; it must get out of here.

    Args:
        function: Where.
        event: When, in the words of ``sys.settrace``: ``call``, ``line`` or ``return``.
        skip: How many of these events pass before.
    """
    code, before, left = function.__code__, sys.gettrace(), [skip]

    def strike(_frame: FrameType, what: str, _argument: object) -> Any:
        if what == event:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        return strike

    def trace(frame: FrameType, what: str, argument: object) -> Any:
        return strike(frame, what, argument) if frame.f_code is code else None

    sys.settrace(trace)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        sys.settrace(before)
