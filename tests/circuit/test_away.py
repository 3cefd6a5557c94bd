"""Redis is away: the breaker goes on by what this process sees, and says so."""

import logging
import threading
import time

import pytest

from tests.circuit.conftest import Later, Make
from tests.circuit.given import (
    CLOSED,
    HALF_OPEN,
    NAME,
    OPEN,
    PATIENCE,
    fail,
    fails,
    probes,
    refused,
    succeed,
    succeeds,
    trip,
)
from tests.conftest import OwnServers
from tests.support.servers import Client
from tests.support.waiting import SLACK, eventually
from tta_agent_coordination import CircuitBreaker, CircuitBreakerConfig, policy
from tta_agent_coordination.circuit.config import DEFAULT_CALL_TIMEOUT
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.proxy import FaultProxy

pytestmark = [pytest.mark.guarantee("5.3"), pytest.mark.backend("valkey")]

QUICK = 0.3
"""Seconds that asking Redis may take where it is away."""


@pytest.fixture
def look_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for Redis at each call, though it was away a moment ago."""
    monkeypatch.setattr(policy, "CIRCUIT_AWAY_PAUSE", 0.0)
    monkeypatch.setattr(policy, "BREAKER_RESET", 0.0)


@pytest.fixture
def look_never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not ask for Redis again for as long as the test lasts."""
    monkeypatch.setattr(policy, "CIRCUIT_AWAY_PAUSE", 3600.0)


def is_local(breaker: CircuitBreaker) -> bool:
    return breaker.get_metrics()["storage"] == "local"


@pytest.mark.usefixtures("look_never")
def test_it_opens_and_closes_by_what_this_process_sees(
    through_proxy: Make, proxy: FaultProxy
) -> None:
    # given a server that is away from the beginning
    proxy.refuse()
    breaker = through_proxy(
        CircuitBreakerConfig(3, timeout_seconds=0.05, half_open_max_calls=1), call_timeout=QUICK
    )
    succeeds(breaker)
    metrics = breaker.get_metrics()
    assert metrics["storage"] == "local"
    assert "could not be reached" in str(metrics["storage_error"])

    # when calls fail, it opens
    fails(breaker, 2)
    succeeds(breaker)
    fails(breaker, 3)
    metrics = breaker.get_metrics()
    assert abs(float(metrics["opened_at"] or 0) - time.time()) < PATIENCE
    assert (metrics["state"], metrics["failures"]) in {(OPEN, 3), (HALF_OPEN, 3)}

    # and a probe at a time is let through when its time is over
    eventually(lambda: breaker.state is HALF_OPEN)
    with probes(breaker, 1):
        assert not breaker.is_call_permitted()
        assert refused(breaker).retry_after == 0.05
    assert breaker.get_metrics()["successes"] == 1
    succeeds(breaker)
    assert breaker.state is CLOSED


@pytest.mark.usefixtures("look_never")
def test_it_goes_on_from_what_was_known(through_proxy: Make, proxy: FaultProxy) -> None:
    # given a circuit with two failures
    breaker = through_proxy(call_timeout=QUICK)
    fails(breaker, 2)
    proxy.refuse()
    # when the third comes while Redis is away
    fails(breaker)
    # then it opens here
    assert breaker.state is OPEN
    assert is_local(breaker)


@pytest.mark.usefixtures("look_never")
def test_an_open_circuit_stays_open(through_proxy: Make, proxy: FaultProxy) -> None:
    breaker = through_proxy(call_timeout=QUICK)
    trip(breaker)
    proxy.refuse()
    assert 50.0 < refused(breaker).retry_after <= 60.0
    assert is_local(breaker)
    breaker.reset()
    assert breaker.state is CLOSED
    succeeds(breaker)


@pytest.mark.usefixtures("look_now")
def test_what_the_server_holds_counts_again_when_it_is_back(
    through_proxy: Make, proxy: FaultProxy, make: Make
) -> None:
    # given a process that opened the circuit by itself
    breaker, other = through_proxy(call_timeout=QUICK), make()
    succeeds(breaker)
    proxy.refuse()
    fails(breaker, 3)
    assert (breaker.state, is_local(breaker)) == (OPEN, True)

    # when Redis is back, where others saw no failure
    succeeds(other)
    proxy.heal()
    eventually(lambda: not is_local(breaker), timeout=PATIENCE)

    # then that is what counts
    assert breaker.state is CLOSED
    assert breaker.get_metrics()["failures"] == 0
    trip(other)
    refused(breaker)


