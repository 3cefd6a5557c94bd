"""Subscriptions, dry runs, and what a migration is run on."""

import pytest

from tests.migrate.conftest import Migrate
from tests.migrate.given import PLANNER, everything
from tests.migrate.migrator import as_migrator
from tests.migrate.old import SECOND, OldInbox, stored
from tests.support.backends import Backend
from tests.support.servers import Client
from tta_agent_coordination import (
    AgentMessage,
    ConfigurationError,
    MessageType,
    RedisMessageCoordinator,
)
from tta_agent_coordination.migrate import InboxReport, Migration

pytestmark = pytest.mark.backend("fakeredis", "valkey", "redis62")

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
