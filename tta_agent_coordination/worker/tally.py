"""How often the handlers of a worker began, and how that ended."""

from __future__ import annotations

import threading


class Tally:
    """Counts deliveries, for a desk that does so under its lock.

    Attributes:
        begun: Whose handlers began.
        handled: That were handled, and are acknowledged or will be.
        failed: Whose handlers raised.
    """

    def __init__(self) -> None:
        """Begin at nothing."""
        self.begun = self.handled = self.failed = 0
        self._taken = (0, 0)
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Count one that begins."""
        self.begun += 1

    def end(self, *, handled: bool) -> None:
        """Count one that ends."""
        self.handled += handled
        self.failed += not handled

    def take(self) -> tuple[int, int]:
        """Return how many were handled and failed since the last `take`."""
        with self._lock:
            now = (self.handled, self.failed)
            before, self._taken = self._taken, now
            return now[0] - before[0], now[1] - before[1]
