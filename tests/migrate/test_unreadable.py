"""What cannot be read is left where it is, and holds nothing up."""

from typing import Any

import pytest

from tests.migrate.conftest import Migrate
from tests.migrate.given import drain, everything, ids
from tests.migrate.migrator import as_migrator
from tests.migrate.old import OldInbox, stored
from tests.support.servers import Client
from tta_agent_coordination import RedisMessageCoordinator
from tta_agent_coordination.identity import REPLY_TYPE
from tta_agent_coordination.migrate import Migration

pytestmark = pytest.mark.backend("fakeredis", "valkey", "redis62")

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
    client.set(f"{old_prefix}:dlq:{REPLY_TYPE}:default", "x")
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
    kept = f"the type {REPLY_TYPE} is kept for replies"
    assert reasons.pop(f"dlq:{REPLY_TYPE}:default") == kept
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
