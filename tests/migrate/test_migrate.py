"""What is moved, and how it is found in our inboxes."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.migrate.conftest import Migrate
from tests.migrate.migrator import as_migrator
from tests.migrate.old import SECOND, OldInbox, stored
from tests.support.backends import Backend
from tests.support.raw_inbox import look
from tests.support.servers import Client
from tests.support.time_machine import let_pass
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    ConfigurationError,
    DeadLetter,
    MessagePriority,
    MessageType,
    ReceivedMessage,
    RedisMessageCoordinator,
    RoutingKey,
)
from tta_agent_coordination.migrate import InboxReport, Migration

pytestmark = pytest.mark.backend("fakeredis", "valkey", "redis62")

WORKER, PLANNER = AgentId("worker"), AgentId("planner")


def drain(coordinator: RedisMessageCoordinator, inbox: AgentId = WORKER) -> list[ReceivedMessage]:
    return coordinator.receive_many(inbox, 1000, 60.0)


def ids(received: list[ReceivedMessage]) -> list[str]:
    return [one.message.message_id for one in received]


def dead_ids(letters: list[DeadLetter]) -> list[str]:
    return [one.message_id for one in letters]


# What is kept ---------------------------------------------------------------------------------


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


# Leases, copies and strays --------------------------------------------------------------------


def test_a_lease_that_has_passed_is_taken_over_before_what_waits(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    old.schedule(stored("message-1"))
    old.reserve(stored("taken-2", attempts=1, enqueued="2020-01-02T00:00:02"), "t2", 1)
    old.reserve(stored("taken-1", attempts=1, enqueued="2020-01-02T00:00:01"), "t1", 2)

    report = migrate()

    assert report.complete
    assert report.inboxes[0].reserved == 2
    received = drain(coordinator)
    assert ids(received) == ["taken-1", "taken-2", "message-1"]
    assert received[0].queue_message.delivery_attempts == 2
    assert not old.client.exists(*old.message_keys)


@pytest.mark.parametrize("ahead", [60 * SECOND, None], ids=["deadline", "no-deadline"])
def test_a_lease_in_force_stays_until_the_old_application_is_stopped(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator, ahead: int | None
) -> None:
    old.reserve(stored("taken-1"), "t1", None if ahead is None else old.now() + ahead)

    first = migrate()
    assert (first.inboxes[0].held, first.complete) == (1, False)
    assert not drain(coordinator)
    assert old.client.hlen(old.taken) == 1

    last = migrate(final=True)
    assert (last.inboxes[0].reserved, last.complete) == (1, True)
    assert ids(drain(coordinator)) == ["taken-1"]
    assert not old.client.exists(*old.message_keys)


def test_what_an_old_consumer_finishes_meanwhile_stays_finished(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    old.schedule(stored("message-1"))
    taken = old.receive()
    assert taken is not None

    migrate()

    assert old.ack(*taken)
    assert migrate(final=True).complete
    assert not drain(coordinator)


def test_what_only_the_audit_list_has_stays_until_the_old_application_is_stopped(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    old.audit(stored("stray-2", enqueued="2020-01-02T00:00:02"))
    old.audit(stored("stray-1", attempts=1, enqueued="2020-01-02T00:00:01"))
    old.audit(stored("stray-1", attempts=2, error="no", enqueued="2020-01-02T00:00:01"))

    first = migrate()
    assert (first.inboxes[0].only_listed, first.inboxes[0].remaining) == (2, 3)
    assert not first.complete
    assert not drain(coordinator)

    last = migrate(final=True)
    assert (last.inboxes[0].stranded, last.inboxes[0].copies) == (2, 1)
    assert last.complete
    received = drain(coordinator)
    assert sorted(ids(received)) == ["stray-1", "stray-2"]
    assert {one.queue_message.delivery_attempts for one in received} == {1, 3}


def test_of_several_copies_one_is_moved_with_the_most_attempts(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    old.schedule(stored("message-1", attempts=1, error="first"))
    old.schedule(stored("message-1", attempts=2, error="second", enqueued=None))
    old.reserve(stored("message-1", attempts=0), "t1", 1)

    report = migrate()

    assert report.complete
    assert (report.inboxes[0].moved, report.inboxes[0].copies) == (1, 2)
    [received] = drain(coordinator)
    assert received.queue_message.delivery_attempts == 3
    assert received.queue_message.last_error == "second"
    assert not old.client.exists(*old.message_keys)


def test_one_that_was_being_buried_is_dead(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    raw = stored("message-1", attempts=3)
    old.bury(raw)
    old.reserve(raw, "t1", 1)

    assert migrate().complete

    assert dead_ids(coordinator.dead_letters(WORKER)) == ["message-1"]
    assert not drain(coordinator)


def test_one_that_was_being_replayed_is_ready(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    raw = stored("message-1", attempts=3)
    old.bury(raw)
    old.schedule(raw)

    assert migrate().complete

    assert ids(drain(coordinator)) == ["message-1"]
    assert not coordinator.dead_letters(WORKER)


def test_a_copy_that_turns_up_after_its_message_was_handled_is_dropped(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    """However long after: our own dedup window may be over by then."""
    coordinator.configure(dedup_window=0.0)
    raw = stored("message-1")
    old.reserve(raw, "t1", old.now() + 60 * SECOND)
    old.schedule(raw)
    migrate()
    [received] = drain(coordinator)
    assert coordinator.ack(WORKER, received.token)

    report = migrate(final=True)

    assert (report.inboxes[0].moved, report.inboxes[0].copies) == (0, 1)
    assert report.complete
    assert not drain(coordinator)


def test_a_copy_in_the_audit_list_is_known_from_an_earlier_run(
    old: OldInbox, migrate: Migrate
) -> None:
    old.audit(stored("stray-1"))
    old.schedule(stored("message-1"))
    migrate()
    old.audit(stored("message-1"))  # as if that run had been killed before it got there

    report = migrate()

    assert report.inboxes[0].only_listed == 1
    assert old.client.lrange(old.queue, 0, -1) == [stored("stray-1")]


def test_a_dead_letter_that_is_there_twice_is_moved_once(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    old.bury(stored("dead-1"))
    old.bury(stored("dead-1"))

    report = migrate()

    assert (report.inboxes[0].dead, report.complete) == (1, True)
    assert dead_ids(coordinator.dead_letters(WORKER)) == ["dead-1"]


def test_an_id_that_is_used_again_is_another_message(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    coordinator.configure(dedup_window=0.0)
    old.audit(stored("stray-1"))
    old.schedule(stored("daily-1"))
    migrate()
    [received] = drain(coordinator)
    coordinator.ack(WORKER, received.token)
    old.schedule(stored("daily-1", timestamp="2020-01-03T00:00:00"))

    migrate()

    assert ids(drain(coordinator)) == ["daily-1"]


def test_one_whose_id_our_inbox_has_from_elsewhere_is_left(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    for one in ("mine-1", "mine-2", "mine-3"):
        message = AgentMessage(PLANNER, WORKER, {"of": "us"}, message_id=one)
        coordinator.send_message(PLANNER, WORKER, message)
    done, dead, _ = drain(coordinator)
    coordinator.ack(WORKER, done.token)
    coordinator.nack(WORKER, dead.token, "permanent")
    old.schedule(stored("mine-1"))
    old.reserve(stored("mine-2"), "t2", 1)
    old.bury(stored("mine-3"))

    report = migrate(final=True)

    [inbox] = report.inboxes
    assert (inbox.moved, inbox.unreadable) == (0, 3)
    assert {fault.key for fault in inbox.faults} == {old.scheduled[5], old.taken, old.dlq}
    assert all("has a message of this id already" in fault.reason for fault in inbox.faults)
    assert (old.client.zcard(old.scheduled[5]), old.client.hlen(old.taken)) == (1, 1)
    assert old.client.lrange(old.dlq, 0, -1) == [stored("mine-3")]
    assert not report.complete


# What cannot be read --------------------------------------------------------------------------


UNREADABLE: dict[str, Any] = {
    "no JSON": (b"\xff{", "codec can't decode"),
    "nested too deep": (b"[" * 100_000, "recursion"),
    "no object": (b"[1]", "the stored form is no JSON object but [1] (list)"),
    "no message": (b"{}", "message is no JSON object but None"),
    "no time": (stored("message-1", timestamp=None, enqueued=None), "message has no timestamp"),
    "a time of another kind": (stored("message-1", timestamp=True), "timestamp is no time"),
    "a text that is no time": (stored("message-1", timestamp="today"), "isoformat"),
    "a time too late": (stored("message-1", enqueued=1e300), "enqueued_at is no time but 1e+300"),
    "a payload that is no object": (stored("message-1", payload=[1]), "payload must be a JSON"),
    "a payload with NaN": (stored("message-1", payload={"x": float("nan")}), "stored as JSON"),
    "an id too short": (stored("short"), "message_id must be 6 to 128 printable"),
    "an id that is a number": (stored("x", message_id=1234567), "message_id must be"),
    "no sender": (stored("message-1", sender=None), "sender is no JSON object but None"),
    "a sender with a space": (stored("message-1", sender="the planner"), "the type of an AgentId"),
    "an unknown type": (stored("message-1", message_type="letter"), "'letter' is not a valid"),
    "attempts below 0": (stored("message-1", attempts=-1), "delivery_attempts is no number"),
    "too many attempts": (stored("message-1", attempts=10**400), "delivery_attempts is no number"),
    "tags that are one text": (
        stored("message-1", routing={"topic": None, "tags": "ab"}),
        "tags must be a sequence",
    ),
    "too large": (stored("message-1", payload={"x": "y" * 2000}), "max_message_bytes is 1000"),
}


@pytest.mark.parametrize(("raw", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_left_where_it_is_and_listed(
    old: OldInbox, migrate: Migrate, raw: bytes, reason: str
) -> None:
    old.schedule(raw, due=3)
    old.reserve(raw, "t1", 1, audit=False)
    old.bury(raw)
    before = everything(old)

    report = migrate(final=True, max_message_bytes=1000)

    [inbox] = report.inboxes
    assert (inbox.moved, inbox.unreadable, inbox.remaining) == (0, 1, 4), "copies are listed once"
    [fault] = inbox.faults
    assert fault.key == old.scheduled[5]
    assert reason in fault.reason
    assert fault.excerpt
    assert len(fault.excerpt) < 600
    assert everything(old) == before
    assert not report.complete


def test_what_cannot_be_read_does_not_hold_up_the_rest(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    for number in range(120):
        old.schedule(b"%d" % number)
        old.bury(b"dead %d" % number)
        old.schedule(stored(f"message-{number:03}"), due=number)
        old.bury(stored(f"dead-{number:03}"))

    report = migrate()

    [inbox] = report.inboxes
    assert (inbox.ready, inbox.dead, inbox.unreadable) == (120, 120, 240)
    assert len(inbox.faults) == 100
    assert ids(drain(coordinator)) == [f"message-{number:03}" for number in range(120)]
    assert old.client.lrange(old.queue, 0, -1) == [b"%d" % number for number in range(120)]
    assert old.client.lrange(old.dlq, 0, -1) == [b"dead %d" % number for number in range(120)]


def test_keys_of_another_type_and_of_nobody_are_left_and_listed(
    client: Client, old: OldInbox, old_prefix: str, migrate: Migrate
) -> None:
    client.set(old.queue, "x")
    client.set(f"{old_prefix}:metrics", "x")
    client.set(f"{old_prefix}:queue:a b:default", "x")
    client.set(f"{old_prefix}:dlq:_reply:default", "x")
    client.set(f"{old_prefix}:dlq:two:many:parts", "x")
    client.set(f"{old_prefix}:sched:worker:default:prio:7", "x")
    client.set(f"{old_prefix}x:queue:other:default", "x")
    client.set(f"{old_prefix}:agents:worker:default", "x")
    client.sadd(f"{old_prefix}:agents:index", "worker:default")

    report = migrate()

    [inbox] = report.inboxes
    assert inbox.faults[0].reason == "the key is a string, not a list"
    reasons = {fault.key[len(old_prefix) + 1 :]: fault.reason for fault in report.others}
    assert reasons.pop("queue:a b:default").startswith("the type of an AgentId")
    assert reasons.pop("dlq:_reply:default") == "the type _reply is kept for replies"
    assert reasons == dict.fromkeys(
        ["metrics", "dlq:two:many:parts", "sched:worker:default:prio:7"], "no key of the layout"
    )
    assert (report.other_keys, report.agents, report.complete) == (5, 2, False)


def test_an_inbox_of_which_every_key_has_another_type_is_left(
    old: OldInbox, migrate: Migrate
) -> None:
    for key in (*old.message_keys, old.subs):
        old.client.set(key, "x")

    [inbox] = migrate(final=True).inboxes

    assert (inbox.moved, inbox.unreadable, inbox.remaining) == (0, 8, 0)
    assert {fault.key for fault in inbox.faults} == {*old.message_keys, old.subs}


def test_large_messages_are_moved_few_at_a_time(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    for number in range(5):
        old.schedule(stored(f"message-{number}", payload={"x": "y" * 500_000}), due=number)

    assert migrate().complete

    assert ids(drain(coordinator)) == [f"message-{number}" for number in range(5)]


def test_leases_without_readable_deadlines_are_left(old: OldInbox, migrate: Migrate) -> None:
    old.reserve(stored("taken-1"), "t1", None, audit=False)
    old.client.set(old.deadlines, "x")

    report = migrate(final=True)

    [fault] = report.inboxes[0].faults
    assert (fault.key, fault.reason) == (old.deadlines, "the key is a string, not a zset")
    assert old.client.hlen(old.taken) == 1


def test_a_prefix_is_taken_literally(client: Client, key_prefix: str) -> None:
    OldInbox(client, f"{key_prefix}-a[b]*?^\\").schedule(stored("message-1"))
    OldInbox(client, f"{key_prefix}-ab").schedule(stored("message-2"))

    with Migration(as_migrator(client), f"{key_prefix}-a[b]*?^\\", key_prefix) as migration:
        report = migration.run()

    assert [one.moved for one in report.inboxes] == [1]
    assert client.exists(OldInbox(client, f"{key_prefix}-ab").queue)


def test_both_may_have_the_same_prefix(
    client: Client, key_prefix: str, coordinator: RedisMessageCoordinator
) -> None:
    old = OldInbox(client, key_prefix)
    old.schedule(stored("message-1"))
    old.subscribe("event")
    for moved in (1, 0):
        with Migration(as_migrator(client), key_prefix, key_prefix) as migration:
            report = migration.run()
        assert [one.moved for one in report.inboxes] == [moved]
        assert report.complete
    assert ids(drain(coordinator)) == ["message-1"]


# Subscriptions --------------------------------------------------------------------------------


def test_subscriptions_are_copied_and_at_the_end_moved(
    old: OldInbox, migrate: Migrate, coordinator: RedisMessageCoordinator
) -> None:
    old.subscribe("event", "REQUEST", "unknown")

    reports = [migrate(), migrate()]

    assert [report.inboxes[0].subscriptions for report in reports] == [2, 2]
    assert old.client.scard(old.subs) == 3, "whoever publishes there needs them there"
    [result] = coordinator.publish(PLANNER, AgentMessage(PLANNER, PLANNER))
    assert result.delivered
    asked = AgentMessage(PLANNER, PLANNER, message_type=MessageType.RESPONSE)
    assert not coordinator.publish(PLANNER, asked)

    last = migrate(final=True)

    assert old.client.smembers(old.subs) == {b"unknown"}
    assert last.inboxes[0].faults[0].excerpt == "unknown"
    assert not last.complete


# Dry runs -------------------------------------------------------------------------------------


def everything(old: OldInbox) -> dict[bytes, bytes]:
    return {key: old.client.dump(key) for key in old.client.keys("*")}


def counts(report: InboxReport) -> tuple[int, ...]:
    return (
        *(report.ready, report.delayed, report.reserved, report.stranded, report.dead),
        *(report.copies, report.subscriptions, report.held, report.only_listed, report.unreadable),
    )


@pytest.mark.backend("valkey")
@pytest.mark.parametrize("final", [False, True])
def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    old: OldInbox, migrate: Migrate, final: bool
) -> None:
    fill(old)
    before = everything(old)

    dry = migrate(dry_run=True, final=final)

    assert everything(old) == before
    assert dry.dry_run
    real = migrate(final=final)
    assert counts(dry.inboxes[0]) == counts(real.inboxes[0])
    assert dry.complete == real.complete
    assert (dry.inboxes[0].remaining, dry.inboxes[0].waiting) == (None, None)


def fill(old: OldInbox) -> None:
    """Something of everything."""
    old.schedule(stored("message-1"))
    old.schedule(stored("message-1", attempts=1))
    old.schedule(stored("message-2"), due=old.now() + 60 * SECOND)
    old.reserve(stored("message-3"), "t3", 1)
    old.reserve(stored("message-4"), "t4", old.now() + 60 * SECOND)
    old.bury(stored("message-5"))
    old.bury(b"x")
    old.audit(stored("message-6"))
    old.subscribe("event")


# Servers --------------------------------------------------------------------------------------


@pytest.mark.backend("cluster")
def test_a_cluster_is_refused(backend: Backend, key_prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="migrate needs one server"):
        Migration(backend.client(), "ao", key_prefix)


@pytest.mark.backend("fakeredis")
def test_an_empty_prefix_is_refused(client: Client) -> None:
    with pytest.raises(ValueError, match="from_prefix must not be empty"):
        Migration(as_migrator(client), "")


def test_nothing_is_done_where_there_is_nothing(migrate: Migrate) -> None:
    report = migrate()
    assert (report.inboxes, report.agents, report.complete) == ((), 0, True)


@pytest.mark.backend("valkey")
def test_what_was_taken_is_forgotten_when_the_old_keys_are_gone(
    old: OldInbox, migrate: Migrate, client: Client, key_prefix: str
) -> None:
    journal = f"{key_prefix}:{{worker}}:migrated"
    old.schedule(stored("message-1"))
    old.audit(stored("message-2"))

    migrate()
    assert client.hlen(journal) == 1
    assert 0 < client.pttl(journal) <= 30 * 86_400_000

    migrate(final=True)
    assert not client.exists(journal)
