"""The thread that fetches messages, and acknowledges what is done on the same way."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import attrs

from tta_agent_coordination.coordinator.feed import Asked, Feed, Fetched, Refused
from tta_agent_coordination.coordinator.records import Delivery
from tta_agent_coordination.errors import CoordinationError
from tta_agent_coordination.events import held
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.transport.blocked import Sent
from tta_agent_coordination.worker.desk import Desk, Task, Turn
from tta_agent_coordination.worker.farewell import Farewell

logger = logging.getLogger("tta_agent_coordination")

_LOOK = 0.5
"""Seconds for which a free handler is waited for before what is done is acknowledged."""
_PAUSE = 0.5
"""Seconds after a failure at most, at least half of it: workers shall not all come at once."""


@attrs.frozen
class _Fetch:
    """What is asked for at once.

    Attributes:
        free: How many handlers are reserved for what it brings.
        done: What is acknowledged on the same way.
        begun_at: When it was asked for, monotonic seconds.
    """

    free: int
    done: list[Task]
    begun_at: float


class Fetcher:
    """Keeps the free handlers of a desk supplied from one feed.

    While its thread waits for messages it is parked, and handlers acknowledge by themselves.
    """

    def __init__(
        self,
        feed: Feed,
        desk: Desk,
        visibility: float,
        *,
        lends: bool,
        talk: Farewell,
        polled: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Fetch from `feed` for `desk`; tell `polled` and `failed` how it goes.

        What is said to Redis at the stop goes through `talk`, which knows when that is in vain.
        With `lends`, handlers fetch while there is as much as they can take. Not where several
        fetchers share the handlers: each is to have its turn.
        """
        self.feed = feed
        self._desk = desk
        self._visibility = visibility
        self._lends = lends
        self._talk = talk
        self._polled = polled
        self._failed = failed
        self._under_way: deque[tuple[_Fetch, Asked, Sent]] = deque()
        self._parked = False
        self._is_cut_off = False
        self._flushing = threading.Lock()
        self._paused = threading.Event()

    def run(self) -> None:
        """Fetch until the desk stops, or until nothing is left to fetch from."""
        while self._under_way or (self.feed.agent_ids and not self._desk.stopping):
            try:
                self._turn()
            except BaseException as error:  # noqa: BLE001 - only the desk ends this thread
                self._failed(error)
                self._paused.wait(_PAUSE * random.uniform(0.5, 1.0))
        self._parked = True  # for good: handlers that run on acknowledge by themselves
        if not self._is_cut_off:
            self.flush_if_parked()

    def stop(self) -> None:
        """End a wait under way; the desk was told to stop before."""
        self._paused.set()
        self._talk.say(self.feed.interrupt)

    def cut_off(self) -> None:
        """End it though Redis does not answer."""
        self._is_cut_off = True
        self.feed.cut_off()

    def wake(self) -> None:
        """End a wait under way, if there is one."""
        self._try(self.feed.interrupt)

    def flush_if_parked(self) -> None:
        """Acknowledge what is done, when the fetching thread is not about to."""
        # Looked at again after each turn: who finds the lock taken leaves its own to the holder.
        while (
            self._parked
            and self._desk.has_done(self.feed)
            and self._flushing.acquire(blocking=False)
        ):
            with held():  # observers are not called while the lock is held
                try:
                    done = self._try(self._acknowledge)
                finally:
                    self._flushing.release()
            if not done:
                return

    def give_back(self, task: Task) -> None:
        """Give back what was not begun."""
        self.feed.inbox.release(task.inbox, task.token)

    def give_back_unanswered(self) -> None:
        """Give back what answers brought that got lost, when nobody is going to ask again."""
        for inbox, delivery in self.feed.take_up(self._visibility):
            self.feed.inbox.release(inbox, delivery.token)

    def _turn(self) -> None:
        if self._under_way:  # handlers left it when they gave the turn back
            self._read_next()
            return
        free = self._desk.reserve(_LOOK)
        if not free:
            self._acknowledge()  # another fetcher may take every handler that gets free
            return
        found = self._fetch(free)
        self._polled()
        if not found:
            self._park()
        elif self._lends and self.feed.has_more:
            self._desk.lend_turn()

    def take_turn(self, turn: Turn) -> None:
        """Fetch in place of the thread that lent its turn; for a handler.

        What is asked for is waited for only when there is nothing else to do: the server works
        while the handlers do.
        """
        lend_on = False
        try:
            if turn.free:
                self._ask(turn.free)
            found = True
            while found and self._under_way and not self._desk.has_tasks:
                found = bool(self._read_next())
            # Who found nothing leaves it to that thread to look at other inboxes, or to ask again.
            lend_on = found and self.feed.has_more
        except BaseException as error:  # noqa: BLE001 - as in run, which will meet it
            self._failed(error)
        finally:
            self._desk.return_turn(lend_on=lend_on, under_way=len(self._under_way))

    def _fetch(self, free: int) -> int:
        fetch = self._prepare(free)
        return self._hand_over(fetch, self._exchanged(fetch))

    def _ask(self, free: int) -> None:
        """Ask as `_fetch` does, for `_read_next` to hand over what comes."""
        fetch = self._prepare(free)
        try:
            asked, sent = self.feed.begin(_by_inbox(fetch.done), free, self._visibility)
        except BaseException:
            self._undo(fetch)
            raise
        self._under_way.append((fetch, asked, sent))

    def _read_next(self) -> int:
        """Hand over what was asked for first; return how many messages that were."""
        fetch, asked, sent = self._under_way.popleft()
        try:
            heard = self.feed.finish(asked, sent)
        except BaseException:
            self._undo(fetch)
            raise
        if heard is None:
            self._undo(fetch)
            return 0
        self._polled()
        return self._hand_over(fetch, heard)

    def _prepare(self, free: int) -> _Fetch:
        return _Fetch(free, self._desk.take_done(self.feed), time.monotonic())

    def _undo(self, fetch: _Fetch) -> None:
        self._desk.put_back_done(self.feed, fetch.done)
        self._desk.give_back(fetch.free)

    def _exchanged(self, fetch: _Fetch) -> tuple[list[Fetched], Refused]:
        try:
            return self.feed.exchange(_by_inbox(fetch.done), fetch.free, self._visibility)
        except BaseException:
            self._undo(fetch)
            raise

    def _hand_over(self, fetch: _Fetch, heard: tuple[list[Fetched], Refused]) -> int:
        """Give the messages to the handlers; return how many."""
        fetched, refused = heard
        self._note(fetch.done, refused)
        tasks = [
            Task(self.feed, inbox, delivery, fetch.begun_at, visibility=self._visibility)
            for inbox, delivery in fetched
        ]
        self._desk.give_back(fetch.free - len(tasks))
        if tasks and not self._desk.put(tasks):
            for task in tasks:
                self._talk.say(partial(self.give_back, task))
            self._desk.give_back(len(tasks))
        return len(tasks)

    def _park(self) -> None:
        self._parked = True
        try:
            # What was finished before it was seen that this thread is parked.
            self.flush_if_parked()
            if not self._desk.stopping:
                self.feed.wait()
        finally:
            self._parked = False
        if not self._desk.free:
            self.feed.pass_on()  # another fetcher took every handler meanwhile

    def _acknowledge(self) -> None:
        done = self._desk.take_done(self.feed)
        if not done:
            return
        try:
            refused = self.feed.ack(_by_inbox(done))
        except BaseException:
            self._desk.put_back_done(self.feed, done)
            raise
        self._note(done, refused)

    def _note(self, done: list[Task], refused: Refused) -> None:
        self._desk.acknowledged(done)
        for delivery, outcome in refused:
            logger.warning(
                "message %s was handled, but its lease had passed on: %s",
                delivery.message_id,
                outcome.value,
                extra={"event": "ack_refused", "message_id": delivery.message_id},
            )

    def _try(self, step: Callable[[], object]) -> bool:
        try:
            step()
        except CoordinationError as error:
            self._failed(error)
            return False
        return True


def _by_inbox(tasks: Sequence[Task]) -> dict[AgentId, list[Delivery]]:
    found: dict[AgentId, list[Delivery]] = {}
    for task in tasks:
        found.setdefault(task.inbox, []).append(task.delivery)
    return found
