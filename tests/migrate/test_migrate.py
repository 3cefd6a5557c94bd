"""What is moved, and how it is found in our inboxes."""

import json
from datetime import UTC, datetime

import pytest

from tests.migrate.conftest import Migrate
from tests.migrate.given import PLANNER, WORKER, dead_ids, drain, ids
from tests.migrate.old import SECOND, OldInbox, stored
from tests.support.raw_inbox import look
from tests.support.servers import Client
from tests.support.time_machine import let_pass
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    MessagePriority,
    MessageType,
    RedisMessageCoordinator,
    RoutingKey,
)

pytestmark = pytest.mark.backend("fakeredis", "valkey", "redis62")


def test_a_message_is_received_as_it_was_sent(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    raw = stored(
        "message-1",
        priority=9,
        attempts=2,
        error="Größe 0",
        sender={"type": "planner", "instance": "7"},
        message_type="request",
        payload={"file": "a.py", "nested": [1, {"ü": None}]},
        routing={"topic": "files.new", "tags": ["a", "b"]},
        timestamp="2020-05-06T07:08:09.123456",
    )
    old.schedule(raw, priority=9)

    report = migrate()

    [received] = drain(coordinator)
    assert received.message == AgentMessage(
        AgentId("planner", "7"),
        WORKER,
        {"file": "a.py", "nested": [1, {"ü": None}]},
        message_type=MessageType.REQUEST,
        priority=MessagePriority.HIGH,
        routing=RoutingKey("files.new", ("a", "b")),
        message_id="message-1",
        timestamp=datetime(2020, 5, 6, 7, 8, 9, 123456, UTC),
    )
    queued = received.queue_message
    assert (queued.delivery_attempts, queued.last_error) == (3, "Größe 0")
    assert queued.enqueued_at == datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert report.complete
    assert report.inboxes[0].ready == 1
    assert not old.client.exists(*old.message_keys)


def test_a_later_relative_of_the_format_is_read(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    old.schedule(stored("message-1", sender="planner:7", recipient=None))
    old.schedule(stored("message-2", sender="planner", recipient=None))
    old.schedule(stored("message-3", sender="planner:default", recipient=None))

    assert migrate().complete

    senders = [one.message.sender for one in drain(coordinator)]
    assert senders == [AgentId("planner", "7"), PLANNER, PLANNER]


def test_one_that_was_never_handed_out_is_stored_as_one_that_was_just_sent(
    old: OldInbox, migrate: Migrate, client: Client, key_prefix: str
) -> None:
    for number, fields in enumerate(({}, {"attempts": 1}, {"error": "it was busy"}), start=1):
        old.schedule(stored(f"message-{number}", **fields))

    assert migrate().complete

    found = look(client, key_prefix, WORKER)
    assert found.messages == {"message-1", "message-2", "message-3"}
    assert found.states == {"message-2", "message-3"}


def test_what_it_answers_is_kept(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    old.schedule(stored("message-1", correlation_id="question-1"))
    assert migrate().complete
    assert [one.message.correlation_id for one in drain(coordinator)] == ["question-1"]


def test_what_is_null_or_not_there_has_its_default(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    said = json.loads(stored("message-1", routing=None, priority=9))
    said |= {"priority": None, "delivery_attempts": None, "last_error": {"code": 1}}
    old.bury(json.dumps(said).encode())
    del said["message"]["priority"], said["priority"], said["delivery_attempts"]
    said["message"]["message_id"] = "message-2"
    old.bury(json.dumps(said).encode())

    assert migrate().complete

    first, second = (letter.queue_message for letter in coordinator.dead_letters(WORKER))
    assert first is not None
    assert second is not None
    assert (first.priority, second.priority) == (9, 5)
    assert (first.delivery_attempts, first.last_error) == (0, '{"code": 1}')
    assert first.message.routing == RoutingKey()


def test_instances_have_inboxes_of_their_own(
    client: Client, old_prefix: str, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    OldInbox(client, old_prefix, "worker:1").schedule(stored("message-1"))
    OldInbox(client, old_prefix, "worker:default").schedule(stored("message-2"))

    assert [one.inbox for one in migrate().inboxes] == [WORKER, AgentId("worker", "1")]

    assert ids(drain(coordinator, AgentId("worker", "1"))) == ["message-1"]
    assert ids(drain(coordinator)) == ["message-2"]


def test_one_that_says_it_comes_from_the_future_came_now(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    old.schedule(stored("message-1", enqueued="2200-01-01T00:00:00Z"))

    migrate()

    oldest = coordinator.stats(WORKER).oldest_ready_age
    assert oldest is not None
    [received] = drain(coordinator)
    assert received.queue_message.enqueued_at < datetime(2200, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000])
def test_times_may_be_numbers(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator, unit: int
) -> None:
    moment = datetime(2020, 1, 2, 3, 4, 5, 500_000, UTC)
    old.schedule(stored("message-1", enqueued=moment.timestamp() * unit, timestamp=None))

    migrate()

    [received] = drain(coordinator)
    assert received.queue_message.enqueued_at == moment


def test_order_is_kept_within_a_priority(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    for number, (priority, due) in enumerate([(1, 5), (5, 7), (9, 9), (5, 6), (5, 6), (9, 8)]):
        old.schedule(stored(f"message-{number}", priority=priority), priority=priority, due=due)

    assert migrate().complete

    assert ids(drain(coordinator)) == [f"message-{one}" for one in (5, 2, 3, 4, 1, 0)]


def test_many_messages_are_moved_in_several_steps(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    raws = [stored(f"message-{number}") for number in range(1200)]
    old.client.zadd(old.scheduled[5], {raw: number for number, raw in enumerate(raws)})
    old.client.rpush(old.queue, *reversed(raws))
    old.client.rpush(old.dlq, *(stored(f"dead-{number}") for number in range(700)))

    report = migrate()

    assert report.complete
    assert (report.inboxes[0].ready, report.inboxes[0].dead) == (1200, 700)
    received = coordinator.receive_many(WORKER, 2000, 60.0)
    assert ids(received) == [f"message-{number}" for number in range(1200)]
    letters = coordinator.dead_letters(WORKER, limit=1000)
    assert dead_ids(letters) == [f"dead-{number}" for number in range(700)]


def test_what_is_migrated_goes_behind_what_is_there(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    coordinator.send_message(PLANNER, WORKER, AgentMessage(PLANNER, WORKER, message_id="newer-1"))
    old.schedule(stored("message-1"))

    migrate()

    assert ids(drain(coordinator)) == ["newer-1", "message-1"]


def test_the_priority_of_the_set_counts(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    old.schedule(stored("message-1", priority=5), priority=9)

    migrate()

    [received] = drain(coordinator)
    assert received.queue_message.priority is MessagePriority.HIGH


def test_a_delay_goes_on(
    old: OldInbox,
    migrate: Migrate,
    coordinator: RedisMessageCoordinator,
    client: Client,
    key_prefix: str,
) -> None:
    old.schedule(stored("later-2"), due=old.now() + 200 * SECOND)
    old.schedule(stored("later-1", attempts=1, error="no"), due=old.now() + 100 * SECOND)
    old.schedule(stored("never-1"), due=float("inf"))

    report = migrate()

    assert (report.inboxes[0].ready, report.inboxes[0].delayed) == (0, 3)
    assert not drain(coordinator)
    let_pass(client, key_prefix, WORKER, 99.0)
    assert not drain(coordinator)
    let_pass(client, key_prefix, WORKER, 1.0)
    [received] = drain(coordinator)
    assert received.message.message_id == "later-1"
    assert received.queue_message.delivery_attempts == 2
    assert received.queue_message.last_error == "no"
    let_pass(client, key_prefix, WORKER, 100.0)
    assert ids(drain(coordinator)) == ["later-1", "later-2"], "one lease is over as well"


def test_one_who_waits_is_woken(
    old: OldInbox, migrate: Migrate, client: Client, key_prefix: str
) -> None:
    old.schedule(stored("message-1"))
    migrate()
    assert "wake" in look(client, key_prefix, WORKER).keys


def test_dead_letters_keep_their_order_and_what_is_known_of_them(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    for number in (2, 1, 3):
        old.bury(stored(f"dead-{number}", priority=9, attempts=number, error=f"error {number}"))

    assert migrate().inboxes[0].dead == 3

    letters = coordinator.dead_letters(WORKER)
    assert dead_ids(letters) == ["dead-2", "dead-1", "dead-3"]
    first = letters[0]
    assert first.queue_message is not None
    assert (first.reason, first.last_holder) == ("permanent", None)
    assert first.queue_message.delivery_attempts == 2
    assert first.queue_message.last_error == "error 2"
    coordinator.replay_dead_letters(WORKER)
    assert [one.queue_message.priority for one in drain(coordinator)] == [9, 9, 9]


def test_dead_letters_go_behind_those_there_are(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    old.bury(stored("dead-1"))
    migrate()
    old.bury(stored("dead-2"))
    migrate()
    assert dead_ids(coordinator.dead_letters(WORKER)) == ["dead-1", "dead-2"]


def test_more_than_an_inbox_takes_is_moved_all_the_same(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    coordinator.configure(queue_size=1)
    old.schedule(stored("message-1"))
    old.schedule(stored("message-2"))

    report = migrate()

    assert report.inboxes[0].waiting == 2
    assert not report.inboxes[0].over_size
    refused = coordinator.send_message(PLANNER, WORKER, AgentMessage(PLANNER, WORKER))
    assert refused.error == "queue full"


def test_one_out_of_attempts_dies_when_its_turn_comes(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    old.schedule(stored("message-1", attempts=4, error="no"))

    assert migrate().complete

    assert not drain(coordinator)
    [letter] = coordinator.dead_letters(WORKER)
    assert letter.reason == "attempts_exhausted"


def test_recovery_knows_the_inbox(
    old: OldInbox, migrate: Migrate, client: Client, key_prefix: str
) -> None:
    old.schedule(stored("message-1"))
    migrate()
    assert client.zrange(f"{key_prefix}:inboxes", 0, -1) == [b"worker"]
