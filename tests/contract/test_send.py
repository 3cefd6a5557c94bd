"""Sending one message: what arrives, and who wins when sender and message disagree."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.contract.conftest import Later, Make
from tests.contract.given import ONE, SENDER, TWO, WORKER, drain, message, send, take
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    MessagePriority,
    MessageResult,
    MessageType,
    RedisMessageCoordinator,
    RoutingKey,
)


@pytest.mark.guarantee("2.0")
def test_the_arguments_win_over_the_fields_of_the_message(
    coordinator: RedisMessageCoordinator,
) -> None:
    sent = AgentMessage(AgentId("somebody"), ONE)

    coordinator.send_message(SENDER, TWO, sent)

    assert coordinator.receive(ONE) is None
    arrived = take(coordinator, TWO).message
    assert (arrived.sender, arrived.recipient) == (SENDER, TWO)
    assert (sent.sender, sent.recipient) == (AgentId("somebody"), ONE)


@pytest.mark.guarantee("2.1")
def test_every_field_arrives_as_it_was_sent(coordinator: RedisMessageCoordinator) -> None:
    sent = AgentMessage(
        SENDER,
        WORKER,
        {"text": "häßlich\n\0'\"", "list": [1, 2.5, None, True, {"a": []}]},
        message_type=MessageType.REQUEST,
        priority=MessagePriority.HIGH,
        routing=RoutingKey("news.weather", ("a", "b c")),
        message_id="order:4711/é",
        timestamp=datetime(2001, 2, 3, 4, 5, 6, 789, tzinfo=timezone(timedelta(hours=-7))),
        correlation_id="the one before",
        reply_to=ONE,
        ttl=3600.5,
        headers={"traceparent": "00-ab-cd-01", "": "empty name"},
    )

    result = coordinator.send_message(SENDER, WORKER, sent)

    assert result == MessageResult("order:4711/é", delivered=True)
    received = take(coordinator)
    assert received.message == sent
    assert received.message.timestamp.utcoffset() == timedelta(0)
    assert received.queue_message.priority is MessagePriority.HIGH
    assert received.queue_message.delivery_attempts == 1
    assert received.queue_message.last_error is None


@pytest.mark.guarantee("2.1")
def test_a_message_of_nothing_but_defaults_arrives(coordinator: RedisMessageCoordinator) -> None:
    before = datetime.now(UTC)
    sent = AgentMessage(SENDER, WORKER)
    coordinator.send_message(SENDER, WORKER, sent)
    assert take(coordinator).message == sent
    assert sent.timestamp >= before
    assert sent.payload == {}


@pytest.mark.guarantee("2.1")
def test_equal_payloads_are_two_messages(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 7)
    send(coordinator, 7)
    assert drain(coordinator) == [7, 7]


@pytest.mark.guarantee("2.7")
def test_a_delayed_message_comes_when_its_time_has_come_and_not_before(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    coordinator.send_message(SENDER, WORKER, message(1), delay=100.0)

    later(90.0)
    assert coordinator.receive(WORKER) is None
    assert coordinator.stats(WORKER).delayed == 1

    later(10.0)
    assert drain(coordinator) == [1]


@pytest.mark.guarantee("2.3")
def test_what_one_coordinator_sent_another_receives_after_the_first_is_closed(make: Make) -> None:
    with make() as first:
        send(first, 1)
    assert drain(make()) == [1]
