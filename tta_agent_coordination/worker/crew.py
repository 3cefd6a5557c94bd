"""The threads of a worker, from start to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from functools import partial

import attrs

from tta_agent_coordination import checks, threads
from tta_agent_coordination.agents.agent import AgentProxy
from tta_agent_coordination.coordinator.core import RedisMessageCoordinator
from tta_agent_coordination.coordinator.feed import Feed
from tta_agent_coordination.doctor.examination import evictions
from tta_agent_coordination.errors import CoordinatorUnavailableError
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.worker.desk import Desk, Task, Turn
from tta_agent_coordination.worker.farewell import Farewell
from tta_agent_coordination.worker.fetcher import Fetcher
from tta_agent_coordination.worker.handling import Handling
from tta_agent_coordination.worker.internals import CutOff
from tta_agent_coordination.worker.loop import WorkerLoop
from tta_agent_coordination.worker.renewer import Renewer
from tta_agent_coordination.worker.tally import Tally

logger = logging.getLogger("tta_agent_coordination")

DEFAULT_THREADS = 8
"""Messages that a worker handles at once."""
DEFAULT_VISIBILITY = 30.0
"""Seconds of a lease, which is renewed while its handler runs."""
DEFAULT_DRAIN_TIMEOUT = 25.0
"""Seconds that handlers get to finish when a worker stops."""
_JOIN_TIMEOUT = 10.0
_CANCEL_PATIENCE = 2.0
"""Seconds that coroutines get to end which were cancelled."""


@attrs.frozen(kw_only=True)
class WorkerOptions:
    """How a worker serves: see `AgentWorker`."""

    threads: int = DEFAULT_THREADS
    visibility_timeout: float = DEFAULT_VISIBILITY
    max_handler_seconds: float | None = None
    drain_timeout: float = DEFAULT_DRAIN_TIMEOUT

    def __attrs_post_init__(self) -> None:
        """Check the values."""
        checks.count("threads", self.threads, least=1)
        if checks.duration("visibility_timeout", self.visibility_timeout) == 0:
            raise ValueError("visibility_timeout must be more than 0 seconds")
        if self.max_handler_seconds is not None:
            checks.duration("max_handler_seconds", self.max_handler_seconds)
        checks.duration("drain_timeout", self.drain_timeout)


class Crew:
    """The threads of a worker, from start to stop.

    Attributes:
        desk: What is in hand.
        talk: What it says to Redis when it stops.
        last_error: What went wrong last.
    """

    def __init__(
        self,
        agents: Sequence[AgentProxy],
        coordinator: RedisMessageCoordinator,
        options: WorkerOptions,
        loop: WorkerLoop,
    ) -> None:
        """Prepare to serve `agents`; coroutines run on `loop`, which stays the caller's."""
        by_inbox = _by_inbox(agents)
        self._loop = loop
        self.desk = Desk(options.threads)
        self.talk = Farewell(self._note_failure)
        self.last_error: str | None = None
        self._failing = False
        self._link = coordinator.internals.link
        self._unlooked = threading.Lock()
        self._last_poll: float | None = None
        self._handling = Handling(coordinator, by_inbox, self._note_raised, loop)
        feeds = coordinator.internals.feed(list(by_inbox))
        lease, lends = options.visibility_timeout, len(feeds) == 1
        self._fetchers = {feed: self._fetcher(feed, lease, lends=lends) for feed in feeds}
        self._renewer = Renewer(
            self.desk, lease, options.max_handler_seconds, self._note_failure, coordinator.events
        )
        self._name = str(agents[0].agent_id)
        self._fetching: list[threading.Thread] = []
        self._handlers: list[threading.Thread] = []
        self._renewing: list[threading.Thread] = []

    @property
    def tally(self) -> Tally:
        """What its handlers did."""
        return self.desk.tally

    @property
    def last_poll_age(self) -> float | None:
        """Seconds since Redis answered a fetcher; None: never."""
        last = self._last_poll
        return None if last is None else time.monotonic() - last

    @property
    def is_handling_here(self) -> bool:
        """Whether the calling thread is one of its handlers."""
        return threading.current_thread() in self._handlers or self._loop.is_here

    @property
    def threads(self) -> list[threading.Thread]:
        """All of its threads."""
        return [*self._fetching, *self._handlers, *self._renewing]

    def start(self) -> None:
        """Start every thread."""
        self._renewing = [threads.spawn(f"renew-{self._name}", self._renewer.run)]
        self._handlers = [
            threads.spawn(f"handle-{self._name}-{i}", self._handle)
            for i in range(self.desk.threads)
        ]
        self._fetching = [
            threads.spawn(f"fetch-{self._name}", fetcher.run) for fetcher in self._fetchers.values()
        ]

    def stop_taking(self) -> None:
        """Take nothing more, and give back what was not begun."""
        for task in self.desk.stop():
            self.talk.say(partial(self._fetchers[task.feed].give_back, task))
        for fetcher in self._fetchers.values():
            fetcher.stop()
        if self.talk.away:
            for fetcher in self._fetchers.values():
                fetcher.cut_off()
        ended = threads.join(self._fetching, _JOIN_TIMEOUT)
        for fetcher in self._fetchers.values():
            if ended:
                self.talk.say(fetcher.give_back_unanswered)
            self.talk.say(fetcher.feed.leave)

    def finish(self, drain_timeout: float) -> None:
        """Let handlers finish, their leases renewed, and end every thread whose handler has."""
        drained = self.desk.wait_until_idle(drain_timeout)
        self.desk.dismiss()
        if not drained and self._loop.cancel("its worker stopped before it was done"):
            drained = self._handlers_end_within(_CANCEL_PATIENCE)
        self._renewer.stop()
        threads.join(self._renewing, _JOIN_TIMEOUT)
        if not drained:
            logger.warning(
                "%s left at work; the leases will expire",
                counted(self.desk.busy),
                extra={"event": "handlers_left", "worker": self._name, "count": self.desk.busy},
            )
            self._renewer.give_up()
            return
        threads.join(self._handlers, _JOIN_TIMEOUT)
        for fetcher in self._fetchers.values():
            self.talk.say(fetcher.flush_if_parked)  # what could not be acknowledged before

    def drop(self, agent_id: AgentId) -> None:
        """Take no more from the own inbox of an agent that somebody else serves by now."""
        if agent_id.instance is not None:
            for fetcher in self._fetchers.values():
                if fetcher.feed.drop(agent_id):
                    fetcher.wake()

    def abandon(self, cut_off: CutOff) -> list[threading.Thread]:
        """Take, release and settle nothing more; return the threads, which end by themselves.

        Args:
            cut_off: Is given the threads first: from then on none of them may reach Redis.
        """
        all_of_them = self.threads
        cut_off(all_of_them)
        self.desk.stop()
        self.desk.dismiss()
        self._renewer.stop()
        self._renewer.give_up()
        return all_of_them

    def disown(self) -> None:
        """Let go of everything, in a child: the threads and the leases are the parent's.

        A handler that has forked goes on in the child too, and ends there without a trace.
        """
        self.desk.disown()

    def _fetcher(self, feed: Feed, lease: float, *, lends: bool) -> Fetcher:
        return Fetcher(
            feed,
            self.desk,
            lease,
            lends=lends,
            talk=self.talk,
            polled=self._note_poll,
            failed=self._note_failure,
        )

    def _handlers_end_within(self, timeout: float) -> bool:
        end = time.monotonic() + timeout
        for thread in self._handlers:
            thread.join(max(end - time.monotonic(), 0.0))
        return not self.desk.busy

    def _handle(self) -> None:
        while (task := self.desk.take()) is not None:
            if isinstance(task, Turn):
                [fetcher] = self._fetchers.values()  # which lends because it is the only one
                fetcher.take_turn(task)
                continue
            self._serve(task)
            if task.inherited:
                return
            self._fetchers[task.feed].flush_if_parked()

    def _serve(self, task: Task) -> None:
        done = False
        try:
            done = self._handling.handle(task)
        except BaseException as error:  # noqa: BLE001 - the lease will pass; the thread goes on
            if not (task.inherited and isinstance(error, SystemExit)):  # so a child may end
                self._note_failure(error)
        finally:
            if not task.inherited:
                self.desk.finish(task, acknowledge=done)

    def _note_poll(self) -> None:
        self._last_poll = time.monotonic()
        if self._failing:
            self._failing = False
            logger.warning(
                "worker %s: Redis answers again",
                self._name,
                extra={"event": "worker_recovered", "worker": self._name},
            )
        if self._unlooked.acquire(blocking=False):  # once, when Redis has just answered
            self._warn_of_eviction()

    def _note_failure(self, error: BaseException) -> None:
        self.last_error = f"{type(error).__name__}: {error}"
        away = isinstance(error, CoordinatorUnavailableError)
        stopping = self.desk.stopping
        if stopping:
            self.talk.heard(error)
        if not self._failing:  # one line an outage
            self._failing = True
            logger.warning(
                "worker %s: %s%s",
                self._name,
                self.last_error,
                " It goes on trying." if away and not stopping else "",
                extra={"event": "worker_failing", "worker": self._name},
            )

    def _warn_of_eviction(self) -> None:
        findings = evictions(self._link)
        if findings:
            told = "; ".join(f"{one.server}: {one.found}. {one.advice}" for one in findings)
            logger.warning(
                "worker %s: the server may drop keys of its inboxes: %s",
                self._name,
                told,
                extra={"event": "eviction", "worker": self._name},
            )

    def _note_raised(self, text: str) -> None:
        self.last_error = text


def counted(handlers: int) -> str:
    """Return a number of handlers, in words."""
    return f"{handlers} handler{'' if handlers == 1 else 's'}"


def inboxes_of(agents: Iterable[AgentProxy]) -> list[AgentId]:
    """Return the inbox of each agent, and the shared one of its type."""
    return list(_by_inbox(agents))


def _by_inbox(agents: Iterable[AgentProxy]) -> dict[AgentId, list[AgentProxy]]:
    found: dict[AgentId, list[AgentProxy]] = {}
    for agent in agents:
        for inbox in dict.fromkeys((agent.agent_id, AgentId(agent.agent_id.type))):
            found.setdefault(inbox, []).append(agent)
    return found
