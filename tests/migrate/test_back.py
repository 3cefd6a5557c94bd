"""The way back: what our inboxes hold goes to the old layout again."""

import json
from collections.abc import Callable
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
    FailureType,
    RedisMessageCoordinator,
    RoutingKey,
)
from tta_agent_coordination.cli import main
from tta_agent_coordination.identity import REPLY_TYPE
from tta_agent_coordination.migrate import Migration, Report
from tta_agent_coordination.proxy import Command, FaultProxy

pytestmark = pytest.mark.backend("fakeredis", "valkey", "redis62")

WORKER, PLANNER = AgentId("worker"), AgentId("planner", "7")

Back = Callable[..., Report]


@pytest.fixture
def back(client: Client, old_prefix: str, key_prefix: str) -> Back:
    def back(*, dry_run: bool = False) -> Report:
        with Migration(as_migrator(client), old_prefix, key_prefix) as migration:
            return migration.back(dry_run=dry_run)

    return back


def send(coordinator: RedisMessageCoordinator, message_id: str, **fields: Any) -> None:
    delay = fields.pop("delay", 0.0)
    message = AgentMessage(PLANNER, WORKER, {"of": message_id}, message_id=message_id, **fields)
    assert coordinator.send_message(PLANNER, WORKER, message, delay=delay).delivered


def contents(old: OldInbox, priority: int = 5) -> list[str]:
    return [
        json.loads(raw)["message"]["message_id"]
        for raw in old.client.zrange(old.scheduled[priority], 0, -1)
    ]


def test_a_message_is_stored_there_as_the_old_application_did_it(
    old: OldInbox, back: Back, coordinator: RedisMessageCoordinator
) -> None:
    send(coordinator, "message-1", priority=9, routing=RoutingKey("files", ("a",)))
    received = coordinator.receive(WORKER)
    assert received is not None
    coordinator.nack(WORKER, received.token, error="Größe 0", delay=0.0)
    before = old.now()

    report = back()

    [(raw, due)] = old.client.zrange(old.scheduled[9], 0, -1, withscores=True)
    assert due < old.now()
    assert due > before - SECOND
    assert json.loads(raw) == {
        "message": {
            "message_id": "message-1",
            "sender": {"type": "planner", "instance": "7"},
            "recipient": {"type": "worker", "instance": None},
            "message_type": "event",
            "payload": {"of": "message-1"},
            "priority": 9,
            "routing": {"topic": "files", "tags": ["a"]},
            "timestamp": received.message.timestamp.isoformat(),
        },
        "priority": 9,
        "enqueued_at": received.queue_message.enqueued_at.isoformat(),
        "delivery_attempts": 1,
        "last_error": "Größe 0",
    }
    assert old.client.lrange(old.queue, 0, -1) == [raw]
    assert (report.inboxes[0].ready, report.complete) == (1, True)


def test_everything_goes_back_in_its_order_and_nothing_is_left(
    old: OldInbox, back: Back, coordinator: RedisMessageCoordinator, client: Client, key_prefix: str
) -> None:
    for number in range(3):
        send(coordinator, f"dead-{number}")
        received = coordinator.receive(WORKER)
        assert received is not None
        coordinator.nack(WORKER, received.token, FailureType.PERMANENT, f"error {number}")
    for number in range(600):
        send(coordinator, f"message-{number:04}")
    send(coordinator, "later-1", delay=60.0)

    report = back()

    [inbox] = report.inboxes
    assert (inbox.ready, inbox.delayed, inbox.dead) == (600, 1, 3)
    assert contents(old) == [*(f"message-{number:04}" for number in range(600)), "later-1"]
    assert old.client.zrange(old.scheduled[5], -1, -1, withscores=True)[0][1] > old.now()
    dead = [json.loads(raw) for raw in old.client.lrange(old.dlq, 0, -1)]
    assert [one["message"]["message_id"] for one in dead] == ["dead-0", "dead-1", "dead-2"]
    assert [one["last_error"] for one in dead] == ["error 0", "error 1", "error 2"]
    raw = look(client, key_prefix, WORKER)
    assert not list(raw.faults())
    assert not raw.messages | raw.dead


def test_a_lease_in_force_stays_and_one_that_has_passed_goes(
    old: OldInbox, back: Back, coordinator: RedisMessageCoordinator, client: Client, key_prefix: str
) -> None:
    send(coordinator, "message-1")
    send(coordinator, "message-2")
    received = coordinator.receive(WORKER, 60.0)
    assert received is not None

    first = back()
    assert (first.inboxes[0].ready, first.inboxes[0].held, first.complete) == (1, 1, False)
    assert contents(old) == ["message-2"]

    let_pass(client, key_prefix, WORKER, 60.0)
    assert back().complete
    assert contents(old) == ["message-2", "message-1"]
    assert not coordinator.ack(WORKER, received.token)
    assert not list(look(client, key_prefix, WORKER).faults())


