"""The core operations one by one, with pytest-benchmark.

Run it as ``uv run pytest benchmarks --benchmark-only``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.ours import BATCH, LEASE, SENDER, Ours
from benchmarks.server import Ground, ground
from tta_agent_coordination import codec

Benchmark = Any
ROUNDS = 500


@pytest.fixture(scope="module")
def place() -> Iterator[Ground]:
    with ground(quick=True) as found:
        yield found


@pytest.fixture
def ours(place: Ground) -> Iterator[Ours]:
    ours = Ours(place)
    yield ours
    ours.close()


def test_send_message(benchmark: Benchmark, ours: Ours) -> None:
    result = benchmark(lambda: ours.coordinator.send_message(SENDER, ours.inbox, ours.message()))
    assert result.delivered


def test_send_many_of_100(benchmark: Benchmark, ours: Ours) -> None:
    benchmark.pedantic(ours.send_many, args=(100,), rounds=100, warmup_rounds=5)
    assert ours.coordinator.stats(ours.inbox).delayed == 0


def test_receive_and_ack(benchmark: Benchmark, ours: Ours) -> None:
    ours.fill(ROUNDS + 10)
    benchmark.pedantic(ours.consume, args=(1,), rounds=ROUNDS, warmup_rounds=10)
    assert sum(ours.coordinator.stats(ours.inbox).ready.values()) == 0


def test_receive_many_of_32(benchmark: Benchmark, ours: Ours) -> None:
    ours.fill(BATCH * 105)
    found = benchmark.pedantic(
        ours.coordinator.receive_many, args=(ours.inbox, BATCH, LEASE), rounds=100, warmup_rounds=5
    )
    assert len(found) == BATCH


def test_ack_many_of_32(benchmark: Benchmark, ours: Ours) -> None:
    ours.fill(BATCH * 105)

    def claim() -> tuple[tuple[Any, ...], dict[str, Any]]:
        found = ours.coordinator.receive_many(ours.inbox, BATCH, LEASE)
        return (ours.inbox, [one.token for one in found]), {}

    answers = benchmark.pedantic(ours.coordinator.ack_many, setup=claim, rounds=100)
    assert all(answers)


def test_a_message_is_made(benchmark: Benchmark, ours: Ours) -> None:
    assert benchmark(ours.message).recipient == ours.inbox


def test_encode(benchmark: Benchmark, ours: Ours) -> None:
    message = ours.message()
    body = benchmark(lambda: codec.encode(message, SENDER, ours.inbox, limit=1_000_000))
    assert message.message_id.encode() in body


def test_decode(benchmark: Benchmark, ours: Ours) -> None:
    message = ours.message()
    body = codec.encode(message, SENDER, ours.inbox, limit=1_000_000)
    assert benchmark(codec.decode, body) == message
