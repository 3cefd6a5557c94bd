"""What every process of a run has: its coordinator, its diary and its dice."""

from __future__ import annotations

import faulthandler
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn, Self, TypeVar

from tta_agent_coordination import (
    CoordinatorUnavailableError,
    LeaseOutcome,
    ReceivedMessage,
    RedisMessageCoordinator,
)
from tta_agent_coordination.chaos.history import FORK_MARK, UNCERTAIN, Diary
from tta_agent_coordination.chaos.settings import (
    INBOX,
    LEASE,
    OPTIONS,
    REPLICATED,
    Settings,
)

C = TypeVar("C", bound=RedisMessageCoordinator)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_FORKS = 2
_WAIT = 0.3
PAUSE = 0.05
"""Seconds before something is tried again while the server is away."""


class ForkedError(Exception):
    """Raised in the new process: what its parent has in hand is not its own."""


class Work:
    """One process's coordinator, diary and dice."""

    def __init__(self, settings: Settings) -> None:
        """Open the diary; SIGTERM ends `go_on` from now on, and SIGUSR1 asks for a fork."""
        self.settings = settings
        self.name = settings.name
        self.dice = random.Random(settings.seed)
        self.coordinator = self.make(RedisMessageCoordinator)
        self._told = False
        self._fork_asked = False
        self._forked: list[int] = []
        self._pause = threading.Event()
        signal.signal(signal.SIGTERM, self._finish)
        signal.signal(signal.SIGUSR1, self._ask_fork)
        faulthandler.register(signal.SIGUSR2)
        self.diary = Diary(Path(settings.folder), self.name)

    def make(self, kind: type[C]) -> C:
        """Make a coordinator of this kind with the options of the run."""
        at = (self.settings.url, self.settings.prefix)
        replicas = self.settings.replicas
        options = OPTIONS | REPLICATED if replicas else OPTIONS
        return kind.from_url(*at, consumer_name=self.name, replicas=replicas, **options)

    def _finish(self, _number: int, _frame: object) -> None:
        # No event: the main thread may hold its lock, in a wait, and this would wait for it there.
        self._told = True

    def go_on(self) -> bool:
        """Whether it was not told to finish."""
        return not self._told

    def wait(self, seconds: float = PAUSE) -> None:
        """Do nothing for a moment."""
        time.sleep(seconds)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close everything, and let the processes forked from this one finish too."""
        self.coordinator.close()
        self.diary.close()
        for pid in self._forked:
            os.kill(pid, signal.SIGTERM)
        for pid in self._forked:
            os.waitpid(pid, 0)

    def _ask_fork(self, _number: int, _frame: object) -> None:
        self._fork_asked = True

    def fork_if_asked(self) -> None:
        """Fork when asked to; both go on.

        Raises:
            ForkedError: In the new process.
        """
        if not self._fork_asked:
            return
        self._fork_asked = False
        if FORK_MARK in self.name or len(self._forked) == _MOST_FORKS:
            return
        pid = os.fork()
        (self._forked.append if pid else self._begin_anew)(pid)

    def _begin_anew(self, _pid: int) -> NoReturn:
        number = len(self._forked)
        self._forked = []
        self.name = f"{self.name}{FORK_MARK}{number}"
        self.dice = random.Random(f"{self.settings.seed} {number}")
        self.diary.close()
        self.diary = Diary(Path(self.settings.folder), self.name)
        raise ForkedError

    def receive(self, most: int) -> list[ReceivedMessage]:
        """Receive up to so many messages, none when the server is away."""
        try:
            received = self.coordinator.receive_many(INBOX, most, LEASE, wait=_WAIT)
        except CoordinatorUnavailableError:
            self.wait(PAUSE)
            return []
        for position, item in enumerate(received):
            self.note_delivery(item, LEASE, position)
        return received

    def note_delivery(self, item: ReceivedMessage, lease: float, position: int) -> None:
        """Write down that a message came."""
        deadline = (item.visibility_deadline - _EPOCH) // timedelta(microseconds=1)
        length = round(lease * 1_000_000)
        self.diary.write(
            "received",
            item.message.message_id,
            priority=item.queue_message.priority.value,
            token=item.token,
            attempts=item.queue_message.delivery_attempts,
            claimed=deadline - length,
            lease=length,
            position=position,
        )

    def settle(
        self, verb: str, item: ReceivedMessage, call: Callable[[], LeaseOutcome], lease: float = 0
    ) -> LeaseOutcome:
        """Repeat a settlement until the server answers; write down each intent and outcome."""
        message_id = item.message.message_id
        while True:
            known = {"token": item.token, "verb": verb, "lease": round(lease * 1_000_000)}
            self.diary.write("settling", message_id, **known)
            try:
                outcome = call()
            except CoordinatorUnavailableError:
                self.diary.write("settled", message_id, **known, outcome=UNCERTAIN)
                self._pause.wait(PAUSE)
            else:
                self.diary.write("settled", message_id, **known, outcome=outcome.name)
                return outcome

    def ack(self, item: ReceivedMessage) -> LeaseOutcome:
        """Finish a message."""
        return self.settle("ack", item, lambda: self.coordinator.ack(INBOX, item.token))
