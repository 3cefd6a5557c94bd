"""What the coordinator answers."""

import pickle
from datetime import UTC, datetime

import pytest

from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    DeadLetter,
    LeaseOutcome,
    MessagePriority,
    MessageResult,
    MessageSubscription,
    MessageType,
    QueueMessage,
    ReceivedMessage,
    RoutingKey,
)

A, B = AgentId("a"), AgentId("b", "1")
NOW = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.guarantee("2.5")
def test_an_outcome_is_true_when_it_holds() -> None:
    truth = {outcome.name: bool(outcome) for outcome in LeaseOutcome}
    assert truth == {"DONE": True, "ALREADY_DONE": True, "STALE": False, "UNKNOWN": False}


@pytest.mark.guarantee("2.4")
def test_a_received_message_shows_its_message() -> None:
    message = AgentMessage(A, B)
    queued = QueueMessage(message, MessagePriority.NORMAL, NOW)
    received = ReceivedMessage("token", queued, NOW)
    assert received.message is message
    assert (queued.delivery_attempts, queued.last_error) == (0, None)


@pytest.mark.guarantee("2.8")
def test_a_result_has_no_error_unless_it_has_one() -> None:
    assert MessageResult("the-id", delivered=True) == MessageResult("the-id", True, None, False)


@pytest.mark.guarantee("2.6")
def test_a_dead_letter_can_be_made_by_users_in_their_tests() -> None:
    letter = DeadLetter(None, "undecodable", NOW, None, raw=b"x")
    assert (letter.raw, letter.message_id) == (b"x", "")
    assert pickle.loads(pickle.dumps(letter)) == letter
    assert letter.message is None


def test_a_dead_letter_leads_to_its_message() -> None:
    message = AgentMessage(A, B)
    held = QueueMessage(message, message.priority, NOW)
    assert DeadLetter(held, "expired", NOW, None).message is message


@pytest.mark.guarantee("2.0")
@pytest.mark.parametrize(
    ("topics", "topic", "matches"),
    [((), None, True), (("a",), "a", True), (("a",), "ab", False), (("a*",), "ab", True),
     (("a*",), None, False), (("b", "a*"), "a", True), (("*",), "", True)],
)  # fmt: skip
def test_a_subscription_says_what_it_matches(
    topics: tuple[str, ...], topic: str | None, *, matches: bool
) -> None:
    subscription = MessageSubscription("id", A, (MessageType.EVENT,), topics)
    message = AgentMessage(B, B, routing=RoutingKey(topic))
    assert subscription.matches(message) is matches
    request = AgentMessage(B, B, routing=RoutingKey(topic), message_type=MessageType.REQUEST)
    assert not subscription.matches(request)
