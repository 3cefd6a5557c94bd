"""A process that sends, until each message is confirmed."""

from __future__ import annotations

from contextlib import suppress

from tta_agent_coordination import AgentMessage, CoordinatorUnavailableError, MessagePriority
from tta_agent_coordination.chaos.settings import INBOX, PRODUCER
from tta_agent_coordination.chaos.work import PAUSE, ForkedError, Work

LONG_SHARE = 0.04
"""Of the messages that take long: somebody who is killed or stopped holds one of them."""


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
        work.wait(PAUSE)
