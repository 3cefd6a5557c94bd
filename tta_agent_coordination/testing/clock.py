"""The clock of an in-memory server, which tests can move."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from tta_agent_coordination import checks


class Clock:
    """Goes on by itself, and can be moved ahead; it is never set back.

    It decides whatever the server decides: leases, delays, times to live, heartbeats, the dedup
    window, circuit breakers. What Python waits for itself goes on in real time: time-outs of calls
    and of ``wait``, the renewal of leases and heartbeats by their threads.
    """

    def __init__(self, move: Callable[[Callable[[], None], float], None]) -> None:
        """Begin with the time of this machine.

        Args:
            move: Is called with what moves the clock, and by how many seconds, and sees to it that
                everybody notices.
        """
        self._move = move
        self._ahead = 0.0

    @property
    def ahead(self) -> float:
        """Seconds by which it was moved so far."""
        return self._ahead

    def time(self) -> float:
        """Return the server's time, in seconds since 1970."""
        return time.time() + self._ahead

    def now(self) -> datetime:
        """Return the server's time."""
        return datetime.fromtimestamp(self.time(), UTC)

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass at once; consumers that wait look again.

        Raises:
            TypeError, ValueError: `seconds` is no duration.
        """
        seconds = checks.duration("seconds", seconds)

        def set_ahead() -> None:
            self._ahead += seconds

        self._move(set_ahead, seconds)
