"""A breaker that was made before a fork works in the child, and counts calls once."""

import threading

import pytest

from tests.circuit.conftest import Later, Make
from tests.circuit.given import CLOSED, NAME, OPEN, PATIENCE, fails, refused, succeeds, trip
from tests.faults.test_fork import in_child
from tests.support.backends import Backend
from tta_agent_coordination import CircuitBreaker
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
    """Both processes come to its end, and both report it."""
    breaker = make()
    permit = breaker.admit()
    in_child(lambda: breaker.settle(permit, ValueError()))
    breaker.settle(permit, ValueError())
    assert breaker.get_metrics()["failures"] == 1


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
