"""Dead letters: kept, capped, read, replayed and dropped."""

import logging
from collections.abc import Callable

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
)
from tests.support.servers import Client
from tta_agent_coordination import AgentId, DeadLetter, FailureType, RedisMessageCoordinator
from tta_agent_coordination.keys import Keys

pytestmark = pytest.mark.guarantee("2.6")


def told(letters: list[DeadLetter]) -> list[int]:
    return [each.queue_message.message.payload["n"] for each in letters if each.queue_message]


# Reading --------------------------------------------------------------------------------------


def test_they_are_read_the_oldest_first_in_pages(coordinator: RedisMessageCoordinator) -> None:
    bury(coordinator, *range(7))
    pages = [coordinator.dead_letters(WORKER, limit=3, offset=offset) for offset in (0, 3, 6, 9)]
    assert [told(page) for page in pages] == [[0, 1, 2], [3, 4, 5], [6], []]
    assert coordinator.dead_letters(WORKER, limit=0) == []
    assert told(coordinator.dead_letters(WORKER)) == list(range(7))


@pytest.mark.usefixtures("clock")
def test_those_that_die_in_one_microsecond_keep_their_order(
    coordinator: RedisMessageCoordinator,
) -> None:
    for number in range(3):  # ids in the other order than that of their deaths
        coordinator.send_message(SENDER, WORKER, message(number, message_id=f"id-{9 - number}-ab"))
        assert coordinator.nack(WORKER, take(coordinator).token, FailureType.PERMANENT)

    assert told(coordinator.dead_letters(WORKER)) == [0, 1, 2]


def test_a_hundred_are_read_unless_more_are_asked_for(
    coordinator: RedisMessageCoordinator,
) -> None:
    bury(coordinator, *range(105))
    assert told(coordinator.dead_letters(WORKER)) == list(range(100))
    assert told(coordinator.dead_letters(WORKER, limit=1000)) == list(range(105))


def test_reading_changes_nothing(coordinator: RedisMessageCoordinator) -> None:
    bury(coordinator, 0, 1)
    assert coordinator.dead_letters(WORKER) == coordinator.dead_letters(WORKER)
    assert coordinator.stats(WORKER).dead == 2


def test_each_inbox_has_its_own(coordinator: RedisMessageCoordinator) -> None:
    bury(coordinator, 0, to=ONE)
    bury(coordinator, 1, to=TWO)
    assert told(coordinator.dead_letters(ONE)) == [0]
    assert told(coordinator.dead_letters(TWO)) == [1]
    assert coordinator.dead_letters(WORKER) == []


