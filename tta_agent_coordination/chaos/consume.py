"""A process that receives, and does all that can be done with a message."""

from __future__ import annotations

import time
from contextlib import suppress

from tta_agent_coordination import FailureType, ReceivedMessage
from tta_agent_coordination.chaos.settings import INBOX, LEASE
from tta_agent_coordination.chaos.work import ForkedError, Work

SHORT_HANDLER, LONG_HANDLER = 0.01, 0.3 * LEASE
"""Seconds before an effect, and again between the effect and its ack, at most."""


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
