"""What is finished leaves nothing but marks that vanish by themselves."""

from collections.abc import Callable

import pytest

from tests.contract.conftest import Later, Make, Raw
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
)
from tests.support.servers import Client
from tta_agent_coordination import RedisMessageCoordinator
from tta_agent_coordination.keys import Keys

pytestmark = pytest.mark.guarantee("2.14")

KeysLeft = Callable[[], set[str]]

MARKS = {"{worker}:marks", "{worker}:marks_old"}
INDEX = {"inboxes"}


def ends_acked(coordinator: RedisMessageCoordinator, _later: Later) -> None:
    while received := coordinator.receive_many(WORKER, 3, LONG):
        coordinator.ack_many(WORKER, [each.token for each in received])


def ends_after_retries(coordinator: RedisMessageCoordinator, later: Later) -> None:
    for received in coordinator.receive_many(WORKER, 5, LONG):
        coordinator.nack(WORKER, received.token, error="again")
    later(3)
    for received in coordinator.receive_many(WORKER, 5, LONG):
        coordinator.release(WORKER, received.token)
    coordinator.receive_many(WORKER, 5, 10)
    later(11)
    ends_acked(coordinator, later)


def ends_late(coordinator: RedisMessageCoordinator, later: Later) -> None:
    taken = coordinator.receive_many(WORKER, 100, 10)
    later(11)
    coordinator.recover_pending()
    coordinator.ack_many(WORKER, [each.token for each in taken])


def ends_purged(coordinator: RedisMessageCoordinator, _later: Later) -> None:
    coordinator.receive_many(WORKER, 5, LONG)
    coordinator.nack(WORKER, take(coordinator).token)
    coordinator.purge(WORKER)


def ends_dead_and_dropped(coordinator: RedisMessageCoordinator, later: Later) -> None:
    coordinator.configure(retry_attempts=0, dead_letter_limit=2)
    coordinator.nack(WORKER, take(coordinator).token, FAILED)
    coordinator.nack(WORKER, take(coordinator).token)
    coordinator.receive_many(WORKER, 4, 10)
    later(11)
    coordinator.recover_pending(WORKER)
    ends_acked(coordinator, later)
    coordinator.purge_dead_letters(WORKER)


def ends_dead_by_name(coordinator: RedisMessageCoordinator, _later: Later) -> None:
    for received in coordinator.receive_many(WORKER, 100, LONG):
        coordinator.nack(WORKER, received.token, FAILED)
    ids = [letter.message_id for letter in coordinator.dead_letters(WORKER)]
    coordinator.purge_dead_letters(WORKER, message_ids=ids)


def ends_elsewhere(coordinator: RedisMessageCoordinator, later: Later) -> None:
    for received in coordinator.receive_many(WORKER, 100, LONG):
        coordinator.nack(WORKER, received.token, FAILED)
    coordinator.replay_dead_letters(
        WORKER, message_ids=[coordinator.dead_letters(WORKER)[0].message_id]
    )
    ends_acked(coordinator, later)
    coordinator.replay_dead_letters(WORKER, to=ONE)
    coordinator.purge(ONE)


ENDS = [ends_acked, ends_after_retries, ends_late, ends_purged, ends_dead_and_dropped,
        ends_dead_by_name, ends_elsewhere]  # fmt: skip


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_what_is_finished_leaves_nothing_but_marks(
    make: Make,
    later: Later,
    keys_left: KeysLeft,
    client: Client,
    key_prefix: str,
    end: Callable[[RedisMessageCoordinator, Later], None],
) -> None:
    coordinator = make()
    send(coordinator, *range(12))

    end(coordinator, later)
    assert coordinator.receive(WORKER) is None
    assert coordinator.receive(WORKER, wait=0.01) is None

    left = {key for key in keys_left() if key.startswith("{worker}:")}
    assert left <= MARKS, left
    for key in keys_left():
        assert client.pttl(f"{key_prefix}:{key}") > 0, f"{key} is for ever"


def test_what_dies_while_it_is_recovered_leaves_nothing_but_its_letter(
    make: Make, later: Later, raw: Raw
) -> None:
    coordinator = make(retry_attempts=0)
    send(coordinator, 1)
    take(coordinator, lease=10)
    later(11)
    assert coordinator._inbox.recover_some(WORKER) == (1, -1, 0)
    assert raw().keys == {"dead", "dead_records", "marks"}


def test_what_is_taken_back_after_its_lease_has_passed_leaves_no_claim(
    coordinator: RedisMessageCoordinator, later: Later, raw: Raw
) -> None:
    first, second = send(coordinator, 1, 2)
    coordinator.receive_many(WORKER, 2, 10)
    later(11)
    coordinator.recover_pending(WORKER)
    for result in (first, second):
        assert coordinator._inbox.withdraw(WORKER, result.message_id).attempts == 1
    assert raw().keys == {"marks"}


