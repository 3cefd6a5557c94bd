"""What producers and consumers do, each in a process of its own."""

from __future__ import annotations

import faulthandler
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn, Self, TypeVar

from tta_agent_coordination import (
    AgentMessage,
    CoordinatorUnavailableError,
    FailureType,
    LeaseOutcome,
    MessagePriority,
    ReceivedMessage,
    RedisMessageCoordinator,
)
from tta_agent_coordination.chaos.history import FORK_MARK, UNCERTAIN, Diary
from tta_agent_coordination.chaos.settings import (
    INBOX,
    LEASE,
    OPTIONS,
    PRODUCER,
    REPLICATED,
    Settings,
)

C = TypeVar("C", bound=RedisMessageCoordinator)

SHORT_HANDLER, LONG_HANDLER = 0.01, 0.3 * LEASE
"""Seconds before an effect, and again between the effect and its ack, at most."""
LONG_SHARE = 0.04
"""Of the messages that take long: somebody who is killed or stopped holds one of them."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_FORKS = 2
_WAIT = 0.3
_PAUSE = 0.05


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
        self.told = threading.Event()
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
        self.told.set()

    def go_on(self) -> bool:
        """Whether it was not told to finish."""
        return not self.told.is_set()

    def wait(self, seconds: float) -> None:
        """Do nothing for so long, or until it is told to finish."""
        self.told.wait(seconds)

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

    # Forking ---------------------------------------------------------------------------------

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

    # Consuming -------------------------------------------------------------------------------

    def receive(self, most: int) -> list[ReceivedMessage]:
        """Receive up to so many messages, none when the server is away."""
        try:
            received = self.coordinator.receive_many(INBOX, most, LEASE, wait=_WAIT)
        except CoordinatorUnavailableError:
            self.wait(_PAUSE)
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
                self._pause.wait(_PAUSE)
            else:
                self.diary.write("settled", message_id, **known, outcome=outcome.name)
                return outcome

    def ack(self, item: ReceivedMessage) -> LeaseOutcome:
        """Finish a message."""
        return self.settle("ack", item, lambda: self.coordinator.ack(INBOX, item.token))


def produce(work: Work) -> None:
    """Send message after message, each until it is confirmed."""
    number = 0
    while work.go_on():
        number += 1
        with suppress(ForkedError):
            message = AgentMessage(
                PRODUCER,
                INBOX,
                {"number": number, "long": work.dice.random() < LONG_SHARE},
                message_id=f"{work.name}-{number:06}",
                priority=work.dice.choice(list(MessagePriority)),
            )
            send(work, message)
            work.wait(work.dice.uniform(0.002, 0.02))


def send(work: Work, message: AgentMessage) -> None:
    """Send one message until it is confirmed, or this process is told to finish."""
    known = {"priority": message.priority.value}
    while work.go_on():
        work.fork_if_asked()
        work.diary.write("sending", message.message_id, **known)
        try:
            result = work.coordinator.send_message(PRODUCER, INBOX, message)
        except CoordinatorUnavailableError:
            work.diary.write("uncertain", message.message_id, **known)
        else:
            if result.delivered and (result.replicas or 0) < work.settings.replicas:
                work.diary.write("unreplicated", message.message_id, **known)
            elif result.delivered:
                outcome = "duplicate" if result.duplicate else "stored"
                work.diary.write("sent", message.message_id, **known, outcome=outcome)
                return
            else:
                work.diary.write("refused", message.message_id, **known)
        work.wait(_PAUSE)


def consume(work: Work) -> None:
    """Receive and do, by the dice, all that can be done with a message."""
    while work.go_on():
        with suppress(ForkedError):
            received = work.receive(work.dice.randint(1, 4))
            leased_at = time.monotonic()
            for item in received:
                work.fork_if_asked()
                _handle(work, item, leased_at)
        with suppress(ForkedError):
            work.fork_if_asked()


def _handle(work: Work, item: ReceivedMessage, leased_at: float) -> None:
    coordinator, chance, token = work.coordinator, work.dice.random(), item.token
    if chance < 0.04:
        work.settle("nack", item, lambda: coordinator.nack(INBOX, token, error="busy"))
    elif chance < 0.05:
        work.settle("nack", item, lambda: coordinator.nack(INBOX, token, FailureType.PERMANENT))
    elif chance < 0.08:
        work.settle("release", item, lambda: coordinator.release(INBOX, token))
    elif chance < 0.09:
        return  # forgotten: its lease passes
    else:
        if chance < 0.12 or time.monotonic() - leased_at > LEASE / 3:
            work.settle("extend", item, lambda: coordinator.extend(INBOX, token, LEASE), LEASE)
        have_effect(work, item)
        work.ack(item)


def have_effect(work: Work, item: ReceivedMessage) -> None:
    """Take some time, write down the effect, and take some time again."""
    message_id, token = item.message.message_id, item.token
    longest = LONG_HANDLER if item.message.payload["long"] else SHORT_HANDLER
    work.diary.write("begun", message_id, token=token)
    time.sleep(work.dice.uniform(0.0, longest))
    work.diary.write("handled", message_id, token=token)
    time.sleep(work.dice.uniform(0.0, longest))
