"""Leases, copies and strays: what is moved at once, what at the end, and what never twice."""

import pytest

from tests.migrate.conftest import Migrate
from tests.migrate.given import PLANNER, WORKER, dead_ids, drain, ids
from tests.migrate.old import SECOND, OldInbox, stored
from tta_agent_coordination import AgentMessage, RedisMessageCoordinator

pytestmark = pytest.mark.backend("fakeredis", "valkey", "redis62")


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