def test_nobody_held_what_expired_before_it_was_handed_out(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    send(coordinator, 0, ttl=5)
    later(6)
    coordinator.receive(WORKER)
    [letter] = coordinator.dead_letters(WORKER)
    assert letter.last_holder is None


# Their order ----------------------------------------------------------------------------------


def die_of_leases(coordinator: RedisMessageCoordinator, later: Later) -> None:
    send(coordinator, *range(20))
    coordinator.receive_many(WORKER, 20, 10)
    later(11)
    coordinator.recover_pending(WORKER)


def die_of_leases_of_any_order(coordinator: RedisMessageCoordinator, later: Later) -> None:
    send(coordinator, *range(20))
    for place, received in enumerate(coordinator.receive_many(WORKER, 20, LONG)):
        coordinator.extend(WORKER, received.token, 30 - place)
    later(31)
    coordinator.receive(WORKER)


def die_of_age(coordinator: RedisMessageCoordinator, later: Later) -> None:
    send(coordinator, *range(20), ttl=5)
    later(6)
    coordinator.receive(WORKER)


def die_of_attempts(coordinator: RedisMessageCoordinator, later: Later) -> None:
    coordinator.configure(retry_attempts=1)
    send(coordinator, *range(20))
    coordinator.receive_many(WORKER, 20, 10)
    later(11)
    coordinator.configure(retry_attempts=0)
    coordinator.receive(WORKER)


WAYS = pytest.mark.parametrize(
    "die", [die_of_leases, die_of_leases_of_any_order, die_of_age, die_of_attempts]
)
Die = Callable[[RedisMessageCoordinator, Later], None]


@pytest.mark.guarantee("2.2")
@WAYS
def test_those_that_die_in_one_step_keep_the_order_of_sending(
    make: Make, later: Later, die: Die
) -> None:
    coordinator = make(retry_attempts=0)
    die(coordinator, later)
    assert told(coordinator.dead_letters(WORKER)) == list(range(20))
    assert coordinator.replay_dead_letters(WORKER) == 20
    assert drain(coordinator) == list(range(20))


@pytest.mark.guarantee("2.14")
@WAYS
def test_of_those_that_die_in_one_step_the_oldest_are_dropped(
    make: Make, later: Later, die: Die
) -> None:
    coordinator = make(retry_attempts=0, dead_letter_limit=3)
    die(coordinator, later)
    assert told(coordinator.dead_letters(WORKER)) == [17, 18, 19]


def test_one_that_dies_after_the_clock_was_set_back_is_the_newest(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str
) -> None:
    bury(coordinator, 0)
    dead = Keys(key_prefix).inbox(WORKER)["dead"]
    for name, died_at in client.zrange(dead, 0, -1, withscores=True):
        client.zadd(dead, {name: died_at + 3_600_000_000})
    bury(coordinator, 1, 2)
    assert told(coordinator.dead_letters(WORKER)) == [0, 1, 2]


# The cap --------------------------------------------------------------------------------------


@pytest.mark.guarantee("2.14")
def test_when_there_are_too_many_the_oldest_are_dropped_and_counted_and_logged(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    coordinator = make(dead_letter_limit=3)
    with caplog.at_level(logging.WARNING, logger="tta_agent_coordination"):
        bury(coordinator, *range(3))
        assert not [each for each in caplog.messages if "dropped" in each]
        bury(coordinator, 3, 4)
    assert told(coordinator.dead_letters(WORKER)) == [2, 3, 4]
    stats = coordinator.stats(WORKER)
    assert (stats.dead, stats.dead_dropped) == (3, 2)
    [first, second] = [each for each in caplog.messages if "dropped" in each]
    assert "worker" in first
    assert "1" in second


@pytest.mark.guarantee("2.14")
@pytest.mark.parametrize("way", ["receive", "recover"])
def test_the_cap_holds_for_what_dies_of_its_lease(make: Make, later: Later, way: str) -> None:
    coordinator = make(dead_letter_limit=5, retry_attempts=0)
    send(coordinator, *range(30))
    coordinator.receive_many(WORKER, 30, 10)
    later(11)
    if way == "receive":
        assert coordinator.receive(WORKER) is None
    else:
        assert coordinator.recover_pending(WORKER) == 30
    stats = coordinator.stats(WORKER)
    assert (stats.dead, stats.dead_dropped) == (5, 25)


@pytest.mark.guarantee("2.14")
def test_a_lowered_cap_is_reached_at_the_next_death(coordinator: RedisMessageCoordinator) -> None:
    bury(coordinator, *range(8))
    coordinator.configure(dead_letter_limit=2)
    assert coordinator.stats(WORKER).dead == 8
    bury(coordinator, 8)
    assert told(coordinator.dead_letters(WORKER)) == [7, 8]
    assert coordinator.stats(WORKER).dead_dropped == 7


@pytest.mark.guarantee("2.14")
def test_ten_thousand_are_kept_by_default(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str
) -> None:
    names = Keys(key_prefix).inbox(WORKER)
    old = {f"old-{number}": number for number in range(10_000)}
    client.zadd(names["dead"], old)
    bury(coordinator, 0)
    stats = coordinator.stats(WORKER)
    assert (stats.dead, stats.dead_dropped) == (10_000, 1)


def test_a_death_is_logged(
    coordinator: RedisMessageCoordinator, caplog: pytest.LogCaptureFixture
) -> None:
    [result] = send(coordinator, 0)
    with caplog.at_level(logging.WARNING, logger="tta_agent_coordination"):
        coordinator.nack(WORKER, take(coordinator).token, FAILED)
    [logged] = caplog.messages
    assert result.message_id in logged
    assert "permanent" in logged


# Replay ---------------------------------------------------------------------------------------


def test_a_replayed_message_is_as_if_sent_anew(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    send(coordinator, 0, headers={"a": "b"}, ttl=100)
    first = take(coordinator)
    later(90)
    coordinator.nack(WORKER, first.token, FAILED, "gone")

    assert coordinator.replay_dead_letters(WORKER) == 1

    assert coordinator.dead_letters(WORKER) == []
    later(50)
    again = take(coordinator)
    assert again.message == first.message
    assert again.queue_message.delivery_attempts == 1
    assert again.queue_message.last_error is None
    assert coordinator.ack(WORKER, again.token)


@pytest.mark.parametrize("to", [None, ONE])
@pytest.mark.parametrize("names", [None, ["no-such-message"]])
def test_where_none_is_dead_none_is_replayed_and_no_inbox_is_listed_for_it(
    coordinator: RedisMessageCoordinator, names: list[str] | None, to: AgentId | None
) -> None:
    assert coordinator.replay_dead_letters(WORKER, message_ids=names, to=to) == 0
    assert coordinator.inboxes() == []


def test_a_replay_lists_the_inbox_again(
    coordinator: RedisMessageCoordinator, make: Make, client: Client, key_prefix: str
) -> None:
    bury(coordinator, 0)
    client.delete(Keys(key_prefix).inboxes)

    assert make().replay_dead_letters(WORKER) == 1

    assert coordinator.inboxes() == [WORKER]


def test_only_those_named_are_replayed(coordinator: RedisMessageCoordinator) -> None:
    bury(coordinator, *range(5))
    ids = [letter.message_id for letter in coordinator.dead_letters(WORKER)]
    chosen = [ids[3], "no-such-message", ids[1], ids[3]]
    assert coordinator.replay_dead_letters(WORKER, message_ids=chosen) == 2
    assert drain(coordinator) == [3, 1]
    assert told(coordinator.dead_letters(WORKER)) == [0, 2, 4]
    assert coordinator.replay_dead_letters(WORKER, message_ids=[]) == 0


def test_at_most_as_many_as_asked_for_are_replayed(coordinator: RedisMessageCoordinator) -> None:
    bury(coordinator, *range(5))
    assert coordinator.replay_dead_letters(WORKER, limit=0) == 0
    assert coordinator.replay_dead_letters(WORKER, limit=2) == 2
    assert drain(coordinator) == [0, 1]
    ids = [letter.message_id for letter in coordinator.dead_letters(WORKER)]
    assert coordinator.replay_dead_letters(WORKER, message_ids=ids, limit=1) == 1
    assert drain(coordinator) == [2]


@pytest.mark.parametrize("to", [None, ONE], ids=["here", "elsewhere"])
def test_a_limit_counts_what_is_moved(
    coordinator: RedisMessageCoordinator, to: AgentId | None
) -> None:
    bury(coordinator, *range(4))
    first, second, *_ = [letter.message_id for letter in coordinator.dead_letters(WORKER)]
    replay = coordinator.replay_dead_letters

    unknown = ["no-such-message", "nor-this-one"]
    assert replay(WORKER, message_ids=[*unknown, first], limit=1, to=to) == 1
    assert replay(WORKER, message_ids=[second, second, second], to=to) == 1
    assert replay(WORKER, message_ids=[first, second], limit=2, to=to) == 0
    assert told(coordinator.dead_letters(WORKER)) == [2, 3]
    assert drain(coordinator, to or WORKER) == [0, 1]


def test_those_that_stay_dead_do_not_count_against_a_limit(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str
) -> None:
    bury(coordinator, *range(8))
    names = Keys(key_prefix).inbox(WORKER)
    dead = [letter.message_id for letter in coordinator.dead_letters(WORKER)]
    for undecodable in (*dead[:3], dead[5]):
        client.hset(names["dead_records"], undecodable, b"permanent 1 1 1 - 1 -garbage")
    client.zadd(names["dead"], {f"stays-{number}": 0 for number in range(150)})

    assert coordinator.replay_dead_letters(WORKER, to=ONE, limit=3) == 3
    assert drain(coordinator, ONE) == [3, 4, 6]
    assert coordinator.replay_dead_letters(WORKER, to=ONE, limit=3) == 1
    assert drain(coordinator, ONE) == [7]


def test_many_are_replayed_in_their_order(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, *range(230))
    for received in coordinator.receive_many(WORKER, 230, LONG):
        coordinator.nack(WORKER, received.token, FAILED)
    assert coordinator.replay_dead_letters(WORKER) == 230
    assert drain(coordinator) == list(range(230))


def test_they_can_be_replayed_to_another_inbox(coordinator: RedisMessageCoordinator) -> None:
    bury(coordinator, *range(3))
    assert coordinator.replay_dead_letters(WORKER, to=ONE, limit=2) == 2
    assert told(coordinator.dead_letters(WORKER)) == [2]
    received = coordinator.receive_many(ONE, 10)
    assert [each.message.payload["n"] for each in received] == [0, 1]
    assert {each.message.recipient for each in received} == {ONE}
    assert {each.message.sender for each in received} == {SENDER}
    assert {each.queue_message.delivery_attempts for each in received} == {1}
    assert coordinator.receive(WORKER) is None


def test_one_over_the_limit_of_size_is_moved_like_the_others(
    coordinator: RedisMessageCoordinator,
) -> None:
    send(coordinator, 0, headers={"long": "x" * 5000})
    send(coordinator, 1)
    for received in coordinator.receive_many(WORKER, 2, LONG):
        coordinator.nack(WORKER, received.token, FAILED)
    coordinator.configure(max_message_bytes=1000)

    assert coordinator.replay_dead_letters(WORKER, to=AgentId("parking-lot")) == 2

    assert drain(coordinator, AgentId("parking-lot")) == [0, 1]


@pytest.mark.parametrize("bad", ['{"n":NaN}', '{"n":' + "[" * 600 + "]" * 600 + "}"])
def test_one_that_cannot_be_written_again_stays_and_stops_no_other(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str, bad: str
) -> None:
    bury(coordinator, 7, 1)
    records = Keys(key_prefix).inbox(WORKER)["dead_records"]
    first = coordinator.dead_letters(WORKER)[0].message_id
    record = client.hget(records, first)
    client.hset(records, first, record.replace(b'{"n":7}', bad.encode()))
    assert coordinator.dead_letters(WORKER)[0].queue_message is not None

    assert coordinator.replay_dead_letters(WORKER, to=ONE) == 1

    assert drain(coordinator, ONE) == [1]
    assert [letter.message_id for letter in coordinator.dead_letters(WORKER)] == [first]


def test_replay_to_the_same_inbox_is_replay(coordinator: RedisMessageCoordinator) -> None:
    bury(coordinator, 0)
    assert coordinator.replay_dead_letters(WORKER, to=AgentId("worker")) == 1
    assert drain(coordinator) == [0]


def test_where_there_is_no_room_they_stay_dead(make: Make) -> None:
    coordinator = make(queue_size=2)
    bury(coordinator, 0, 1, 2)
    send(coordinator, 9, to=ONE)
    assert coordinator.replay_dead_letters(WORKER, to=ONE) == 1
    assert told(coordinator.dead_letters(WORKER)) == [1, 2]
    assert drain(coordinator, ONE) == [9, 0]


def test_one_that_is_in_the_inbox_again_stays_dead(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    sent = message(0)
    coordinator.send_message(SENDER, WORKER, sent)
    coordinator.nack(WORKER, take(coordinator).token, FAILED)
    later(61)
    assert not coordinator.send_message(SENDER, WORKER, sent).duplicate
    assert coordinator.replay_dead_letters(WORKER) == 0
    assert coordinator.stats(WORKER).dead == 1
    assert drain(coordinator) == [0]


def test_a_message_can_die_and_be_replayed_many_times(
    coordinator: RedisMessageCoordinator,
) -> None:
    send(coordinator, 0)
    for number in range(5):
        coordinator.nack(WORKER, take(coordinator).token, FAILED, str(number))
        [letter] = coordinator.dead_letters(WORKER)
        assert letter.queue_message is not None
        assert letter.queue_message.last_error == str(number)
        assert coordinator.replay_dead_letters(WORKER) == 1
    assert drain(coordinator) == [0]


@pytest.mark.parametrize("to", [None, ONE], ids=["here", "elsewhere"])
@pytest.mark.parametrize("error", ["it broke: §1\nand more", "", None])
def test_one_that_expires_after_its_replay_is_dead_again_with_its_error(
    coordinator: RedisMessageCoordinator, later: Later, to: AgentId | None, error: str | None
) -> None:
    send(coordinator, 0, ttl=10)
    coordinator.nack(WORKER, take(coordinator).token, FAILED, error)
    later(60)
    inbox = to or WORKER

    for _ in range(2):
        assert coordinator.replay_dead_letters(WORKER, to=to) == 1
        later(9.5, inbox)
        assert sum(coordinator.stats(inbox).ready.values()) == 1
        later(1, inbox)
        assert coordinator.receive(inbox) is None

        [letter] = coordinator.dead_letters(inbox)
        assert (letter.reason, letter.queue_message and letter.queue_message.last_error) == (
            "expired",
            error,
        )
        if to:
            return


@pytest.mark.parametrize("to", [None, ONE], ids=["here", "elsewhere"])
def test_who_gets_a_replayed_message_is_told_no_old_error_and_a_new_one_replaces_it(
    coordinator: RedisMessageCoordinator, to: AgentId | None
) -> None:
    send(coordinator, 0)
    coordinator.nack(WORKER, take(coordinator).token, FAILED, "old")
    coordinator.replay_dead_letters(WORKER, to=to)
    inbox = to or WORKER

    again = take(coordinator, inbox)
    assert (again.queue_message.last_error, again.queue_message.delivery_attempts) == (None, 1)
    coordinator.nack(inbox, again.token, error="new", delay=0)
    third = take(coordinator, inbox)

    assert (third.queue_message.last_error, third.queue_message.delivery_attempts) == ("new", 2)
    coordinator.nack(inbox, third.token, FAILED)
    [letter] = coordinator.dead_letters(inbox)
    assert letter.queue_message is not None
    assert letter.queue_message.last_error == "new"


# Dropping -------------------------------------------------------------------------------------


def test_those_named_are_dropped_or_all(coordinator: RedisMessageCoordinator) -> None:
    bury(coordinator, *range(5))
    ids = [letter.message_id for letter in coordinator.dead_letters(WORKER)]
    chosen = [ids[0], ids[4], "no-such-message"]
    assert coordinator.purge_dead_letters(WORKER, message_ids=chosen) == 2
    assert coordinator.purge_dead_letters(WORKER, message_ids=[]) == 0
    assert told(coordinator.dead_letters(WORKER)) == [1, 2, 3]
    assert coordinator.purge_dead_letters(WORKER) == 3
    assert coordinator.purge_dead_letters(WORKER) == 0
    assert coordinator.dead_letters(WORKER) == []
    assert coordinator.stats(WORKER).dead == 0


def test_more_than_a_step_can_be_dropped_by_name(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, *range(230))
    for received in coordinator.receive_many(WORKER, 230, LONG):
        coordinator.nack(WORKER, received.token, FAILED)
    ids = [letter.message_id for letter in coordinator.dead_letters(WORKER, limit=225)]
    assert coordinator.purge_dead_letters(WORKER, message_ids=ids) == 225
    assert told(coordinator.dead_letters(WORKER)) == list(range(225, 230))


def test_dropping_dead_letters_leaves_the_inbox_alone(
    coordinator: RedisMessageCoordinator,
) -> None:
    bury(coordinator, 0)
    send(coordinator, 1, 2)
    take(coordinator)
    coordinator.purge_dead_letters(WORKER)
    stats = coordinator.stats(WORKER)
    assert (sum(stats.ready.values()), stats.leased, stats.dead) == (1, 1, 0)


def test_purging_the_inbox_leaves_the_dead_letters(coordinator: RedisMessageCoordinator) -> None:
    bury(coordinator, 0)
    send(coordinator, 1, 2, 3)
    take(coordinator)
    coordinator.nack(WORKER, take(coordinator).token, delay=100)
    assert coordinator.purge(WORKER) == 3
    assert coordinator.purge(WORKER) == 0
    stats = coordinator.stats(WORKER)
    assert (sum(stats.ready.values()), stats.delayed, stats.leased, stats.dead) == (0, 0, 0, 1)
