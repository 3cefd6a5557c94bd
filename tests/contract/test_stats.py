"""What `stats` counts."""

import pytest

from tests.contract.conftest import Later, Make
from tests.contract.given import SENDER, WORKER, bury, message, send, take
from tta_agent_coordination import InboxStats, MessagePriority, RedisMessageCoordinator

LOW, NORMAL, HIGH = MessagePriority

pytestmark = pytest.mark.guarantee("2.3")


def test_an_empty_inbox_has_nothing(coordinator: RedisMessageCoordinator) -> None:
    assert coordinator.stats(WORKER) == InboxStats({HIGH: 0, NORMAL: 0, LOW: 0}, 0, 0, 0, None)


def test_each_message_is_counted_once_where_it_is(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    bury(coordinator, 0)
    for priority, count in ((HIGH, 3), (NORMAL, 2), (LOW, 4)):
        send(coordinator, *range(count), priority=priority)
    coordinator.receive_many(WORKER, 2, 10)
    coordinator.send_message(SENDER, WORKER, message(), delay=50)
    stats = coordinator.stats(WORKER)
    assert stats.ready == {HIGH: 1, NORMAL: 2, LOW: 4}
    assert (stats.delayed, stats.leased, stats.dead, stats.dead_dropped) == (1, 2, 1, 0)
    later(11)
    assert coordinator.stats(WORKER).leased == 2, "nobody has met them yet"
    coordinator.recover_pending(WORKER)
    assert coordinator.stats(WORKER).ready == {HIGH: 3, NORMAL: 2, LOW: 4}


def test_the_age_is_that_of_the_oldest_message_that_is_ready(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    send(coordinator, 0)
    later(30)
    send(coordinator, 1, priority=HIGH)
    later(20)
    send(coordinator, 2, priority=LOW)
    assert coordinator.stats(WORKER).oldest_ready_age == pytest.approx(50, abs=2)
    take(coordinator)
    take(coordinator)
    assert coordinator.stats(WORKER).oldest_ready_age == pytest.approx(0, abs=2)
    take(coordinator)
    assert coordinator.stats(WORKER).oldest_ready_age is None


def test_a_purge_counts_all_that_was_unfinished(
    coordinator: RedisMessageCoordinator,
) -> None:
    send(coordinator, *range(5))
    take(coordinator)
    coordinator.nack(WORKER, take(coordinator).token)
    assert coordinator.purge(WORKER) == 5
    assert coordinator.receive(WORKER) is None
    send(coordinator, 7)
    assert take(coordinator).message.payload == {"n": 7}


def test_looking_changes_nothing_for_others(make: Make) -> None:
    send(make(), 0)
    first = make().stats(WORKER)
    second = make().stats(WORKER)
    assert (first.ready, first.leased) == (second.ready, second.leased)
