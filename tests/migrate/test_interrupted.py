"""A migration that is killed, loses replies, or shares the server with both applications."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.migrate.migrator import as_migrator
from tests.migrate.old import SECOND, OldInbox, stored
from tests.support.backends import Backend, Servers
from tests.support.raw_inbox import look
from tests.support.waiting import eventually
from tta_agent_coordination import AgentId, RedisMessageCoordinator
from tta_agent_coordination.migrate import Migration, Report
from tta_agent_coordination.proxy import Command, FaultProxy

pytestmark = pytest.mark.backend("valkey")

ROOT = Path(__file__).parents[2]
WORKER = AgentId("worker")


def fill(old: OldInbox, size: int) -> dict[str, list[str]]:
    """Write `size` messages of each kind; return their ids by where they will be, in order."""
    for number in range(size):
        old.reserve(stored(f"taken-{number:04}", attempts=1), f"token-{number}", 1)
    for priority in (9, 5, 1):
        for number in range(size):
            raw = stored(f"ready-{priority}-{number:04}", priority=priority, attempts=number % 3)
            old.schedule(raw, priority=priority, due=number)
    later = old.now() + 1000 * SECOND
    for number in range(size):
        old.schedule(stored(f"later-{number:04}"), due=later + number)
        old.bury(stored(f"dead-{number:04}"))
        old.audit(stored(f"stray-{number:04}"))
        old.bury(b"unreadable %d" % number)
    return {
        "ready": [f"ready-9-{number:04}" for number in range(size)]
        + [f"taken-{number:04}" for number in range(size)]
        + [f"ready-5-{number:04}" for number in range(size)]
        + [f"stray-{number:04}" for number in range(size)]
        + [f"ready-1-{number:04}" for number in range(size)],
        "delayed": [f"later-{number:04}" for number in range(size)],
        "dead": [f"dead-{number:04}" for number in range(size)],
    }


@pytest.fixture
def old(backend: Backend, key_prefix: str) -> OldInbox:
    return OldInbox(backend.client(), f"{key_prefix}-old")


@pytest.fixture
def handle(backend: Backend, key_prefix: str) -> Callable[[], list[tuple[str, int]]]:
    """Handle all that is ready in our inbox, and forget at once that it was there."""

    def handle() -> list[tuple[str, int]]:
        client = backend.client()
        with RedisMessageCoordinator(client, key_prefix, dedup_window=0.0) as coordinator:
            received = coordinator.receive_many(WORKER, 10_000, 60.0)
            coordinator.ack_many(WORKER, [one.token for one in received])
        return [(one.message.message_id, one.queue_message.delivery_attempts) for one in received]

    return handle


def attempts_of(message_id: str) -> int:
    """What `fill` wrote, and the delivery that just was."""
    kind, *_, number = message_id.split("-")
    return 1 + {"ready": int(number) % 3, "taken": 1}.get(kind, 0)


def check_the_end(
    backend: Backend,
    key_prefix: str,
    old: OldInbox,
    expected: dict[str, list[str]],
    handled: list[tuple[str, int]],
) -> None:
    """Nothing was lost and nothing doubled; what cannot be read is where it was."""
    assert sorted(message_id for message_id, _ in handled) == sorted(expected["ready"])
    assert all(attempts == attempts_of(message_id) for message_id, attempts in handled)
    for kind in ("ready-9", "ready-5", "ready-1"):
        in_turn = [message_id for message_id, _ in handled if message_id.startswith(kind)]
        assert in_turn == sorted(in_turn)
    raw = look(backend.client(), key_prefix, WORKER)
    assert not list(raw.faults())
    assert sorted(raw.delayed) == expected["delayed"]
    with RedisMessageCoordinator(backend.client(), key_prefix) as coordinator:
        letters = coordinator.dead_letters(WORKER, limit=10_000)
    assert [letter.message_id for letter in letters] == expected["dead"]
    left = old.client.lrange(old.dlq, 0, -1)
    assert len(left) == len(expected["dead"])
    assert set(left) == {b"unreadable %d" % number for number in range(len(left))}
    assert [key for key in old.message_keys if old.client.exists(key)] == [old.dlq]


@pytest.mark.guarantee("2.3")
@pytest.mark.parametrize("seed", range(2))
def test_it_can_be_killed_at_any_instant_and_run_again(
    backend: Backend,
    servers: Servers,
    proxy: FaultProxy,
    key_prefix: str,
    old: OldInbox,
    handle: Callable[[], list[tuple[str, int]]],
    seed: int,
) -> None:
    choice = random.Random(seed)
    expected = fill(old, 300)
    handled: list[tuple[str, int]] = []
    ended, kills = None, 0

    while ended != 0:
        before = choice.randrange(1, 5) if kills < 5 else 1_000
        ended = run_killed(servers, proxy, key_prefix, at=before)
        kills += ended != 0
        handled += handle()

    assert kills >= 2, "it was to be killed"
    check_the_end(backend, key_prefix, old, expected, handled)


def run_killed(servers: Servers, proxy: FaultProxy, key_prefix: str, *, at: int) -> int:
    """Run a process that is killed at its script of that number, which the server carries out."""
    arrived = count(1)

    def kills(command: Command) -> bool:
        if command.name != "EVALSHA" or next(arrived) != at:
            return False
        os.kill(process.pid, signal.SIGKILL)
        return True

    fault = proxy.drop_reply_of(kills)
    mine = servers.connections()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.migrate.process", proxy.url, f"{key_prefix}-old", key_prefix],
        cwd=ROOT,
    )
    ended = process.wait(60)
    if ended != 0:  # the proxy may have to write down yet what it has done
        eventually(lambda: fault.used_up, what="it was not the proxy that killed it")
    assert fault.used_up == (ended != 0)
    proxy.heal()
    # The server has carried out what reached it when it notices that nobody is there.
    eventually(lambda: servers.connections() <= mine, what="the process is not gone")
    return ended


@pytest.mark.guarantee("2.9")
def test_lost_replies_change_nothing(
    backend: Backend,
    proxy: FaultProxy,
    key_prefix: str,
    old: OldInbox,
    handle: Callable[[], list[tuple[str, int]]],
) -> None:
    expected = fill(old, 250)
    seen = set[tuple[bytes, ...]]()

    def loses_first(command: Command) -> bool:
        """Lose the reply of every script, once."""
        first = command.name == "EVALSHA" and command.args not in seen
        seen.add(command.args)
        return first

    proxy.drop_reply_of(loses_first, times=10_000)
    client = backend.client_through(proxy)
    with Migration(as_migrator(client), f"{key_prefix}-old", key_prefix) as migration:
        report = migration.run(final=True)

    [inbox] = report.inboxes
    assert (inbox.ready, inbox.reserved, inbox.delayed) == (750, 250, 250)
    assert (inbox.dead, inbox.stranded, inbox.copies) == (250, 250, 0)
    assert len(seen) > 8
    check_the_end(backend, key_prefix, old, expected, handle())


@pytest.mark.guarantee("2.3")
def test_both_applications_can_work_meanwhile(
    backend: Backend,
    key_prefix: str,
    handle: Callable[[], list[tuple[str, int]]],
) -> None:
    """One thread sends there, two handle there, and it is migrated again and again meanwhile."""
    sent = [f"message-{number}" for number in range(900)]
    finished: list[str] = []
    stop = threading.Event()

    def send() -> None:
        inbox = OldInbox(backend.client(), f"{key_prefix}-old")
        for message_id in sent:
            inbox.schedule(stored(message_id), due=1)

    def consume(name: str) -> None:
        inbox = OldInbox(backend.client(), f"{key_prefix}-old", names=name)
        while not stop.is_set() and len(finished) < 300:
            taken = inbox.receive()
            if taken is not None and inbox.ack(*taken):
                finished.append(taken[1].decode().split('"')[5])

    def migrate(*, final: bool = False) -> Report:
        with Migration(as_migrator(backend.client()), f"{key_prefix}-old", key_prefix) as migration:
            return migration.run(final=final)

    sender = threading.Thread(target=send, name="old-sender")
    consumers = [
        threading.Thread(target=consume, args=(name,), name=f"old-consumer-{name}") for name in "ab"
    ]
    handled: list[tuple[str, int]] = []
    for thread in (sender, *consumers):
        thread.start()
    try:
        eventually(lambda: finished, timeout=30, what="the old consumers get nothing")
        while sender.is_alive():
            migrate()
            handled += handle()
    finally:
        stop.set()
        for thread in (sender, *consumers):
            thread.join(30)
    assert migrate(final=True).complete
    handled += handle()

    assert handled, "ours had their share"
    assert sorted([*finished, *(message_id for message_id, _ in handled)]) == sorted(sent)


def test_a_lease_that_is_renewed_between_the_look_and_the_move_stays(
    backend: Backend, proxy: FaultProxy, key_prefix: str, old: OldInbox
) -> None:
    old.reserve(stored("taken-1"), "token-1", 1)

    def renewed(command: Command) -> bool:
        if command.name == "EVALSHA":
            old.client.zadd(old.deadlines, {"token-1": old.now() + 60 * SECOND})
        return False

    proxy.drop_reply_of(renewed)
    client = backend.client_through(proxy)
    with Migration(as_migrator(client), f"{key_prefix}-old", key_prefix) as migration:
        [inbox] = migration.run().inboxes

    assert (inbox.moved, inbox.held) == (0, 1)
    assert old.client.hlen(old.taken) == 1