@pytest.mark.parametrize("generations", [1, 2])
def test_a_replayed_message_that_is_purged_was_never_finished(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str, generations: int
) -> None:
    sent = message(1)
    coordinator.send_message(SENDER, WORKER, sent)
    coordinator.nack(WORKER, take(coordinator).token, FAILED)
    if generations == 2:
        client.pexpire(Keys(key_prefix).inbox(WORKER)["marks"], 59_000)
        send(coordinator, 2)
        coordinator.ack(WORKER, take(coordinator).token)
    coordinator.replay_dead_letters(WORKER)
    coordinator.purge(WORKER)

    assert not coordinator.send_message(SENDER, WORKER, sent).duplicate


def test_marks_are_small_and_one_for_each_message(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str
) -> None:
    send(coordinator, *range(50), headers={"long": "x" * 1000})
    for received in coordinator.receive_many(WORKER, 50, LONG):
        coordinator.ack(WORKER, received.token)
    marks = client.hgetall(Keys(key_prefix).inbox(WORKER)["marks"])
    assert len(marks) == 50
    assert all(len(field) + len(value) < 120 for field, value in marks.items())


def test_marks_live_for_two_windows_at_most(make: Make, client: Client, key_prefix: str) -> None:
    marks = Keys(key_prefix).inbox(WORKER)["marks"]
    for window, least in ((0, 60_000), (60, 60_000), (300, 300_000)):
        coordinator = make(dedup_window=window)
        send(coordinator, 1)
        coordinator.ack(WORKER, take(coordinator).token)
        assert least <= client.pttl(marks) <= 2 * least
        client.delete(marks)


def test_generations_of_marks_do_not_pile_up(
    make: Make, client: Client, key_prefix: str, keys_left: KeysLeft
) -> None:
    coordinator = make()
    names = Keys(key_prefix).inbox(WORKER)
    for number in range(6):
        send(coordinator, number)
        client.delete(names["marks_old"])  # its time is up by then
        coordinator.ack(WORKER, take(coordinator).token)
        client.pexpire(names["marks"], 59_000)
    assert keys_left() == MARKS | INDEX
    assert client.hlen(names["marks"]) == 1
    assert client.hlen(names["marks_old"]) == 1


def test_looking_at_an_inbox_stores_nothing(
    coordinator: RedisMessageCoordinator, keys_left: KeysLeft
) -> None:
    coordinator.receive(WORKER)
    coordinator.receive(WORKER, wait=0.02)
    coordinator.stats(WORKER)
    coordinator.recover_pending(WORKER)
    coordinator.recover_pending()
    coordinator.purge(WORKER)
    coordinator.dead_letters(WORKER)
    coordinator.purge_dead_letters(WORKER)
    coordinator.replay_dead_letters(WORKER, message_ids=["no-such"])
    for token in ("x", "0123456789abcdef:no-such-id"):
        for settle in (coordinator.ack, coordinator.nack, coordinator.release):
            settle(WORKER, token)
        coordinator.extend(WORKER, token, 1)
    assert keys_left() <= INDEX


def test_a_withdrawn_subscription_leaves_nothing(
    coordinator: RedisMessageCoordinator, keys_left: KeysLeft
) -> None:
    subscription = coordinator.subscribe_to_messages(WORKER, ["event"], topics=["a"])
    assert keys_left() == {"subscriptions"}
    coordinator.unsubscribe(subscription)
    assert keys_left() == set()


def test_no_wake_up_is_left_where_nothing_is_unfinished(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str
) -> None:
    wake = Keys(key_prefix).inbox(WORKER)["wake"]
    send(coordinator, *range(3))
    assert client.zcard(wake) == 1, "one, however many messages there are"
    assert drain(coordinator) == [0, 1, 2]
    coordinator.purge(WORKER)
    assert not client.exists(wake)


def test_a_batch_that_was_settled_leaves_no_claim(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str, later: Later
) -> None:
    claims = Keys(key_prefix).inbox(WORKER)["claims"]
    coordinator.send_many(SENDER, [message(n) for n in range(40)])
    for _ in range(6):
        for received in coordinator.receive_many(WORKER, 5, 10):
            coordinator.release(WORKER, received.token)
        coordinator.receive_many(WORKER, 5, 10)
        later(11)
    coordinator.receive_many(WORKER, 5, 10)
    assert client.hlen(claims) <= 2


def test_dead_letters_and_messages_of_one_inbox_are_nothing_to_another(
    coordinator: RedisMessageCoordinator, keys_left: KeysLeft
) -> None:
    bury(coordinator, 0, to=TWO)
    send(coordinator, 1)
    ends_acked(coordinator, lambda *_: None)
    left = {key for key in keys_left() if key.startswith("{worker}:")}
    assert left <= MARKS
    assert coordinator.stats(TWO).dead == 1
