"""Every call that a coordinator offers, each with the stage it needs, for faults to befall."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    FailureType,
    MessageType,
    RedisMessageCoordinator,
)
from tta_agent_coordination.proxy import FaultProxy

SENDER, INBOX, OTHER, THIRD = map(AgentId.parse, ("planner", "worker", "worker:2", "archive"))
INBOXES = (INBOX, OTHER, THIRD)
LONG = 60.0


def message(number: int, recipient: AgentId = INBOX, **fields: Any) -> AgentMessage:
    """Return a message whose id follows from its number."""
    return AgentMessage(
        SENDER, recipient, {"number": number}, message_id=f"message-{number:04}", **fields
    )


@dataclass
class Stage:
    """What a call acts on.

    Attributes:
        coordinator: The one whose commands meet the fault.
        helper: Another, which goes straight to the server.
        proxy: Before the first one.
        props: What was laid out for the call.
    """

    coordinator: RedisMessageCoordinator
    helper: RedisMessageCoordinator
    proxy: FaultProxy
    props: Any = None


@dataclass(frozen=True)
class Call:
    """One call: what it needs beforehand, and how it is made.

    Attributes:
        steady: Whether it always issues the same number of commands.
        options: Of both coordinators.
    """

    name: str
    act: Callable[[Stage], Any]
    arrange: Callable[[RedisMessageCoordinator], Any] = lambda _helper: None
    steady: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def _three_ready(helper: RedisMessageCoordinator) -> None:
    helper.send_many(SENDER, [message(number) for number in range(3)])


def _leased(helper: RedisMessageCoordinator) -> list[str]:
    _three_ready(helper)
    return [got.token for got in helper.receive_many(INBOX, 2, LONG)]


def _expired(helper: RedisMessageCoordinator) -> None:
    _three_ready(helper)
    helper.receive_many(INBOX, 2, 0.0)
    helper.send_message(SENDER, OTHER, message(7))
    helper.receive(OTHER, 0.0)


def _dead(helper: RedisMessageCoordinator) -> None:
    for token in _leased(helper):
        helper.nack(INBOX, token, FailureType.PERMANENT, "broken")


def _subscribed(helper: RedisMessageCoordinator) -> Any:
    helper.subscribe_to_messages(OTHER, [MessageType.EVENT])
    return helper.subscribe_to_messages(INBOX, [MessageType.EVENT], topics=["news.*"])


def _send_many(stage: Stage) -> Any:
    to_inbox = [message(number) for number in range(250)]
    to_others = [message(number, who) for number in range(3) for who in (OTHER, THIRD)]
    return stage.coordinator.send_many(SENDER, to_inbox + to_others)


def _send_much(stage: Stage) -> Any:
    text = "x" * 900_000
    return stage.coordinator.send_many(
        SENDER, [message(number, headers={"text": text}) for number in range(6)]
    )


@contextmanager
def _meanwhile(action: Callable[[], object]) -> Iterator[None]:
    thread = threading.Thread(target=action, name="meanwhile")
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _receive_what_arrives(stage: Stage) -> Any:
    def send() -> None:
        stage.proxy.wait_for("BZPOPMIN")
        stage.helper.send_message(SENDER, INBOX, message(1))

    with _meanwhile(send):
        return stage.coordinator.receive(INBOX, LONG, wait=5.0)


CALLS = (
    Call("send", lambda s: s.coordinator.send_message(SENDER, INBOX, message(1))),
    Call(
        "send-delayed",
        lambda s: s.coordinator.send_message(SENDER, INBOX, message(1), delay=LONG),
    ),
    Call("send_many", _send_many),
    Call("send_many-in-two-loads", _send_much),
    Call("broadcast", lambda s: s.coordinator.broadcast_message(SENDER, message(1), INBOXES)),
    Call("publish", lambda s: s.coordinator.publish(SENDER, message(1)), _subscribed),
    Call("subscribe", lambda s: s.coordinator.subscribe_to_messages(INBOX, [MessageType.EVENT])),
    Call("unsubscribe", lambda s: s.coordinator.unsubscribe(s.props), _subscribed),
    Call("receive", lambda s: s.coordinator.receive(INBOX, LONG), _three_ready),
    Call("receive-nothing", lambda s: s.coordinator.receive(INBOX, LONG)),
    Call("receive-with-wait", _receive_what_arrives, steady=False),
    Call(
        "receive-with-wait-until-due",
        lambda s: s.coordinator.receive(INBOX, LONG, wait=5.0),
        lambda h: h.send_message(SENDER, INBOX, message(1), delay=0.1),
        steady=False,
    ),
    Call("receive_many", lambda s: s.coordinator.receive_many(INBOX, 5, LONG), _three_ready),
    Call("ack", lambda s: s.coordinator.ack(INBOX, s.props[0]), _leased),
    Call("ack_many", lambda s: s.coordinator.ack_many(INBOX, s.props), _leased),
    Call(
        "nack",
        lambda s: s.coordinator.nack(INBOX, s.props[0], error="busy", delay=LONG),
        _leased,
    ),
    Call("nack-now", lambda s: s.coordinator.nack(INBOX, s.props[0], delay=0.0), _leased),
    Call(
        "nack-permanent",
        lambda s: s.coordinator.nack(INBOX, s.props[0], FailureType.PERMANENT, "broken"),
        _leased,
    ),
    Call(
        "nack-of-the-last-attempt",
        lambda s: s.coordinator.nack(INBOX, s.props[0], FailureType.TIMEOUT, "slow"),
        _leased,
        options={"retry_attempts": 0},
    ),
    Call("extend", lambda s: s.coordinator.extend(INBOX, s.props[0], LONG), _leased),
    Call("release", lambda s: s.coordinator.release(INBOX, s.props[0]), _leased),
    Call("recover_pending", lambda s: s.coordinator.recover_pending(INBOX), _expired),
    Call("recover_pending-all", lambda s: s.coordinator.recover_pending(), _expired),
    Call(
        "recover_pending-of-the-last-attempt",
        lambda s: s.coordinator.recover_pending(INBOX),
        _expired,
        options={"retry_attempts": 0},
    ),
    Call("stats", lambda s: s.coordinator.stats(INBOX), _three_ready),
    Call("purge", lambda s: s.coordinator.purge(INBOX), _leased),
    Call("dead_letters", lambda s: s.coordinator.dead_letters(INBOX), _dead),
    Call("replay", lambda s: s.coordinator.replay_dead_letters(INBOX), _dead),
    Call(
        "replay-one",
        lambda s: s.coordinator.replay_dead_letters(INBOX, message_ids=["message-0001"]),
        _dead,
    ),
    Call(
        "replay-elsewhere",
        lambda s: s.coordinator.replay_dead_letters(INBOX, to=OTHER),
        _dead,
    ),
    Call("purge_dead_letters", lambda s: s.coordinator.purge_dead_letters(INBOX), _dead),
    Call(
        "purge_dead_letters-one",
        lambda s: s.coordinator.purge_dead_letters(INBOX, message_ids=["message-0001"]),
        _dead,
    ),
)