@pytest.mark.usefixtures("look_now")
def test_a_call_admitted_before_an_outage_counts_in_it_and_after_it(
    through_proxy: Make, proxy: FaultProxy
) -> None:
    breaker = through_proxy(call_timeout=QUICK)
    with probes(breaker, 3) as running:
        proxy.refuse()
        running[0].end(fail)
        metrics = breaker.get_metrics()
        assert (metrics["storage"], metrics["failures"]) == ("local", 1)
        with probes(breaker, 1) as admitted_locally:
            proxy.heal()
            eventually(lambda: not is_local(breaker), timeout=PATIENCE)
            running[1].end(fail)
            admitted_locally[0].end(fail)
        assert breaker.get_metrics()["failures"] == 2


@pytest.mark.usefixtures("look_never")
def test_a_probe_that_runs_as_redis_goes_away_counts_here(
    through_proxy: Make, proxy: FaultProxy, later: Later
) -> None:
    breaker = through_proxy(call_timeout=QUICK)
    trip(breaker)
    later(60.0)
    succeeds(breaker)
    with probes(breaker, 1):
        proxy.refuse()
    assert breaker.state is CLOSED


def test_one_thread_looks_for_redis_and_the_others_are_not_held_up(
    through_proxy: Make, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a server that does not answer, and whose absence is known
    monkeypatch.setattr(policy, "CIRCUIT_AWAY_PAUSE", 3600.0)
    breaker = through_proxy(call_timeout=0.6)
    succeeds(breaker)
    proxy.black_hole()
    succeeds(breaker)
    before = proxy.connections
    known = breaker._parts.get().decisions.known
    known._ask_again_at = 0.0

    # when many call
    threads = [
        threading.Thread(target=lambda: succeeds(breaker, 5), name=f"c-{n}") for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    # then one of them looked, with the attempts of one question
    assert 1 <= proxy.connections - before <= policy.ATTEMPTS_IN_A_CALL + 1


@pytest.mark.parametrize("how", ["refuse", "black_hole"])
def test_an_outage_holds_a_call_up_by_the_call_timeout_and_then_not_at_all(
    through_proxy: Make, proxy: FaultProxy, how: str
) -> None:
    breaker = through_proxy(call_timeout=DEFAULT_CALL_TIMEOUT)
    succeeds(breaker)
    getattr(proxy, how)()
    began = time.monotonic()
    fails(breaker)
    assert time.monotonic() - began < DEFAULT_CALL_TIMEOUT + SLACK
    proxy.forget()
    before = proxy.connections
    for _ in range(20):
        breaker.call(succeed)
    assert proxy.connections - before <= policy.ATTEMPTS_IN_A_CALL + 1


def test_an_outage_is_one_line_in_the_log_and_its_end_another(
    through_proxy: Make,
    proxy: FaultProxy,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO, "tta_agent_coordination")
    monkeypatch.setattr(policy, "CIRCUIT_AWAY_PAUSE", 0.0)
    breaker = through_proxy(CircuitBreakerConfig(100), call_timeout=QUICK)
    succeeds(breaker)
    proxy.refuse()
    fails(breaker, 10)
    proxy.heal()
    eventually(lambda: not is_local(breaker), timeout=PATIENCE)
    mine = [
        each.message for each in caplog.records if each.message.startswith("circuit breaker llm")
    ]
    assert len(mine) == 2
    assert (
        "Redis does not serve it, going by what this process sees: Redis could not be reached"
        in mine[0]
    )
    assert mine[1] == "circuit breaker llm/eu: Redis is back, its state counts again"


def test_an_error_of_the_server_is_an_outage_too(
    make: Make, client: Client, key_prefix: str
) -> None:
    client.lpush(Keys(key_prefix).circuit(NAME)["circuit"], "not a hash")
    breaker = make()
    trip(breaker)
    metrics = breaker.get_metrics()
    assert metrics["storage"] == "local"
    assert "WRONGTYPE" in str(metrics["storage_error"])


def test_a_server_that_is_restarted_empty_is_closed_again(
    own_server: OwnServers, make: Make
) -> None:
    server = own_server()
    breaker = make(client=server.client())
    trip(breaker)
    server.restart()
    succeeds(breaker)
    trip(breaker)


def test_a_server_that_keeps_its_data_keeps_the_circuit(own_server: OwnServers, make: Make) -> None:
    server = own_server(options=("--appendonly", "yes", "--appendfsync", "always"))
    breaker = make(client=server.client())
    trip(breaker)
    server.restart()
    assert refused(make(client=server.client())).retry_after > 0


def test_a_full_server_still_counts(own_server: OwnServers, make: Make) -> None:
    """Out of memory, Redis refuses what would make it grow; not what gives back."""
    server = own_server()
    breaker = make(CircuitBreakerConfig(3, timeout_seconds=0.0), client=server.client())
    for _ in range(2):
        fails(breaker, 3)
        with probes(breaker, 1):
            server.admin.config_set("maxmemory", 1)
            parts = breaker._parts.get()
            assert parts.decisions.server.renew(list(parts.places._held)) == [True]
    fails(breaker)
    breaker.reset()
    assert not is_local(breaker)
