"""6.2: a receive in steps, as the adapter makes it: it can be given up after each."""

import time

import pytest

from tests.aio.conftest import Make
from tests.aio.given import LONG, ONE, PATIENCE, SENDER, WORKER, finish_all, message
from tests.support.backends import Backend
from tests.support.marks import ONE_BACKEND, REAL
from tta_agent_coordination import RedisMessageCoordinator
from tta_agent_coordination.coordinator.receiving import Receiving

pytestmark = pytest.mark.guarantee("6.2")

SOON = 2.0
"""Seconds: much less than the 12 after which one who waits looks by itself."""


def receiving(coordinator: RedisMessageCoordinator, wait: float = LONG) -> Receiving:
    return coordinator.internals.steps.receiving(WORKER, 1, LONG, wait=wait)


@REAL
def test_a_step_too_many_changes_nothing(coordinator: RedisMessageCoordinator) -> None:
    steps = receiving(coordinator)
    assert steps.step() is None
    assert steps.descriptor is not None
    assert steps.step() is None
    coordinator.send_message(SENDER, WORKER, message(1))
    end = time.monotonic() + PATIENCE
    while (received := steps.step()) is None:
        assert time.monotonic() < end
    assert [each.message.payload["n"] for each in received] == [1]
    coordinator.ack(WORKER, received[0].token)


@REAL
def test_steps_after_the_end_bring_nothing(
    coordinator: RedisMessageCoordinator, backend: Backend, key_prefix: str
) -> None:
    steps = receiving(coordinator)
    assert steps.step() is None
    for _ in range(2):
        steps.abandon()
    coordinator.send_message(SENDER, WORKER, message(1))
    assert steps.step() == []
    assert backend.keys(f"{key_prefix}*interrupt*") == []
    assert finish_all(coordinator) == [1]


@REAL
def test_what_was_woken_for_one_who_gives_up_is_another_ones(
    coordinator: RedisMessageCoordinator, make: Make, backend: Backend, key_prefix: str
) -> None:
    # given two who wait, of whom the first is woken
    first, second = receiving(coordinator), receiving(make())
    assert first.step() is None
    assert second.step() is None
    coordinator.send_message(SENDER, WORKER, message(1))
    # when it gives up before it looks
    first.abandon()
    # then the other is woken
    end = time.monotonic() + SOON
    while (received := second.step()) is None:
        assert time.monotonic() < end, "the wake-up was lost"
    coordinator.ack(WORKER, received[0].token)
    assert backend.keys(f"{key_prefix}*interrupt*") == []


@ONE_BACKEND
def test_one_who_gives_up_keeps_the_connection_for_the_next(
    coordinator: RedisMessageCoordinator, backend: Backend
) -> None:
    def connections() -> int:
        return backend.client().info("stats")["total_connections_received"]

    for _ in range(3):
        first = receiving(coordinator)
        assert first.step() is None
        first.abandon()
    before = connections()
    for _ in range(5):
        each = receiving(coordinator)
        assert each.step() is None
        each.abandon()
    assert connections() - before <= 1  # that of the question


@REAL
def test_what_is_won_by_one_who_gives_up_is_given_back(
    coordinator: RedisMessageCoordinator,
) -> None:
    coordinator.send_many(SENDER, [message(n) for n in range(5)])
    steps = coordinator.internals.steps.receiving(WORKER, 5, LONG, wait=0.0)
    assert len(steps.step() or []) == 5
    assert coordinator.receive(WORKER) is None
    steps.abandon()
    assert finish_all(coordinator) == list(range(5))
    assert coordinator.stats(ONE).leased == 0
