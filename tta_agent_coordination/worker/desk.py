"""The desk between the threads of a worker: what is in hand, who is free, what is done."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence

import attrs

from tta_agent_coordination.agents.agent import CurrentMessage
from tta_agent_coordination.coordinator.feed import Feed
from tta_agent_coordination.identity import AgentId


@attrs.define(eq=False)
class Task:
    """A message in hand.

    Attributes:
        feed: Where it came from.
        inbox: Of which inbox it is.
        current: What its handler sees.
        leased_at: When the lease was taken or renewed last, monotonic seconds.
        begun_at: When its handler began, monotonic seconds; None before.
        finished: Whether its handler has ended.
    """

    feed: Feed
    inbox: AgentId
    current: CurrentMessage
    leased_at: float
    begun_at: float | None = None
    finished: bool = False

    @property
    def token(self) -> str:
        """Of its delivery."""
        return self.current.received.token


class Desk:
    """Shared by the fetchers, the handlers and the renewer of one worker."""

    def __init__(self, threads: int) -> None:
        """Begin with `threads` free handlers."""
        self.threads = threads
        self._free = threads
        self._busy = 0
        self._changed = threading.Condition()
        self._wanted: list[int] = []
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._in_hand: dict[str, Task] = {}
        self._done: dict[Feed, list[Task]] = {}
        self._stopping = False
        self._hurried = False

    @property
    def busy(self) -> int:
        """How many handlers have something to do."""
        return self._busy

    @property
    def free(self) -> int:
        """How many handlers can be reserved."""
        return self._free

    @property
    def stopping(self) -> bool:
        """Whether nothing new is begun."""
        return self._stopping

    def reserve(self, timeout: float) -> int:
        """Return how many handlers are free, and keep them; waits up to `timeout` for one."""
        with self._changed:
            if not self._free:
                self._wait_for(lambda: self._free > 0 or self._stopping, 1, timeout)
            if self._stopping:
                return 0
            free, self._free = self._free, 0
            return free

    def give_back(self, count: int) -> None:
        """Give back handlers that nothing was found for."""
        if count:
            with self._changed:
                self._set_free(count)

    def put(self, tasks: Sequence[Task]) -> bool:
        """Hand over messages, for each of which a handler is reserved; False once it stops."""
        with self._changed:
            if self._stopping:
                return False
            self._busy += len(tasks)
            for task in tasks:
                self._in_hand[task.token] = task
                self._tasks.put(task)
            return True

    def take(self) -> Task | None:
        """Return the next task to handle; None when the handler is to end."""
        task = self._tasks.get()
        if task is not None:
            task.begun_at = time.monotonic()
        return task

    def finish(self, task: Task, *, acknowledge: bool) -> None:
        """Put a handled message away; its lease is kept until it is acknowledged."""
        with self._changed:
            if acknowledge:
                self._done.setdefault(task.feed, []).append(task)
            else:
                self._in_hand.pop(task.token, None)
            self._busy -= 1
            self._set_free(1)

    def has_done(self, feed: Feed) -> bool:
        """Whether something is to be acknowledged."""
        return feed in self._done

    def take_done(self, feed: Feed) -> list[Task]:
        """Return what is to be acknowledged; `put_back_done` it if that fails."""
        with self._changed:
            return self._done.pop(feed, [])

    def put_back_done(self, feed: Feed, tasks: list[Task]) -> None:
        """Keep what could not be acknowledged."""
        if tasks:
            with self._changed:
                self._done.setdefault(feed, [])[:0] = tasks

    def acknowledged(self, tasks: Iterable[Task]) -> None:
        """Forget what was acknowledged."""
        for task in tasks:
            self._in_hand.pop(task.token, None)

    def in_hand(self) -> list[Task]:
        """Return all whose leases are to be kept."""
        return list(self._in_hand.values())

    def stop(self) -> list[Task]:
        """Begin nothing new; return what was taken and not begun. Nothing if it stopped before."""
        with self._changed:
            if self._stopping:
                return []
            self._stopping = True
            self._changed.notify_all()
            not_begun = self._not_begun()
            self._busy -= len(not_begun)
            self._set_free(len(not_begun))
            return not_begun

    def hurry(self) -> None:
        """End `wait_until_idle`: the handlers that run are not waited for."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait for the handlers to finish; whether they did."""
        with self._changed:
            self._wait_for(lambda: self._hurried or not self._busy, self.threads, timeout)
            return not self._busy

    def dismiss(self) -> None:
        """Let every handler end once it is free."""
        for _ in range(self.threads):
            self._tasks.put(None)

    def _wait_for(self, condition: Callable[[], bool], free: int, timeout: float) -> None:
        """Wait for a condition that may come to hold when so many handlers are free."""
        self._wanted.append(free)
        self._changed.wait_for(condition, timeout)
        self._wanted.remove(free)

    def _set_free(self, count: int) -> None:
        # Who waits is woken for what it waits for: handlers may end thousands of times a second.
        self._free += count
        if self._wanted and self._free >= min(self._wanted):
            self._changed.notify_all()

    def _not_begun(self) -> list[Task]:
        found: list[Task | None] = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._tasks.get_nowait())
        tasks = [task for task in found if task is not None]
        for task in tasks:
            del self._in_hand[task.token]
        return tasks
