"""A breaker that was made before a fork works in the child, and counts calls once."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine

import attrs
import pytest

from tests.circuit.conftest import Later, Make
from tests.circuit.given import (
    CLOSED,
    CONFIG,
    HALF_OPEN,
    NAME,
    OPEN,
    PATIENCE,
    fails,
    refused,
    succeeds,
    trip,
)
from tests.faults.test_fork import in_child
from tests.support.backends import Backend
from tta_agent_coordination import CircuitBreaker
from tta_agent_coordination.aio import AsyncCircuitBreaker
from tta_agent_coordination.proxy import FaultProxy

pytestmark = [pytest.mark.guarantee("5.2"), pytest.mark.backend("valkey")]


def test_parent_and_child_share_the_circuit_and_no_connection(
    through_proxy: Make, proxy: FaultProxy
) -> None:
    breaker = through_proxy()
    fails(breaker)
    assert proxy.connections == 1

    def child() -> list[object]:
        fails(breaker, 2)
        return [breaker.state, breaker.get_metrics()["calls"]]

    assert in_child(child) == [OPEN, 2]
    assert proxy.connections == 2
    refused(breaker)
    assert proxy.connections == 2


def test_the_child_does_not_wait_for_locks_that_the_parent_held(
    backend: Backend, key_prefix: str
) -> None:
    breaker = CircuitBreaker(backend.client(), NAME, key_prefix=key_prefix, call_timeout=5.0)
    succeeds(breaker)
    parts = breaker._parts.get()
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with (
            parts.decisions.known._lock,
            parts.places._lock,
            parts.tally._lock,
            parts.announcer._lock,
        ):
            held.set()
            go_on.wait(PATIENCE)

    thread = threading.Thread(target=hold, name="holder")
    thread.start()
    held.wait(PATIENCE)
    try:
        assert in_child(lambda: [breaker.call(lambda: 5), breaker.state]) == [5, CLOSED]
    finally:
        go_on.set()
        thread.join()
        breaker.close()


def test_a_call_during_which_the_process_forks_counts_once(make: Make) -> None:
    """Both processes come to its end, and the parent alone reports it."""
    breaker = make()
    permit = breaker.admit()
    in_child(lambda: breaker.settle(permit, ValueError()))
    assert breaker.get_metrics()["failures"] == 0
    breaker.settle(permit, ValueError())
    assert breaker.get_metrics()["failures"] == 1


@pytest.mark.parametrize("outcome", [None, ValueError()])
def test_a_child_does_not_settle_the_probe_of_its_parent(
    make: Make, later: Later, outcome: Exception | None
) -> None:
    # given a half-open circuit with one place, which a block has that forks
    breaker = make(attrs.evolve(CONFIG, half_open_max_calls=1, success_threshold=1))
    trip(breaker)
    later(60.0)

    def leave_the_block() -> object:
        breaker.__exit__(type(outcome), outcome, None)
        return breaker.is_call_permitted(), breaker.state, breaker.get_metrics()["calls"]

    with breaker:
        # when the child leaves the block, then the place is still taken, and nothing is decided
        assert in_child(leave_the_block) == (False, HALF_OPEN, 0)
        assert breaker.state is HALF_OPEN
    assert breaker.state is CLOSED


def test_a_child_leaves_an_asynchronous_block_of_its_parent_without_a_word(make: Make) -> None:
    breaker = make()
    adapter = AsyncCircuitBreaker(breaker)

    async def fork() -> list[object]:
        async with adapter:
            left = in_child(lambda: finished(adapter.__aexit__(ValueError, ValueError(), None)))
            return [left, breaker.get_metrics()["failures"]]

    with asyncio.Runner() as runner:
        assert runner.run(fork()) == ["left", 0]
        runner.run(adapter.close())
    assert breaker.get_metrics()["succeeded"] == 1


def finished(block: Coroutine[object, object, object]) -> str:
    """Run what never has to wait, without a loop."""
    with contextlib.suppress(StopIteration):
        block.send(None)
        return "waits"
    return "left"


def test_a_fork_while_a_probe_runs_leaves_the_thread_to_the_parent(
    make: Make, later: Later
) -> None:
    breaker = make()
    trip(breaker)
    later(60.0)
    with breaker:
        names = in_child(lambda: [thread.name for thread in threading.enumerate()])
        assert "tta-circuit-probes" not in names
        in_child(lambda: succeeds(breaker))
    assert breaker.state is CLOSED
