"""Threads of the library's own: all named, all joined with a time-out."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from tta_agent_coordination import forks

logger = logging.getLogger("tta_agent_coordination")

T = TypeVar("T")


def spawn(name: str, target: Callable[[], None]) -> threading.Thread:
    """Start a named daemon thread; a `SystemExit` ends it without a word."""
    thread = threading.Thread(target=_run, args=(target,), name=f"tta-{name}", daemon=True)
    thread.start()
    return thread


def _run(target: Callable[[], None]) -> None:
    with contextlib.suppress(SystemExit):  # as Python does itself, but not the hook of pytest
        target()


def is_for_caller(error: BaseException) -> bool:
    """Whether what the user's code raised is to end what called it: Ctrl-C in the main thread, say.

    In a thread of the library's own, such an error is that of the code which raised it alone.
    """
    in_main = threading.current_thread() is threading.main_thread()
    return in_main and not isinstance(error, Exception)


def join(threads: list[threading.Thread], timeout: float) -> bool:
    """Wait for threads to end, `timeout` seconds in all; log and return False if one does not.

    A thread that asks for its own end is not waited for.
    """
    end = time.monotonic() + timeout
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(max(end - time.monotonic(), 0.0))
    left = [t.name for t in threads if t.is_alive() and t is not threading.current_thread()]
    if left:
        logger.warning(
            "threads still running after %.1f s: %s",
            timeout,
            ", ".join(left),
            extra={"event": "threads_left", "threads": left},
        )
    return not left


class PerProcess(Generic[T]):
    """Something with threads or locks: a process that was forked gets one of its own.

    A lock that another thread of the parent held would be held for ever in the child.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        """Make one with `make`, and another at the start of each child: it must take no lock."""
        self._make = make
        self._value = make()
        forks.in_child(self._renew)

    def get(self) -> T:
        """Return that of this process, the same to all threads."""
        forks.notice()
        return self._value

    def _renew(self) -> None:
        self._value = self._make()
