"""An inbox holds so many unfinished messages and not one more."""

import pytest

from tests.contract.conftest import Later, Make
from tests.contract.given import (
    FAILED,
    LONG,
    ONE,
    SENDER,
    TWO,
    WORKER,
    bury,
    drain,
    message,
    send,
    take,
    together,
)
from tta_agent_coordination import InboxStats, MessageResult, RedisMessageCoordinator

pytestmark = pytest.mark.guarantee("2.8")


def unfinished(stats: InboxStats) -> int:
    return sum(stats.ready.values()) + stats.delayed + stats.leased


def refused(coordinator: RedisMessageCoordinator) -> bool:
    """Whether one more message is refused; it is taken back if not."""
    more = message(999)
    before = coordinator.stats(WORKER)
    result = coordinator.send_message(SENDER, WORKER, more)
    if result.delivered:
        return False
    assert result == MessageResult(more.message_id, delivered=False, error="queue full")
    after = coordinator.stats(WORKER)
    assert (after.ready, after.delayed, after.leased) == (
        before.ready, before.delayed, before.leased,
    )  # fmt: skip
    return True


def test_one_more_than_the_limit_is_refused_and_not_stored(make: Make) -> None:
    coordinator = make(queue_size=3)
    send(coordinator, 0, 1, 2)
    assert refused(coordinator)
    assert drain(coordinator) == [0, 1, 2]


def test_ready_and_delayed_and_leased_count_together(make: Make) -> None:
    coordinator = make(queue_size=4)
    send(coordinator, 0, 1)
    take(coordinator)
    coordinator.nack(WORKER, take(coordinator).token, delay=100)
    send(coordinator, 2)
    assert coordinator.send_message(SENDER, WORKER, message(3), delay=100).delivered
    stats = coordinator.stats(WORKER)
    assert (sum(stats.ready.values()), stats.delayed, stats.leased) == (1, 2, 1)
    assert refused(coordinator)


def test_an_expired_lease_still_counts(make: Make, later: Later) -> None:
    coordinator = make(queue_size=1)
    send(coordinator, 0)
    take(coordinator, lease=10)
    later(11)
    assert refused(coordinator)
    coordinator.recover_pending(WORKER)
    assert refused(coordinator)


def test_what_is_finished_makes_room(make: Make) -> None:
    coordinator = make(queue_size=2)
    send(coordinator, 0, 1)
    assert refused(coordinator)
    coordinator.ack(WORKER, take(coordinator).token)
    send(coordinator, 2)
    assert refused(coordinator)
    coordinator.nack(WORKER, take(coordinator).token, FAILED)
    send(coordinator, 3)
    assert refused(coordinator)
    coordinator.purge(WORKER)
    send(coordinator, 4, 5)
    assert refused(coordinator)


def test_the_limit_is_that_of_each_inbox(make: Make) -> None:
    coordinator = make(queue_size=1)
    for inbox in (WORKER, ONE, TWO):
        send(coordinator, 0, to=inbox)
    assert refused(coordinator)


def test_what_is_in_the_inbox_may_always_come_back(make: Make, later: Later) -> None:
    coordinator = make(queue_size=3)
    send(coordinator, 0, 1, 2)
    first, second, _ = coordinator.receive_many(WORKER, 3, 10)
    assert coordinator.release(WORKER, first.token)
    assert coordinator.nack(WORKER, second.token, delay=5)
    later(11)
    assert coordinator.recover_pending(WORKER) == 1
    assert drain(coordinator) == [0, 1, 2]
    assert coordinator.stats(WORKER).dead == 0


def test_a_repetition_of_what_is_there_is_not_refused(make: Make) -> None:
    coordinator = make(queue_size=1)
    first = message(0)
    coordinator.send_message(SENDER, WORKER, first)
    again = coordinator.send_message(SENDER, WORKER, first)
    assert again == MessageResult(first.message_id, delivered=True, duplicate=True)


def test_the_default_limit_is_ten_thousand(coordinator: RedisMessageCoordinator) -> None:
    results = coordinator.send_many(SENDER, [message(n) for n in range(10_001)])
    assert [n for n, result in enumerate(results) if not result.delivered] == [10_000]
    assert coordinator.stats(WORKER).ready[5] == 10_000


def test_a_lowered_limit_drops_nothing(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 0, 1, 2)
    coordinator.configure(queue_size=1)
    assert refused(coordinator)
    assert drain(coordinator) == [0, 1, 2]


def test_eight_senders_at_once_cannot_pass_the_limit(make: Make) -> None:
    senders = [make(queue_size=50) for _ in range(2)]

    def fill(index: int) -> int:
        sender = senders[index % 2]
        one_by_one = [
            sender.send_message(SENDER, WORKER, message(index), delay=index % 3) for _ in range(10)
        ]
        together = sender.send_many(SENDER, [message(index) for _ in range(10)])
        return sum(result.delivered for result in one_by_one + together)

    stored = together(8, fill)

    assert sum(stored) == 50
    assert unfinished(senders[0].stats(WORKER)) == 50


def test_the_limit_holds_while_messages_are_taken_and_finished(make: Make) -> None:
    coordinator = make(queue_size=20, backoff_base=0, retry_attempts=100)
    most: list[int] = []

    def work(index: int) -> None:
        for turn in range(30):
            if index < 4:
                coordinator.send_message(SENDER, WORKER, message(turn))
            elif received := coordinator.receive(WORKER, LONG):
                (coordinator.ack, coordinator.release, coordinator.nack)[turn % 3](
                    WORKER, received.token
                )
            most.append(unfinished(coordinator.stats(WORKER)))

    together(8, work)

    assert max(most) <= 20


def test_replayed_dead_letters_keep_to_the_limit(make: Make) -> None:
    coordinator = make(queue_size=2)
    bury(coordinator, 0, 1, 2)
    send(coordinator, 3)
    assert coordinator.replay_dead_letters(WORKER) == 1
    assert unfinished(coordinator.stats(WORKER)) == 2
    assert coordinator.stats(WORKER).dead == 2
    assert coordinator.replay_dead_letters(WORKER, to=ONE) == 2
    assert coordinator.stats(WORKER).dead == 0
    assert drain(coordinator) == [3, 0]
