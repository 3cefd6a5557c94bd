"""Publishing to those who subscribed."""

import logging
from typing import Any

import pytest

from tests.contract.conftest import Make
from tests.contract.given import ONE, SENDER, TWO, WORKER, drain, message, together
from tests.support.servers import Client
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    MessageSubscription,
    MessageType,
    RedisMessageCoordinator,
    RoutingKey,
)
from tta_agent_coordination.coordinator import subscriptions
from tta_agent_coordination.keys import Keys

EVENT, REQUEST, RESPONSE = MessageType.EVENT, MessageType.REQUEST, MessageType.RESPONSE

pytestmark = pytest.mark.guarantee("2.0")


def about(topic: str | None, kind: MessageType = EVENT) -> AgentMessage:
    return AgentMessage(SENDER, SENDER, message_type=kind, routing=RoutingKey(topic))


def heard(coordinator: RedisMessageCoordinator, published: AgentMessage) -> bool:
    """Whether WORKER gets what is published."""
    results = coordinator.publish(SENDER, published)
    received = coordinator.receive(WORKER)
    assert len(results) == (received is not None)
    return received is not None


TOPICS: list[tuple[tuple[str, ...], str | None, bool]] = [
    ((), None, True),
    ((), "anything", True),
    (("news",), "news", True),
    (("news",), "News", False),
    (("news",), "news.weather", False),
    (("news",), None, False),
    (("news", "sport"), "sport", True),
    (("news.*",), "news.weather", True),
    (("news.*",), "news.", True),
    (("news.*",), "news", False),
    (("*",), "anything", True),
    (("*",), "", True),
    (("*",), None, False),
    (("n*s",), "news", False),
    (("n*s",), "n*s", True),
    (("n[ae]ws", "n?ws", "n.ws"), "news", False),
    (("",), "", True),
    (("",), "news", False),
    (("žluť 😀\0'\"",), "žluť 😀\0'\"", True),
    (("\ud800",), "\ud800", True),
]


def test_a_subscription_matches_a_topic_or_all_that_begin_alike(
    coordinator: RedisMessageCoordinator,
) -> None:
    for topics, topic, matches in TOPICS:
        subscription = coordinator.subscribe_to_messages(WORKER, [EVENT], topics=topics)
        assert heard(coordinator, about(topic)) is matches, (topics, topic)
        coordinator.unsubscribe(subscription)


@pytest.mark.parametrize("wanted", [[EVENT], [REQUEST, RESPONSE], list(MessageType)])
def test_a_subscription_matches_its_types_only(
    coordinator: RedisMessageCoordinator, wanted: list[MessageType]
) -> None:
    coordinator.subscribe_to_messages(WORKER, wanted)
    for kind in MessageType:
        assert heard(coordinator, about(None, kind)) is (kind in wanted)


def test_every_subscriber_gets_one_copy_however_many_subscriptions_match(
    coordinator: RedisMessageCoordinator,
) -> None:
    for agent_id in (TWO, WORKER, ONE):
        coordinator.subscribe_to_messages(agent_id, [EVENT])
        coordinator.subscribe_to_messages(agent_id, [EVENT, REQUEST], topics=["news", "n*"])

    results = coordinator.publish(SENDER, about("news"))

    assert [result.delivered for result in results] == [True] * 3
    assert not any(result.duplicate for result in results)
    for agent_id in (WORKER, ONE, TWO):
        [received] = coordinator.receive_many(agent_id, 10)
        assert (received.message.sender, received.message.recipient) == (SENDER, agent_id)


def test_nobody_listens_and_nothing_is_stored(coordinator: RedisMessageCoordinator) -> None:
    assert coordinator.publish(SENDER, message()) == []
    assert coordinator.receive(WORKER) is None


def test_a_subscription_outlives_the_one_who_made_it(make: Make) -> None:
    with make() as first:
        subscription = first.subscribe_to_messages(WORKER, [EVENT], topics=["b", "a"])
    second = make()
    assert heard(second, about("a"))
    second.unsubscribe(subscription)
    assert not heard(second, about("a"))


