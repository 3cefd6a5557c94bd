"""The thread that keeps the leases of what is in hand."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from tta_agent_coordination.errors import CoordinationError
from tta_agent_coordination.events import Events, LeaseLost
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.worker.desk import Desk, Task

logger = logging.getLogger("tta_agent_coordination")

RENEWALS_A_LEASE = 3
"""A lease is renewed when a third of it is over: two renewals may fail before it is lost."""
_LOOKS_A_LEASE = 2 * RENEWALS_A_LEASE
_LOOKS_A_HANDLER = 10
"""A handler is told within a tenth of its time that the time is over."""


class Renewer:
    """Renews the leases of a desk, until their handlers have had their time."""

    def __init__(
        self,
        desk: Desk,
        visibility: float,
        longest: float | None,
        failed: Callable[[BaseException], None],
        events: Events,
    ) -> None:
        """Renew leases of `visibility` seconds; handlers may take `longest` seconds."""
        self._events = events
        self._desk = desk
        self._visibility = visibility
        self._longest = longest
        self._failed = failed
        self._stopped = threading.Event()
        self._pause = visibility / _LOOKS_A_LEASE
        if longest is not None:
            self._pause = min(self._pause, max(longest / _LOOKS_A_HANDLER, 0.01))

    def run(self) -> None:
        """Renew until `stop`."""
        while not self._stopped.wait(self._pause):
            try:
                self.renew()
            except BaseException as error:  # noqa: BLE001 - only `stop` ends this thread
                self._failed(error)

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()

    def renew(self) -> None:
        """Renew every lease of which a third is over."""
        old = time.monotonic() - self._visibility / RENEWALS_A_LEASE
        by_inbox: dict[AgentId, list[Task]] = {}
        for task in self._desk.in_hand():
            if not self._is_lost(task) and not self._overdue(task) and task.leased_at <= old:
                by_inbox.setdefault(task.inbox, []).append(task)
        for inbox, tasks in by_inbox.items():
            if not self._stopped.is_set():
                self._extend(inbox, tasks)

    def give_up(self) -> None:
        """Tell handlers that run on that their leases are not renewed any more."""
        for task in self._desk.in_hand():
            if not task.finished:
                self._lose(task, "its worker stopped without waiting for it")

    def _extend(self, inbox: AgentId, tasks: list[Task]) -> None:
        asked_at = time.monotonic()
        try:
            outcomes = tasks[0].feed.inbox.extend(
                inbox, [task.token for task in tasks], self._visibility
            )
        except CoordinationError as error:
            self._failed(error)
            for task in tasks:
                if time.monotonic() - task.leased_at >= self._visibility:
                    self._lose(task, "it could not be renewed in time")
            return
        for task, outcome in zip(tasks, outcomes, strict=True):
            if outcome:
                task.renewed(asked_at)
            elif not task.finished:
                self._lose(task, f"it is {outcome.value}")

    def _is_lost(self, task: Task) -> bool:
        if not task.lease_lost and task.was_told:
            self._lose(task, "it could not be renewed in time")
        return task.lease_lost

    def _overdue(self, task: Task) -> bool:
        if self._longest is None or task.begun_at is None or task.finished:
            return False
        if time.monotonic() - task.begun_at < self._longest:
            return False
        self._lose(task, f"its handler takes longer than {self._longest:g} s")
        return True

    def _lose(self, task: Task, why: str) -> None:
        lose(task, why, self._events)


def lose(task: Task, why: str, events: Events) -> None:
    """Note that the lease of a message is lost, and tell of it."""
    message_id = task.delivery.message_id
    logger.warning(
        "the lease of message %s is lost: %s", message_id, why,
        extra={"event": "lease_lost", "inbox": str(task.inbox), "message_id": message_id},
    )  # fmt: skip
    task.lose_lease()
    if events.observers:
        events.tell(LeaseLost(inbox=task.inbox, message_id=message_id, why=why))