def test_there_and_back_again_and_there_loses_nothing(
    old: OldInbox, migrate: Migrate, back: Back, coordinator: RedisMessageCoordinator
) -> None:
    """What is remembered of the first move does not make it a copy at the second."""
    old.audit(stored("stray-1"))
    old.schedule(stored("message-1", attempts=2, error="no"))
    old.bury(stored("dead-1"))

    for _ in range(2):
        assert migrate().inboxes[0].moved == 2
        assert back().inboxes[0].moved == 2
    assert migrate().inboxes[0].moved == 2

    [received] = coordinator.receive_many(WORKER, 10)
    assert received.message.message_id == "message-1"
    assert received.queue_message.delivery_attempts == 3
    [letter] = coordinator.dead_letters(WORKER)
    assert letter.message_id == "dead-1"


def test_what_is_no_message_of_ours_stays_and_is_listed(
    back: Back, coordinator: RedisMessageCoordinator, client: Client, key_prefix: str
) -> None:
    tag = f"{key_prefix}:{{worker}}"
    send(coordinator, "message-1")
    send(coordinator, "message-2")
    client.hset(f"{tag}:messages", "message-1", "1 0 - x")
    client.hdel(f"{tag}:messages", "message-2")
    client.zadd(f"{tag}:dead", {"dead-1": 1, "dead-2": 2})
    client.hset(f"{tag}:dead_records", "dead-2", "x")

    report = back()

    [inbox] = report.inboxes
    assert (inbox.moved, inbox.unreadable) == (0, 3)
    assert [fault.excerpt for fault in inbox.faults] == ["1 0 - x", "dead-1", "x"]


def test_a_dry_run_writes_nothing(
    old: OldInbox, back: Back, coordinator: RedisMessageCoordinator
) -> None:
    send(coordinator, "message-1")

    report = back(dry_run=True)

    assert (report.inboxes[0].ready, report.dry_run) == (1, True)
    assert not old.client.exists(*old.message_keys)
    assert coordinator.stats(WORKER).ready[5] == 1


def test_replies_and_what_belongs_to_no_inbox_stay(
    back: Back, coordinator: RedisMessageCoordinator, client: Client, key_prefix: str
) -> None:
    asker = AgentId(REPLY_TYPE, "x")
    coordinator.send_message(PLANNER, asker, AgentMessage(PLANNER, asker))
    client.set(f"{key_prefix}:{{@agents}}:records", "x")
    client.set(f"{key_prefix}:{{@circuit/a}}:circuit", "x")

    assert back().inboxes == ()

    assert coordinator.stats(asker).ready[5] == 1


@pytest.mark.backend("valkey")
@pytest.mark.guarantee("2.9")
def test_a_lost_reply_changes_nothing(
    backend: Backend,
    proxy: FaultProxy,
    old: OldInbox,
    old_prefix: str,
    key_prefix: str,
    coordinator: RedisMessageCoordinator,
) -> None:
    send(coordinator, "message-1")
    proxy.drop_reply_of("EVALSHA")

    with Migration(as_migrator(backend.client_through(proxy)), old_prefix, key_prefix) as migration:
        report = migration.back()

    assert report.inboxes[0].ready == 1
    assert contents(old) == ["message-1"]
    assert old.client.llen(old.queue) == 1


@pytest.mark.backend("valkey")
def test_what_is_received_between_the_look_and_the_move_stays(
    backend: Backend,
    proxy: FaultProxy,
    old: OldInbox,
    old_prefix: str,
    key_prefix: str,
    coordinator: RedisMessageCoordinator,
) -> None:
    send(coordinator, "message-1")
    send(coordinator, "message-2")
    send(coordinator, "message-3")
    coordinator.nack(WORKER, taken(coordinator), FailureType.PERMANENT)

    def replayed_and_received(command: Command) -> bool:
        if command.name == "EVALSHA":
            coordinator.replay_dead_letters(WORKER)
            taken(coordinator)
            # The next is handed out as well, and given back: it has one attempt more.
            coordinator.nack(WORKER, taken(coordinator), delay=0.0)
        return False

    proxy.drop_reply_of(replayed_and_received)
    with Migration(as_migrator(backend.client_through(proxy)), old_prefix, key_prefix) as migration:
        report = migration.back()

    assert not any(inbox.moved for inbox in report.inboxes)
    assert not old.client.exists(*old.message_keys)


def taken(coordinator: RedisMessageCoordinator) -> str:
    received = coordinator.receive(WORKER, 60.0)
    assert received is not None
    return received.token


@pytest.mark.backend("valkey")
def test_the_command_gives_back(
    backend: Backend,
    old: OldInbox,
    old_prefix: str,
    key_prefix: str,
    coordinator: RedisMessageCoordinator,
    capsys: pytest.CaptureFixture[str],
) -> None:
    send(coordinator, "message-1")
    assert backend.url is not None
    places = ["--url", backend.url, "--from-prefix", old_prefix, "--prefix", key_prefix]

    assert main(["migrate", "--back", *places]) == 0

    assert "1 message moved\n" in capsys.readouterr().out
    assert contents(old) == ["message-1"]
