"""Wait for something to become true, with a deadline."""

import threading
import time
from collections.abc import Callable

POLL_INTERVAL = 0.005
"""Seconds between two looks."""

SLACK = 2.0
"""Seconds that a busy machine may add to any wait: no bound on wall time is tighter."""


def holds_within(timeout: float, condition: Callable[[], object]) -> bool:
    """Whether ``condition()`` becomes true within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause.wait(POLL_INTERVAL)
    return True


def eventually(condition: Callable[[], object], *, timeout: float = 5.0, what: str = "") -> None:
    """Fail unless ``condition()`` becomes true within ``timeout`` seconds."""
    assert holds_within(timeout, condition), what or f"not so within {timeout} s"
