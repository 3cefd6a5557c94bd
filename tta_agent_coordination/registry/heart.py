"""The thread that beats for all agents of this process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from tta_agent_coordination import threads
from tta_agent_coordination.errors import CoordinationError
from tta_agent_coordination.events import Events, HeartbeatsFailed, HeartbeatsRecovered

logger = logging.getLogger("tta_agent_coordination")


class Heart:
    """Calls a function again and again in a thread of its own; no error ends it."""

    def __init__(self, beat: Callable[[], object], interval: float, events: Events) -> None:
        """Prepare to call `beat` every `interval` seconds; no thread runs yet."""
        self._events = events
        self._beat = beat
        self._interval = interval
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._lent = False
        self._last_success: float | None = None
        self.last_error: str | None = None

    @property
    def age(self) -> float | None:
        """Seconds since the last beat that succeeded; None if none did."""
        last = self._last_success
        return None if last is None else time.monotonic() - last

    @property
    def running(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, *, lent: bool = False) -> None:
        """Start the thread, unless it runs; one that was only `lent` ends with `stop_lent`."""
        with self._lock:
            self._lent = lent and (self._lent or not self.running)
            if not self.running:
                self._stopped = threading.Event()
                self._thread = threads.spawn("heartbeat", self._run)

    def stop(self, timeout: float) -> bool:
        """End the thread; whether it ended within `timeout` seconds."""
        with self._lock:
            thread = self._detach()
        return thread is None or threads.join([thread], timeout)

    def stop_lent(self, needed: Callable[[], object], timeout: float) -> None:
        """End the thread if it was lent and is not `needed`; a time-out of 0 does not wait."""
        with self._lock:  # who needs it from now on starts another
            thread = self._detach() if self._lent and not needed() else None
        if thread is not None and timeout:
            threads.join([thread], timeout)

    def _detach(self) -> threading.Thread | None:
        thread, self._thread = self._thread, None
        self._lent = False
        self._stopped.set()
        return thread

    def succeeded(self) -> None:
        """Note that a beat succeeded, whoever made it."""
        self._last_success = time.monotonic()
        failing, self.last_error = self.last_error is not None, None
        if failing:
            logger.warning("heartbeats succeed again", extra={"event": "heartbeats_recovered"})
            self._events.tell(HeartbeatsRecovered())

    def _failed(self, error: BaseException) -> None:
        first, self.last_error = self.last_error is None, f"{type(error).__name__}: {error}"
        if first:  # one line a change, not one a beat
            expected = isinstance(error, CoordinationError)
            logger.warning(
                "heartbeats fail, and go on: %s",
                error,
                exc_info=None if expected else error,
                extra={"event": "heartbeats_failed"},
            )
            self._events.tell(HeartbeatsFailed(error=self.last_error))

    def _run(self) -> None:
        stopped = self._stopped
        due = time.monotonic()
        while not stopped.wait(max(due - time.monotonic(), 0.0)):
            due = time.monotonic() + self._interval
            try:
                self._beat()
            except BaseException as error:  # noqa: BLE001 - whatever it is, the next may succeed
                self._failed(error)
