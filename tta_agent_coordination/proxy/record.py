"""What a `FaultProxy` saw."""

from __future__ import annotations

import threading

from tta_agent_coordination.proxy.faults import Command


class Record:
    """The commands that arrived, for threads that look at them or wait for one."""

    def __init__(self) -> None:
        """Begin empty."""
        self._seen: list[Command] = []
        self._news = threading.Condition()

    def note(self, command: Command) -> None:
        """Add a command, and wake who waits for it."""
        with self._news:
            self._seen.append(command)
            self._news.notify_all()

    def seen(self) -> list[Command]:
        """Return every command so far, in order."""
        with self._news:
            return list(self._seen)

    def count(self, name: str) -> int:
        """Return how many times the command ``name`` arrived."""
        return sum(command.name == name.upper() for command in self.seen())

    def wait_for(self, name: str, count: int, timeout: float) -> None:
        """Return once ``name`` has arrived ``count`` times.

        Raises:
            TimeoutError: It has not within ``timeout`` seconds.
        """
        with self._news:
            arrived = self._news.wait_for(lambda: self._arrivals(name) >= count, timeout)
        if not arrived:
            times = self.count(name)
            raise TimeoutError(f"{name} arrived {times} times in {timeout} s, not {count}")

    def forget(self) -> None:
        """Begin anew."""
        with self._news:
            self._seen.clear()

    def _arrivals(self, name: str) -> int:
        return sum(command.name == name.upper() for command in self._seen)
