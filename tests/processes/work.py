"""What the processes of `worker` do."""

import argparse
import json
import random
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Self

from tests.processes.history import Diary
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    CoordinatorUnavailableError,
    FailureType,
    LeaseOutcome,
    MessagePriority,
    ReceivedMessage,
    RedisMessageCoordinator,
)

INBOX, PRODUCER = AgentId("worker"), AgentId("producer")
LEASE = 0.6
"""Seconds; short, so that what a killed process held comes back while others watch."""
RETRY_ATTEMPTS = 4
OPTIONS = {"retry_attempts": RETRY_ATTEMPTS, "queue_size": 200, "backoff_base": 0.05}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Work:
    """One process's coordinator, diary and dice."""

    def __init__(self, options: argparse.Namespace, go_on: Callable[[], bool]) -> None:
        self.options = options
        self.go_on = go_on
        self.dice = random.Random(options.seed)
        self.diary = Diary(options.folder / f"{options.name}.diary", options.name)
        self.coordinator = RedisMessageCoordinator.from_url(
            options.url, options.prefix, consumer_name=options.name, **OPTIONS
        )
        self.pause = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.coordinator.close()
        self.diary.close()

    def insist(self, call: Callable[[], object]) -> object:
        """Repeat a call until the server confirms it."""
        while True:
            try:
                return call()
            except CoordinatorUnavailableError:
                self.pause.wait(0.05)

    def say(self, line: str) -> None:
        print(line, flush=True)

    def await_line(self) -> None:
        sys.stdin.readline()

    # Consuming -------------------------------------------------------------------------------

    def receive(self, most: int, lease: float, wait: float) -> list[ReceivedMessage]:
        try:
            received = self.coordinator.receive_many(INBOX, most, lease, wait=wait)
        except CoordinatorUnavailableError:
            return []
        for position, item in enumerate(received):
            self.note_delivery(item, lease, position)
        return received

    def note_delivery(self, item: ReceivedMessage, lease: float, position: int) -> None:
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
        known = {"token": item.token, "verb": verb, "lease": round(lease * 1_000_000)}
        self.diary.write("settling", item.message.message_id, **known)
        outcome = self.insist(call)
        self.diary.write("settled", item.message.message_id, **known, outcome=outcome.name)
        return outcome

    def ack(self, item: ReceivedMessage) -> LeaseOutcome:
        return self.settle("ack", item, lambda: self.coordinator.ack(INBOX, item.token))


def produce(work: Work) -> None:
    """Send message after message, each until it is confirmed."""
    number = 0
    while work.go_on():
        number += 1
        message = AgentMessage(
            PRODUCER,
            INBOX,
            {"number": number},
            message_id=f"{work.options.name}-{number:06}",
            priority=work.dice.choice(list(MessagePriority)),
        )
        send(work, message)
        work.pause.wait(0.004)


def send(work: Work, message: AgentMessage) -> None:
    priority = message.priority.value
    work.diary.write("sending", message.message_id, priority=priority)
    while work.go_on():
        result = work.insist(lambda: work.coordinator.send_message(PRODUCER, INBOX, message))
        if result.delivered:
            outcome = "duplicate" if result.duplicate else "stored"
            work.diary.write("sent", message.message_id, priority=priority, outcome=outcome)
            return
        work.pause.wait(0.02)


def consume(work: Work) -> None:
    """Receive and do, by the dice, all that can be done with a message."""
    while work.go_on():
        for item in work.receive(work.dice.randint(1, 4), LEASE, 0.3):
            _handle(work, item)


def _handle(work: Work, item: ReceivedMessage) -> None:
    coordinator, chance = work.coordinator, work.dice.random()
    if chance < 0.10:
        work.settle("nack", item, lambda: coordinator.nack(INBOX, item.token, error="busy"))
    elif chance < 0.13:
        work.settle(
            "nack", item, lambda: coordinator.nack(INBOX, item.token, FailureType.PERMANENT)
        )
    elif chance < 0.20:
        work.settle("release", item, lambda: coordinator.release(INBOX, item.token))
    elif chance < 0.23:
        return  # forgotten: its lease passes
    else:
        if chance < 0.30:
            longer = LEASE * 2
            work.settle(
                "extend", item, lambda: coordinator.extend(INBOX, item.token, longer), longer
            )
        work.pause.wait(0.002)
        work.ack(item)


def hold(work: Work) -> None:
    """Receive one message, tell so, and ack it when told to."""
    [item] = work.receive(1, LEASE, 5.0)
    work.say(item.message.message_id)
    work.await_line()
    work.say(work.ack(item).name)


def scenario(work: Work) -> None:
    """Go through all that depends on time, and tell what came of each."""
    coordinator = work.coordinator
    told: dict[str, object] = {"clock": datetime.now(UTC).timestamp()}

    def message(name: str, **fields: object) -> AgentMessage:
        return AgentMessage(PRODUCER, INBOX, message_id=f"{name}-message", **fields)

    def receive(lease: float, wait: float = 0.0) -> list[object]:
        item = coordinator.receive(INBOX, lease, wait=wait)
        if item is None:
            return [None]
        held = [item.message.message_id, item.queue_message.delivery_attempts]
        return [*held, coordinator.ack(INBOX, item.token).name] if lease > 1 else held

    coordinator.send_message(PRODUCER, INBOX, message("delayed"), delay=0.3)
    told["too early"] = receive(5.0)
    told["delay over"] = receive(5.0, wait=5.0)
    coordinator.send_message(PRODUCER, INBOX, message("leased"))
    told["leased"] = receive(0.3)
    told["hidden"] = receive(5.0)
    told["lease over"] = receive(5.0, wait=5.0)
    again = coordinator.send_message(PRODUCER, INBOX, message("leased"))
    told["window"] = again.duplicate
    coordinator.send_message(PRODUCER, INBOX, message("mortal", ttl=0.2))
    coordinator.send_message(PRODUCER, INBOX, message("living", ttl=60.0))
    work.pause.wait(0.25)
    told["ttl over"] = receive(5.0)
    told["dead"] = [letter.reason for letter in coordinator.dead_letters(INBOX)]
    coordinator.send_message(PRODUCER, INBOX, message("failing"))
    item = coordinator.receive(INBOX, 5.0)
    told["nack"] = coordinator.nack(INBOX, item.token, delay=0.3).name
    told["before the retry"] = receive(5.0)
    told["retry"] = receive(5.0, wait=5.0)
    work.say(json.dumps(told))


ROLES = {"produce": produce, "consume": consume, "hold": hold, "scenario": scenario}
