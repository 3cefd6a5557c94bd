"""Waiting for a signal, without doing anything in its handler that could block."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any


@contextmanager
def readable_on(*numbers: signal.Signals) -> Generator[int]:
    """Yield a file descriptor that can be read once one of these signals came.

    A handler may run between any two bytecodes of the main thread: it takes no lock. In a child
    that is forked meanwhile, signals do what they did before.
    """
    owner = os.getpid()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def note(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != owner:  # the pipe is the parent's, which must not take it for its own
            signal.signal(number, _settable(before[signal.Signals(number)]))
            signal.raise_signal(number)
            return
        with suppress(BlockingIOError):  # full: it can be read already
            os.write(writing, b".")

    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, note)
        yield reading
    finally:
        for number, handler in before.items():
            signal.signal(number, _settable(handler))
        os.close(reading)
        os.close(writing)


def _settable(handler: Any) -> Any:
    # None stands for a handler that was not set from Python, and cannot be set from it.
    return signal.SIG_DFL if handler is None else handler
