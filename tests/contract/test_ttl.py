"""Messages with a time to live die when it is over and they were not handed out."""

import pytest

from tests.contract.conftest import Later
from tests.contract.given import SENDER, WORKER, drain, message, send, take
from tta_agent_coordination import LeaseOutcome, RedisMessageCoordinator

pytestmark = pytest.mark.guarantee("2.11")


def reasons(coordinator: RedisMessageCoordinator) -> list[str]:
    return [letter.reason for letter in coordinator.dead_letters(WORKER)]


def test_it_is_handed_out_in_time_and_dies_after_it(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    send(coordinator, 0, ttl=200)
    send(coordinator, 1, ttl=100)
    send(coordinator, 2)
    later(90)
    assert coordinator.stats(WORKER).ready[5] == 3
    later(11)
    assert drain(coordinator) == [0, 2]
    assert reasons(coordinator) == ["expired"]
    [letter] = coordinator.dead_letters(WORKER)
    assert letter.queue_message is not None
    assert letter.queue_message.delivery_attempts == 0


def test_no_time_to_live_is_over_at_once(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 0, ttl=0)
    assert coordinator.receive(WORKER) is None
    assert reasons(coordinator) == ["expired"]


def test_it_begins_when_the_delay_ends(coordinator: RedisMessageCoordinator, later: Later) -> None:
    coordinator.send_message(SENDER, WORKER, message(0, ttl=100), delay=100)
    later(190)
    assert drain(coordinator) == [0]


def test_one_that_was_handed_out_in_time_may_be_finished_later(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    send(coordinator, 0, ttl=10)
    received = take(coordinator, lease=100)
    later(50)
    assert coordinator.ack(WORKER, received.token) is LeaseOutcome.DONE
    assert reasons(coordinator) == []


def test_a_retry_that_comes_too_late_is_expired(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    send(coordinator, 0, ttl=10)
    coordinator.nack(WORKER, take(coordinator).token, error="first", delay=20)
    later(21)
    assert coordinator.receive(WORKER) is None
    assert reasons(coordinator) == ["expired"]
    [letter] = coordinator.dead_letters(WORKER)
    assert letter.queue_message is not None
    assert letter.queue_message.last_error == "first"
    assert letter.last_holder is not None


def test_any_number_of_expired_ones_hide_nothing_behind_them(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    coordinator.send_many(SENDER, [message(n, ttl=10) for n in range(1200)])
    send(coordinator, 9999)
    later(11)
    assert take(coordinator).message.payload == {"n": 9999}
    assert coordinator.stats(WORKER).dead == 1200


def test_an_expired_one_is_a_duplicate_within_the_window(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    sent = message(0, ttl=10)
    coordinator.send_message(SENDER, WORKER, sent)
    later(11)
    coordinator.receive(WORKER)
    assert coordinator.send_message(SENDER, WORKER, sent).duplicate
