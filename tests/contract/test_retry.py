"""How long a failed message waits: the back-off, its bounds, its jitter, and who decides."""

import pytest

from tests.contract.conftest import Later, Make, Raw
from tests.contract.given import FAILED, PATIENCE, WORKER, drain, due_in, send, server_time, take
from tests.support.servers import Client
from tta_agent_coordination import FailureType, LeaseOutcome, RedisMessageCoordinator
from tta_agent_coordination.keys import Keys

pytestmark = pytest.mark.guarantee("2.7")

SLACK = 0.5
"""Seconds that may pass between a nack and the look at what it left."""


@pytest.mark.parametrize("failure", [FailureType.TRANSIENT, FailureType.TIMEOUT])
@pytest.mark.parametrize(
    ("options", "waits"),
    [
        ({}, [1, 2, 4]),
        ({"retry_attempts": 7}, [1, 2, 4, 8, 16, 30, 30]),
        ({"backoff_base": 10, "backoff_factor": 3, "backoff_max": 100}, [10, 30, 90]),
        ({"backoff_base": 5, "backoff_factor": 1}, [5, 5, 5]),
        ({"backoff_base": 100, "backoff_max": 7}, [7, 7, 7]),
        ({"backoff_base": 100, "backoff_factor": 1e300, "backoff_max": 3600}, [100, 3600, 3600]),
    ],
)
def test_a_retry_waits_for_the_back_off_and_at_most_a_tenth_longer(
    make: Make,
    later: Later,
    client: Client,
    key_prefix: str,
    options: dict[str, float],
    waits: list[float],
    failure: FailureType,
) -> None:
    coordinator = make(**options)
    send(coordinator, 1)
    for wait in waits:
        assert coordinator.nack(WORKER, take(coordinator).token, failure) is LeaseOutcome.DONE
        left = due_in(client, key_prefix, "delayed")
        assert wait - SLACK <= left <= wait * 1.1
        assert coordinator.receive(WORKER) is None
        later(wait * 1.1)


def test_a_retry_never_comes_sooner_than_the_back_off(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str
) -> None:
    coordinator.configure(backoff_base=0.05)
    send(coordinator, *range(5))
    for received in coordinator.receive_many(WORKER, 5, 60):
        before = server_time(client, key_prefix)
        coordinator.nack(WORKER, received.token)
        key = Keys(key_prefix).inbox(WORKER)["delayed"]
        due = client.zscore(key, received.message.message_id) / 1_000_000
        assert due >= before + 0.05 - 1e-6
        assert due <= server_time(client, key_prefix) + 0.055 + 1e-6


def test_retries_of_messages_that_failed_together_are_spread(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str
) -> None:
    coordinator.configure(backoff_base=1000, backoff_max=1000)
    send(coordinator, *range(40))
    start = server_time(client, key_prefix)
    for received in coordinator.receive_many(WORKER, 40, 60):
        coordinator.nack(WORKER, received.token)
    key = Keys(key_prefix).inbox(WORKER)["delayed"]
    waits = [score / 1e6 - start for _, score in client.zrange(key, 0, -1, withscores=True)]
    assert 1000 <= min(waits) < 1040
    assert 1060 < max(waits) <= 1100 + 5
    assert max(waits) - min(waits) > 20


@pytest.mark.parametrize("delay", [0.2, 3, 1000.0, 86_400 * 30])
def test_a_delay_overrides_the_back_off_and_has_no_jitter(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str, delay: float
) -> None:
    send(coordinator, 1)
    before = server_time(client, key_prefix)
    coordinator.nack(WORKER, take(coordinator).token, delay=delay)
    after = server_time(client, key_prefix)
    now = server_time(client, key_prefix)
    due = now + due_in(client, key_prefix, "delayed")
    # A script's clock is that of the event loop's turn, which may have begun a little earlier.
    assert before + delay - 0.1 <= due <= after + delay + SLACK


def test_no_delay_and_no_back_off_make_it_receivable_at_once(make: Make) -> None:
    coordinator, eager = make(), make(backoff_base=0)
    send(coordinator, 1)
    assert coordinator.nack(WORKER, take(coordinator).token, delay=0)
    assert eager.nack(WORKER, take(eager).token)
    assert drain(coordinator) == [1]


def test_a_retry_comes_in_real_time_too(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str
) -> None:
    coordinator.configure(backoff_base=0.05)
    send(coordinator, 1)
    before = server_time(client, key_prefix)
    coordinator.nack(WORKER, take(coordinator).token)
    assert coordinator.receive(WORKER, wait=PATIENCE) is not None
    assert server_time(client, key_prefix) - before >= 0.05


def test_a_permanent_failure_is_dead_at_once_whatever_the_delay(
    coordinator: RedisMessageCoordinator,
) -> None:
    send(coordinator, 1)
    coordinator.nack(WORKER, take(coordinator).token, FAILED, delay=100)
    stats = coordinator.stats(WORKER)
    assert (stats.delayed, stats.leased, stats.dead) == (0, 0, 1)
    assert [letter.reason for letter in coordinator.dead_letters(WORKER)] == ["permanent"]


def test_the_name_of_a_failure_will_do(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 1)
    coordinator.nack(WORKER, take(coordinator).token, "permanent")
    assert coordinator.stats(WORKER).dead == 1


def test_the_back_off_in_force_is_that_of_the_one_who_nacks(
    make: Make, client: Client, key_prefix: str
) -> None:
    sender, consumer = make(backoff_base=1), make(backoff_base=20)
    send(sender, 1)
    consumer.nack(WORKER, take(consumer).token)
    assert 20 - SLACK <= due_in(client, key_prefix, "delayed") <= 22


def test_without_a_base_there_is_no_wait_however_large_the_factor(make: Make, raw: Raw) -> None:
    coordinator = make(backoff_base=0, backoff_factor=1e300, retry_attempts=9)
    send(coordinator, 1)
    for _ in range(5):
        coordinator.nack(WORKER, take(coordinator).token)
        assert "wake" in raw().keys, "who waits is told"
    assert take(coordinator).queue_message.delivery_attempts == 6
