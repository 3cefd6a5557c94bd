"""The server's clock decides; that of a consumer may be wrong by hours."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.contract.conftest import Later, Make
from tests.contract.given import (
    FAILED,
    PATIENCE,
    SENDER,
    WORKER,
    drain,
    due_in,
    message,
    send,
    server_time,
    take,
)
from tests.support.backends import REAL_BACKENDS
from tests.support.servers import Client
from tta_agent_coordination import AgentMessage, RedisMessageCoordinator

pytestmark = pytest.mark.guarantee("2.10")

on_real_servers = pytest.mark.backend(*REAL_BACKENDS)
"""In memory there is no clock but that of the process."""


@pytest.fixture(params=[-5 * 3600.0, 5 * 3600.0], ids=["behind", "ahead"])
def wrong_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    """The wall clock of this process is wrong by hours."""
    right, right_ns, error = time.time, time.time_ns, request.param
    monkeypatch.setattr(time, "time", lambda: right() + error)
    monkeypatch.setattr(time, "time_ns", lambda: right_ns() + int(error * 1e9))
    yield error
    monkeypatch.undo()


@on_real_servers
def test_a_wrong_clock_changes_nothing(
    make: Make, later: Later, client: Client, key_prefix: str, wrong_clock: float
) -> None:
    coordinator = make(retry_attempts=1)
    assert abs(time.time() - server_time(client, key_prefix)) > abs(wrong_clock) - 60

    sent = message(1, ttl=100)
    coordinator.send_message(SENDER, WORKER, sent, delay=10)
    assert 9 < due_in(client, key_prefix, "delayed") <= 10
    assert coordinator.receive(WORKER) is None
    later(11)
    received = take(coordinator, lease=30)
    assert 29 < due_in(client, key_prefix, "leased") <= 30
    off = received.visibility_deadline.timestamp() - server_time(client, key_prefix)
    assert 29 < off <= 30
    assert coordinator.recover_pending(WORKER) == 0
    coordinator.extend(WORKER, received.token, 50)
    assert 49 < due_in(client, key_prefix, "leased") <= 50
    coordinator.nack(WORKER, received.token, delay=5)
    assert 4 < due_in(client, key_prefix, "delayed") <= 5
    later(6)
    coordinator.ack(WORKER, take(coordinator).token)
    later(50)
    assert coordinator.send_message(SENDER, WORKER, sent).duplicate
    later(11)
    assert not coordinator.send_message(SENDER, WORKER, sent).duplicate


@on_real_servers
@pytest.mark.usefixtures("wrong_clock")
def test_a_consumer_with_a_wrong_clock_waits_neither_longer_nor_shorter(
    coordinator: RedisMessageCoordinator,
) -> None:
    coordinator.send_message(SENDER, WORKER, message(1), delay=0.1)
    start = time.monotonic()
    assert coordinator.receive(WORKER, wait=PATIENCE) is not None
    assert 0.1 <= time.monotonic() - start < PATIENCE / 2
    start = time.monotonic()
    assert coordinator.receive(WORKER, wait=0.1) is None
    assert 0.1 <= time.monotonic() - start < PATIENCE / 2


def test_the_times_handed_out_are_the_servers(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str
) -> None:
    before = datetime.fromtimestamp(server_time(client, key_prefix) - 0.001, UTC)
    send(coordinator, 1)
    sent = datetime.fromtimestamp(server_time(client, key_prefix) + 0.001, UTC)
    received = take(coordinator)
    coordinator.nack(WORKER, received.token, FAILED)
    dead = datetime.fromtimestamp(server_time(client, key_prefix) + 0.001, UTC)

    assert before <= received.queue_message.enqueued_at <= sent
    [letter] = coordinator.dead_letters(WORKER)
    assert received.queue_message.enqueued_at <= letter.dead_at <= dead
    for moment in (received.queue_message.enqueued_at, letter.dead_at):
        assert moment.utcoffset() == timedelta(0)


@pytest.mark.parametrize("year", [1, 1970, 9999])
def test_the_timestamp_of_a_message_decides_nothing(
    coordinator: RedisMessageCoordinator, later: Later, year: int
) -> None:
    odd = AgentMessage(
        SENDER, WORKER, {"n": 0}, timestamp=datetime(year, 6, 1, tzinfo=UTC), ttl=100
    )
    coordinator.send_message(SENDER, WORKER, odd)
    send(coordinator, 1)
    later(90)
    assert coordinator.stats(WORKER).oldest_ready_age == pytest.approx(90, abs=9)
    assert drain(coordinator) == [0, 1]
