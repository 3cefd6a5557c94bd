"""Sending many messages in few round trips."""

from typing import Any

import pytest

from tests.contract.given import ONE, SENDER, TWO, WORKER, drain, message, send
from tests.support.backends import Backend
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    MessageResult,
    MessageTooLargeError,
    RedisMessageCoordinator,
)
from tta_agent_coordination.coordinator import outbox
from tta_agent_coordination.coordinator.outbox import Letter
from tta_agent_coordination.proxy import FaultProxy


@pytest.mark.guarantee("2.0")
def test_each_goes_to_its_own_recipient_from_the_sender_given(
    coordinator: RedisMessageCoordinator,
) -> None:
    messages = [AgentMessage(AgentId("x"), to, {"n": n}) for n, to in enumerate([ONE, TWO, ONE])]

    results = coordinator.send_many(SENDER, messages)

    assert results == [MessageResult(each.message_id, delivered=True) for each in messages]
    first = coordinator.receive_many(ONE, 10)
    assert [each.message.payload["n"] for each in first] == [0, 2]
    assert {each.message.sender for each in first} == {SENDER}
    assert drain(coordinator, TWO) == [1]


@pytest.mark.guarantee("2.2")
def test_those_to_one_inbox_keep_their_order_however_many_they_are(
    coordinator: RedisMessageCoordinator,
) -> None:
    inboxes = [WORKER, ONE, TWO]
    coordinator.send_many(SENDER, [message(n, to=inboxes[n % 3]) for n in range(750)])
    for place, inbox in enumerate(inboxes):
        assert drain(coordinator, inbox) == list(range(place, 750, 3))


@pytest.mark.guarantee("2.8")
def test_each_is_stored_or_not_by_itself(coordinator: RedisMessageCoordinator) -> None:
    coordinator.configure(queue_size=2)
    send(coordinator, 0)
    known = message(1, to=ONE)
    coordinator.send_message(SENDER, ONE, known)

    results = coordinator.send_many(SENDER, [message(2), known, message(3), message(4, to=TWO)])

    assert [result.delivered for result in results] == [True, True, False, True]
    assert [result.duplicate for result in results] == [False, True, False, False]
    assert [result.error for result in results] == [None, None, "queue full", None]
    assert drain(coordinator) == [0, 2]


@pytest.mark.guarantee("2.11")
def test_one_bad_message_among_many_and_none_is_sent(coordinator: RedisMessageCoordinator) -> None:
    coordinator.configure(max_message_bytes=1000)
    big = AgentMessage(SENDER, WORKER, {"x": "x" * 1000})
    for bad, error in ((big, MessageTooLargeError), ("message", TypeError), (None, TypeError)):
        with pytest.raises(error):
            coordinator.send_many(SENDER, [message(1), bad, message(2)])
    assert drain(coordinator) == []


@pytest.mark.guarantee("2.0")
def test_none_are_sent_when_none_are_given(coordinator: RedisMessageCoordinator) -> None:
    assert coordinator.send_many(SENDER, []) == []
    assert coordinator.send_many(SENDER, iter(())) == []


@pytest.mark.guarantee("2.3")
def test_more_bytes_than_fit_a_round_trip_arrive_whole(
    coordinator: RedisMessageCoordinator,
) -> None:
    big = "é" * 300_000  # 16 of them are more than two round trips take
    messages = [AgentMessage(SENDER, WORKER, {"n": n, "text": big}) for n in range(16)]

    assert all(result.delivered for result in coordinator.send_many(SENDER, messages))

    received = coordinator.receive_many(WORKER, 100, 60.0)
    assert [each.message for each in received] == messages


@pytest.mark.backend("valkey", "redis62")
@pytest.mark.guarantee("2.15")
def test_a_hundred_messages_to_several_inboxes_are_one_round_trip(
    backend: Backend, proxy: FaultProxy, key_prefix: str
) -> None:
    client = backend.client_through(proxy)
    inboxes = [AgentId("worker", str(n)) for n in range(4)]
    with RedisMessageCoordinator(client, key_prefix) as coordinator:
        coordinator.send_many(SENDER, [message(to=inbox) for inbox in inboxes])
        proxy.forget()
        coordinator.send_many(SENDER, [message(n, to=inboxes[n % 4]) for n in range(100)])
    assert [command.name for command in proxy.commands] == ["EVALSHA"] * len(inboxes)


# How many are sent together -------------------------------------------------------------------


def loads(*sizes: int, to: AgentId = WORKER, **fields: Any) -> list[list[list[int]]]:
    """The round trips in which messages of so many bytes are sent, with the scripts of each."""
    letters = [Letter(to, "message", b"x" * size, 5, 0.0, None, **fields) for size in sizes]
    return [[positions for _, positions in load] for load in outbox._loads(letters)]


@pytest.mark.guarantee("2.3")
def test_a_round_trip_takes_so_many_bytes_or_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_BYTES_A_ROUND_TRIP", 10)
    assert loads() == []
    assert loads(4, 6) == [[[0, 1]]]
    assert loads(4, 7, 3) == [[[0]], [[1, 2]]]
    assert loads(11) == [[[0]]]
    assert loads(11, 11, 1) == [[[0]], [[1]], [[2]]]
    assert loads(1, 9, 1, 9, 1) == [[[0, 1]], [[2, 3]], [[4]]]


@pytest.mark.guarantee("2.3")
def test_a_script_takes_a_hundred_messages_or_one_dead_letter() -> None:
    assert loads(*[1] * 100) == [[[*range(100)]]]
    assert loads(*[1] * 101) == [[[*range(100)], [100]]]
    assert loads(1, 1, call="replay") == [[[0], [1]]]