def test_subscribing_again_changes_nothing_and_unsubscribing_ends_it(
    coordinator: RedisMessageCoordinator,
) -> None:
    first = coordinator.subscribe_to_messages(WORKER, [EVENT, REQUEST], topics=["a", "b"])
    again = coordinator.subscribe_to_messages(WORKER, iter([REQUEST, EVENT]), topics=["b", "a"])
    other = coordinator.subscribe_to_messages(WORKER, [EVENT])

    assert first.subscription_id == again.subscription_id
    assert first.agent_id == WORKER
    assert set(first.message_types) == {EVENT, REQUEST}
    assert set(first.topics) == {"a", "b"}
    assert other.subscription_id != first.subscription_id
    coordinator.unsubscribe(other)
    assert heard(coordinator, about("a"))
    coordinator.unsubscribe(again)
    coordinator.unsubscribe(first)
    assert not heard(coordinator, about("a"))


def test_a_withdrawn_subscription_leaves_what_is_in_the_inbox(
    coordinator: RedisMessageCoordinator,
) -> None:
    subscription = coordinator.subscribe_to_messages(WORKER, [EVENT])
    coordinator.publish(SENDER, message(1))
    coordinator.unsubscribe(subscription)
    assert drain(coordinator) == [1]


def test_publishing_the_same_message_again_stores_nothing(
    coordinator: RedisMessageCoordinator,
) -> None:
    coordinator.subscribe_to_messages(WORKER, [EVENT])
    published = message(1)
    coordinator.publish(SENDER, published)
    [again] = coordinator.publish(SENDER, published)
    assert again.delivered
    assert again.duplicate
    assert drain(coordinator) == [1]


def test_eight_agents_subscribe_at_once_and_all_are_heard(
    coordinator: RedisMessageCoordinator,
) -> None:
    agents = [AgentId("worker", str(n)) for n in range(8)]
    together(8, lambda n: coordinator.subscribe_to_messages(agents[n], [EVENT]))
    assert len(coordinator.publish(SENDER, message())) == 8


GARBAGE = [
    b"",
    b"\xff\0",
    b"null",
    b"[]",
    b"{}",
    b'{"id":"x","agent":"worker","types":["event"],"topics":[1]}',
    b'{"id":"x","agent":"worker","types":["event"],"topics":"abc"}',
    b'{"id":"x","agent":"worker","types":["gossip"],"topics":[]}',
    b'{"id":"x","agent":"a b","types":["event"],"topics":[]}',
    b'{"id":"x","agent":5,"types":["event"],"topics":[]}',
    b"[" * 10_000,
]


def test_subscriptions_that_do_not_decode_are_passed_over_and_logged(
    coordinator: RedisMessageCoordinator,
    client: Client,
    key_prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    coordinator.subscribe_to_messages(ONE, [EVENT])
    stored = {f"garbage-{number}": garbage for number, garbage in enumerate(GARBAGE)}
    client.hset(Keys(key_prefix).subscriptions, mapping=stored)
    subscriptions._decode.cache_clear()  # another test may have met the same
    with caplog.at_level(logging.WARNING, logger="tta_agent_coordination"):
        assert len(coordinator.publish(SENDER, message(1))) == 1
        coordinator.publish(SENDER, message(2))
    assert drain(coordinator, ONE) == [1, 2]
    assert len(caplog.messages) == len(GARBAGE), "each once, however often it is met"


@pytest.mark.parametrize(
    ("types", "topics", "error"),
    [
        ([], (), ValueError),
        (["gossip"], (), ValueError),
        ("event", (), TypeError),
        (None, (), TypeError),
        ([EVENT], "news", TypeError),
        ([EVENT], [1], TypeError),
        ([EVENT], None, TypeError),
    ],
)
@pytest.mark.guarantee("2.11")
def test_a_wrong_wish_is_refused(
    coordinator: RedisMessageCoordinator, types: Any, topics: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        coordinator.subscribe_to_messages(WORKER, types, topics=topics)
    assert coordinator.publish(SENDER, message()) == []


@pytest.mark.guarantee("2.11")
def test_a_name_of_a_type_will_do(coordinator: RedisMessageCoordinator) -> None:
    wish: list[Any] = ["request"]
    subscription = coordinator.subscribe_to_messages(WORKER, wish)
    assert subscription == MessageSubscription(subscription.subscription_id, WORKER, (REQUEST,))
