"""The desk between the threads of a worker: what is in hand, who is free, what is done."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import attrs

from tta_agent_coordination.agents.agent import MessageInHand
from tta_agent_coordination.coordinator.feed import Feed
from tta_agent_coordination.coordinator.leases import MOST_A_SCRIPT
from tta_agent_coordination.coordinator.records import Delivery
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.message import AgentMessage
from tta_agent_coordination.worker.tally import Tally


@attrs.define(eq=False)
class Task:
    """A message in hand.

    Attributes:
        feed: Where it came from.
        inbox: Of which inbox it is.
        delivery: The message, which its handler decodes.
        leased_at: When the lease was taken or renewed last, monotonic seconds.
        begun_at: When its handler began, monotonic seconds; None before.
        finished: Whether its handler has ended.
        lease_lost: Whether somebody else may be handling it by now.
        current: What its handler sees; None before it began.
        inherited: Whether this process was forked from the one that took it.
        visibility: Seconds of a lease.
    """

    feed: Feed
    inbox: AgentId
    delivery: Delivery
    leased_at: float
    begun_at: float | None = None
    finished: bool = False
    lease_lost: bool = False
    current: MessageInHand | None = None
    inherited: bool = False
    visibility: float = math.inf

    @property
    def token(self) -> str:
        """Of its delivery."""
        return self.delivery.token

    @property
    def came_late(self) -> bool:
        """Whether its lease was over when its handler was about to begin."""
        return self.lease_lost or (self.begun_at or 0.0) >= self.leased_at + self.visibility

    def begin(self, stored_at: int, message: AgentMessage) -> MessageInHand:
        """Return what its handler sees, of what was opened."""
        received = partial(self.delivery.received, stored_at, message)
        current = self.current = MessageInHand(message, received)
        current.keep_lease(self.leased_at + self.visibility)
        if self.lease_lost:  # before it began, or just now
            current.lose_lease()
        return current

    def renewed(self, at: float) -> None:
        """Note when the lease was renewed."""
        self.leased_at = at
        if self.current is not None:  # else `begin` sees it
            self.current.keep_lease(at + self.visibility)

    @property
    def was_told(self) -> bool:
        """Whether its handler has seen that the lease is lost, and has not ended yet."""
        return self.current is not None and self.current.was_told and not self.finished

    def lose_lease(self) -> None:
        """Note that the lease is lost, and tell the handler."""
        self.lease_lost = True
        if self.current is not None:
            self.current.lose_lease()


@attrs.frozen
class Turn:
    """The turn to fetch, which a handler has for once.

    Attributes:
        free: How many handlers are reserved for what is asked for now; 0: nothing is to be.
    """

    free: int


_FEWEST_APART = 4
"""Handlers of which a half fetches while the other half is at work."""
_QUICK = 0.00005
"""Seconds. To wake a handler takes as long as it would need for several such messages."""
_SLOW = 8 * _QUICK
"""Seconds. What takes longer counts as this: one that took very long says little of the others."""
_LOOK_UP = 0.5
"""Seconds after which who waits for all handlers looks up: see `signals.Signals.wait`."""
_LOOK = 0.002
"""Seconds after which it is looked whether somebody has to be woken after all."""


class Desk:
    """Shared by the fetchers, the handlers and the renewer of one worker."""

    def __init__(self, threads: int) -> None:
        """Begin with `threads` free handlers."""
        self.threads = threads
        self.tally = Tally()
        self._free = threads
        self._busy = 0
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._wanted: list[int] = []
        self._tasks: deque[Task] = deque()
        self._idle: list[threading.Lock] = []
        self._waking = False
        self._watched = False
        self._lent = False
        self._turn_taken = False
        self._under_way = 0
        self._worth_asking = threads if threads < _FEWEST_APART else (threads + 1) // 2
        self._pace = 2 * _QUICK
        self._in_hand: set[Task] = set()
        self._done: dict[Feed, list[Task]] = {}
        self._stopping = False
        self._dismissed = False
        self._hurried = False

    @property
    def busy(self) -> int:
        """How many handlers have something to do."""
        return self._busy

    @property
    def at_work(self) -> int:
        """How many of them have begun, and not ended yet."""
        return self._busy - len(self._tasks)

    @property
    def free(self) -> int:
        """How many handlers can be reserved."""
        return self._free

    @property
    def has_tasks(self) -> bool:
        """Whether messages wait for the handlers that are reserved for them."""
        return bool(self._tasks)

    @property
    def stopping(self) -> bool:
        """Whether nothing new is begun."""
        return self._stopping

    def reserve(self, timeout: float) -> int:
        """Return how many handlers are free, and keep them; waits up to `timeout` for one."""
        with self._lock:
            if not self._free:
                self._wait_for(lambda: self._free > 0 or self._stopping, 1, timeout)
            if self._stopping:
                return 0
            free, self._free = self._free, 0
            return free

    def give_back(self, count: int) -> None:
        """Give back handlers that nothing was found for."""
        if count:
            with self._lock:
                self._set_free(count)

    def put(self, tasks: Sequence[Task]) -> bool:
        """Hand over messages, for each of which a handler is reserved; False once it stops."""
        with self._lock:
            if self._stopping:
                return False
            self._busy += len(tasks)
            self._in_hand.update(tasks)
            self._tasks.extend(tasks)
            self._wake_another()
            return True

    def lend_turn(self) -> None:
        """Let handlers fetch, one at a time, until one returns the turn.

        A handler that fetches for itself and for others, and goes on with the first message,
        spares two changes of threads for each batch.
        """
        with self._lock:
            self._lent, self._under_way = True, 0
            self._wake_one()
            while self._turn_taken or (self._lent and not self._stopping):
                begun = self.tally.begun
                self._changed.wait(_LOOK if self._watched else None)
                if self.tally.begun == begun:
                    self._wake_for_what_waits()
            self._lent = self._watched = False

    def return_turn(self, *, lend_on: bool, under_way: int) -> None:
        """End the turn of a handler; the next one may have it, or the thread that lent it.

        Args:
            lend_on: Whether handlers are to fetch on.
            under_way: How much was asked for and is not answered yet.
        """
        with self._lock:
            self._turn_taken = False
            self._under_way = under_way
            self._lent &= lend_on
            self._wake_another()
            if self._stopping or not self._lent:
                self._changed.notify_all()

    def take(self) -> Task | Turn | None:
        """Return what a handler does next: a task, or to fetch; None when it is to end."""
        bell: threading.Lock | None = None
        while True:
            with self._lock:
                if bell is not None:
                    self._waking = False
                if self._has_turn():
                    return self._take_turn()
                if self._tasks:
                    task = self._tasks.popleft()
                    self.tally.begin()
                    self._wake_another()
                    break
                if self._dismissed:
                    return None
                bell = threading.Lock()
                bell.acquire()
                self._idle.append(bell)
            bell.acquire()
        task.begun_at = time.monotonic()
        return task

    def finish(self, task: Task, *, acknowledge: bool) -> None:
        """Put a handled message away; its lease is kept until it is acknowledged."""
        with self._lock:
            self.tally.end(handled=acknowledge)
            self._keep_pace(time.monotonic() - (task.begun_at or 0.0))
            if acknowledge:
                self._done.setdefault(task.feed, []).append(task)
            else:
                self._in_hand.discard(task)
            self._busy -= 1
            self._set_free(1)

    def has_done(self, feed: Feed) -> bool:
        """Whether something is to be acknowledged."""
        return feed in self._done

    def take_done(self, feed: Feed) -> list[Task]:
        """Return what one command may acknowledge; `put_back_done` it if that fails."""
        with self._lock:
            done = self._done.pop(feed, [])
            if len(done) > MOST_A_SCRIPT:
                self._done[feed] = done[MOST_A_SCRIPT:]
            return done[:MOST_A_SCRIPT]

    def put_back_done(self, feed: Feed, tasks: list[Task]) -> None:
        """Keep what could not be acknowledged."""
        if tasks:
            with self._lock:
                self._done.setdefault(feed, [])[:0] = tasks

    def acknowledged(self, tasks: Iterable[Task]) -> None:
        """Forget what was acknowledged."""
        with self._lock:
            self._in_hand.difference_update(tasks)

    def in_hand(self) -> list[Task]:
        """Return all whose leases are to be kept."""
        with self._lock:
            return list(self._in_hand)

    def disown(self) -> None:
        """Let go of all that is in hand, in a child: the leases are the parent's.

        Without the lock, which a thread of the parent may have held when it was forked.
        """
        for task in list(self._in_hand):
            task.inherited = True
            task.lose_lease()

    def stop(self) -> list[Task]:
        """Begin nothing new; return what was taken and not begun. Nothing if it stopped before."""
        with self._lock:
            if self._stopping:
                return []
            self._stopping = True
            self._changed.notify_all()
            not_begun = list(self._tasks)
            self._tasks.clear()
            self._in_hand.difference_update(not_begun)
            self._busy -= len(not_begun)
            self._set_free(len(not_begun))
            return not_begun

    def hurry(self) -> None:
        """End `wait_until_idle`: the handlers that run are not waited for."""
        with self._lock:
            self._hurried = True
            self._changed.notify_all()

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait for the handlers to finish; whether they did."""
        end = time.monotonic() + timeout
        with self._lock:
            while self._busy and not self._hurried and (left := end - time.monotonic()) > 0:
                # In the main thread, Python calls what is due for signals in between.
                self._wait_for(self._is_left_alone, self.threads, min(left, _LOOK_UP))
            return not self._busy

    def dismiss(self) -> None:
        """Let every handler end once it is free."""
        with self._lock:
            self._dismissed = True
            while self._idle:
                self._idle.pop().release()

    def _is_left_alone(self) -> bool:
        return self._hurried or not self._busy

    def _has_turn(self) -> bool:
        if not self._lent or self._turn_taken or self._stopping:
            return False
        # While there is something to do, half of the handlers have to be free: then the server
        # works while the other half does, and has the next batch ready when they are free, too.
        if self._tasks:
            return self._free >= self._worth_asking
        return self._free > 0 or self._under_way > 0

    def _take_turn(self) -> Turn:
        self._turn_taken = True
        free, self._free = self._free, 0
        return Turn(free)

    @property
    def _something_waits(self) -> bool:
        return bool(self._tasks) or self._has_turn()

    def _keep_pace(self, seconds: float) -> None:
        # Slow ones are remembered for long: among many quick ones they are who holds up others.
        beyond = min(seconds, _SLOW) - self._pace
        self._pace += beyond / (8 if beyond > 0 else 64)

    def _wake_another(self) -> None:
        # Not for what the one who is at work will have handled before another has woken up. Should
        # it take long after all, the thread that lent the turn sees that, and looks for as long as
        # something is begun.
        if not self._lent or self._pace > _QUICK:
            self._wake_one()
        elif not self._watched and self._something_waits:
            self._watched = True
            self._changed.notify_all()

    def _wake_for_what_waits(self) -> None:
        self._watched = False
        if self._something_waits:
            self._pace = _SLOW
            self._wake_one()

    def _wake_one(self) -> None:
        # Only one at a time: it wakes the next when it has got something. Messages that are
        # handled faster than a thread wakes up cost one change of threads for all of them.
        if self._something_waits and self._idle and not self._waking:
            self._waking = True
            self._idle.pop().release()

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
