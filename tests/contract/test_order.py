"""The order of handing out: priority first, then the order of sending, also for what comes back."""

import pytest

from tests.contract.conftest import Later
from tests.contract.given import FAILED, LONG, SENDER, WORKER, bury, drain, message, send, take
from tests.support.servers import Client
from tta_agent_coordination import FailureType, MessagePriority, RedisMessageCoordinator
from tta_agent_coordination.keys import Keys

LOW, NORMAL, HIGH = MessagePriority

pytestmark = pytest.mark.guarantee("2.2")


def test_high_before_normal_before_low_and_first_come_first_served(
    coordinator: RedisMessageCoordinator,
) -> None:
    for number, priority in enumerate([LOW, NORMAL, HIGH, LOW, NORMAL, HIGH]):
        send(coordinator, number, priority=priority)
    assert drain(coordinator) == [2, 5, 1, 4, 0, 3]


def test_one_at_a_time_gives_the_same_order(coordinator: RedisMessageCoordinator) -> None:
    for number, priority in enumerate([NORMAL, LOW, HIGH, NORMAL]):
        send(coordinator, number, priority=priority)
    order: list[int] = []
    while received := coordinator.receive(WORKER):
        order.append(received.message.payload["n"])
        coordinator.ack(WORKER, received.token)
    assert order == [2, 0, 3, 1]


def test_a_late_message_of_high_priority_overtakes_those_that_wait(
    coordinator: RedisMessageCoordinator,
) -> None:
    send(coordinator, *range(5))
    send(coordinator, 99, priority=HIGH)
    assert drain(coordinator) == [99, 0, 1, 2, 3, 4]


def test_what_is_released_takes_its_original_place(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 0, 1, 2, 3)
    taken = coordinator.receive_many(WORKER, 3, LONG)
    for received in reversed(taken):
        coordinator.release(WORKER, received.token)
    assert drain(coordinator) == [0, 1, 2, 3]


def test_what_is_retried_takes_its_original_place(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 0, 1, 2, 3)
    taken = coordinator.receive_many(WORKER, 3, LONG)
    for received in (taken[1], taken[2], taken[0]):
        coordinator.nack(WORKER, received.token, FailureType.TRANSIENT, delay=0)
    assert drain(coordinator) == [0, 1, 2, 3]


def test_a_retry_after_its_back_off_takes_its_original_place(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    send(coordinator, 0, 1)
    coordinator.nack(WORKER, take(coordinator).token, delay=50)
    send(coordinator, 2)
    later(51)
    assert drain(coordinator) == [0, 1, 2]


def test_what_expired_takes_its_original_place(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    send(coordinator, 0, 1, 2, 3)
    send(coordinator, 4, priority=HIGH)
    take(coordinator, lease=30)  # 4
    coordinator.receive_many(WORKER, 2, 10)
    later(31)
    assert drain(coordinator) == [4, 0, 1, 2, 3]


def test_what_recovery_moved_back_takes_its_original_place(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    send(coordinator, *range(250))
    coordinator.receive_many(WORKER, 240, 10)
    later(11)
    assert coordinator.recover_pending(WORKER) == 240
    assert drain(coordinator) == list(range(250))


def test_a_delayed_message_takes_the_place_of_the_time_it_was_sent(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    coordinator.send_message(SENDER, WORKER, message(0), delay=5)
    send(coordinator, 1)
    later(6)
    assert drain(coordinator) == [0, 1]


def test_the_order_holds_for_more_messages_than_a_step_moves(
    coordinator: RedisMessageCoordinator,
) -> None:
    send(coordinator, *range(350), priority=LOW)
    send(coordinator, *range(1000, 1350))
    assert drain(coordinator) == [*range(1000, 1350), *range(350)]


def test_after_the_inbox_was_empty_order_begins_anew(coordinator: RedisMessageCoordinator) -> None:
    for _ in range(2):
        send(coordinator, 0, 1, 2)
        for expected in range(3):
            received = take(coordinator)
            assert received.message.payload == {"n": expected}
            coordinator.ack(WORKER, received.token)


def test_order_is_exact_after_as_many_messages_as_anybody_ever_sends(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str
) -> None:
    client.set(Keys(key_prefix).inbox(WORKER)["seq"], 2**48 - 10)
    for number, priority in enumerate([LOW, LOW, NORMAL, NORMAL, HIGH, HIGH]):
        send(coordinator, number, priority=priority)
    taken = coordinator.receive_many(WORKER, 6, LONG)
    for received in taken:
        coordinator.release(WORKER, received.token)
    assert drain(coordinator) == [4, 5, 2, 3, 0, 1]


@pytest.mark.parametrize("place", ["leased", "delayed"])
def test_priorities_hold_among_all_that_falls_due_together(
    coordinator: RedisMessageCoordinator, later: Later, client: Client, key_prefix: str, place: str
) -> None:
    send(coordinator, *range(2500), priority=LOW)
    coordinator.receive_many(WORKER, 2500, 10)
    send(coordinator, 9999, priority=HIGH)
    take(coordinator, lease=11)
    if place == "delayed":
        names = Keys(key_prefix).inbox(WORKER)
        client.rename(names["leased"], names["delayed"])
    later(12)
    assert drain(coordinator) == [9999, *range(999)]


def test_a_replayed_dead_letter_goes_to_the_end_of_its_priority(
    coordinator: RedisMessageCoordinator,
) -> None:
    bury(coordinator, 0, priority=HIGH)
    bury(coordinator, 1)
    send(coordinator, 2, priority=HIGH)
    send(coordinator, 3)
    assert coordinator.replay_dead_letters(WORKER) == 2
    assert drain(coordinator) == [2, 0, 3, 1]


def test_a_message_in_the_dead_letters_holds_nobody_up(
    coordinator: RedisMessageCoordinator,
) -> None:
    send(coordinator, 0, 1, 2)
    coordinator.nack(WORKER, take(coordinator).token, FAILED)
    assert drain(coordinator) == [1, 2]


@pytest.mark.parametrize("zeros", [5, 8, 11])
def test_a_place_that_servers_print_in_short_is_kept_to_the_last_digit(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str, zeros: int
) -> None:
    """Some print 1125900000000000, say, as 1.1259e+15."""
    names = Keys(key_prefix).inbox(WORKER)
    normal = 4 * 2**48
    place = -(-normal // 10**zeros) * 10**zeros
    client.set(names["seq"], place - normal - 1)
    first, _ = send(coordinator, 1, 2)

    received = take(coordinator)
    state = client.hget(names["states"], first.message_id)
    assert state.startswith(b"%d 1 " % place)
    coordinator.release(WORKER, received.token)
    assert drain(coordinator) == [1, 2]
