"""Broadcasting: one independent copy for each recipient."""

import pytest

from tests.contract.given import ONE, SENDER, TWO, WORKER, message, take
from tta_agent_coordination import AgentId, AgentMessage, LeaseOutcome, RedisMessageCoordinator

AGENTS = [AgentId("worker", str(n)) for n in range(12)]


@pytest.mark.guarantee("2.0")
def test_each_recipient_gets_a_copy_of_its_own(coordinator: RedisMessageCoordinator) -> None:
    sent = AgentMessage(AgentId("x"), AgentId("y"), {"n": 1})

    results = coordinator.broadcast_message(SENDER, sent, iter(AGENTS))

    assert [result.message_id for result in results] == [sent.message_id] * len(AGENTS)
    assert all(result.delivered and not result.duplicate for result in results)
    for agent_id in AGENTS:
        copy = take(coordinator, agent_id).message
        assert (copy.sender, copy.recipient, copy.payload) == (SENDER, agent_id, {"n": 1})


@pytest.mark.guarantee("2.0")
def test_the_answers_come_in_the_order_of_the_recipients(
    coordinator: RedisMessageCoordinator,
) -> None:
    coordinator.configure(queue_size=1)
    coordinator.send_message(SENDER, TWO, message())
    results = coordinator.broadcast_message(SENDER, message(), [WORKER, TWO, ONE, WORKER])
    assert [result.delivered for result in results] == [True, False, True, True]
    assert [result.error for result in results] == [None, "queue full", None, None]
    assert [result.duplicate for result in results] == [False, False, False, True]


@pytest.mark.guarantee("2.1")
def test_what_becomes_of_one_copy_is_nothing_to_the_others(
    coordinator: RedisMessageCoordinator,
) -> None:
    coordinator.broadcast_message(SENDER, message(), [ONE, TWO])
    first = take(coordinator, ONE)

    assert coordinator.ack(ONE, first.token) is LeaseOutcome.DONE
    assert coordinator.ack(TWO, first.token) is not LeaseOutcome.DONE

    assert coordinator.stats(ONE).leased == 0
    assert take(coordinator, TWO).queue_message.delivery_attempts == 1


@pytest.mark.guarantee("2.0")
def test_a_broadcast_to_nobody_is_no_error(coordinator: RedisMessageCoordinator) -> None:
    assert coordinator.broadcast_message(SENDER, message(), []) == []
