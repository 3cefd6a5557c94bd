"""When it opens, when calls may try again, and when it closes."""

import logging
from contextlib import closing

import pytest

from tests.circuit.conftest import Later, Make
from tests.circuit.given import (
    CLOSED,
    CONFIG,
    HALF_OPEN,
    NAME,
    OPEN,
    Probe,
    ServiceError,
    fail,
    fails,
    probes,
    refused,
    succeeds,
    trip,
)
from tests.support.backends import Backend
from tests.support.servers import Client
from tta_agent_coordination import CircuitBreaker, CircuitBreakerConfig
from tta_agent_coordination.keys import Keys

pytestmark = pytest.mark.guarantee("5.1")

SEVERAL = ("fakeredis", "valkey", "redis62")


def test_it_begins_closed_and_stores_nothing_while_nothing_fails(
    breaker: CircuitBreaker, backend: Backend, key_prefix: str
) -> None:
    assert breaker.state is CLOSED
    assert breaker.is_call_permitted()
    succeeds(breaker, 3)
    assert breaker.get_metrics()["failures"] == 0
    assert backend.keys(f"{key_prefix}*") == []


def test_failures_in_a_row_open_it_and_calls_are_refused(breaker: CircuitBreaker) -> None:
    fails(breaker, 2)
    assert (breaker.state, breaker.is_call_permitted()) == (CLOSED, True)
    assert breaker.get_metrics()["failures"] == 2
    fails(breaker)
    assert (breaker.state, breaker.is_call_permitted()) == (OPEN, False)
    assert 59.0 < refused(breaker).retry_after <= 60.0


@pytest.mark.backend(*SEVERAL)
def test_a_success_ends_the_row(breaker: CircuitBreaker) -> None:
    fails(breaker, 2)
    succeeds(breaker)
    assert breaker.get_metrics()["failures"] == 0
    fails(breaker, 2)
    assert breaker.state is CLOSED


def test_failures_of_several_processes_count_together(make: Make) -> None:
    breakers = [make() for _ in range(3)]
    for breaker in breakers:
        fails(breaker)
    for breaker in breakers:
        refused(breaker)


@pytest.mark.backend(*SEVERAL)
def test_a_success_in_one_process_ends_the_row_of_another(make: Make) -> None:
    one, other = make(), make()
    fails(one, 2)
    succeeds(other)
    fails(one, 2)
    assert one.state is CLOSED


@pytest.mark.backend(*SEVERAL)
def test_the_defaults_are_those_that_are_documented(make: Make) -> None:
    breaker = make(CircuitBreakerConfig())
    assert breaker.config == CircuitBreakerConfig(5, 60.0, 3, 2, ())
    fails(breaker, 4)
    assert breaker.state is CLOSED
    fails(breaker)
    assert breaker.state is OPEN


@pytest.mark.backend(*SEVERAL)
def test_calls_may_try_again_when_its_time_is_over(breaker: CircuitBreaker, later: Later) -> None:
    trip(breaker)
    later(50.0)
    assert 0.0 < refused(breaker).retry_after <= 10.0
    assert not breaker.is_call_permitted()
    later(10.0)
    assert breaker.state is HALF_OPEN
    assert breaker.is_call_permitted()
    assert breaker.get_metrics()["retry_after"] == 0.0


def test_enough_successes_close_it(breaker: CircuitBreaker, later: Later) -> None:
    trip(breaker)
    later(60.0)
    succeeds(breaker)
    assert breaker.state is HALF_OPEN
    assert breaker.get_metrics()["successes"] == 1
    succeeds(breaker)
    assert breaker.state is CLOSED
    fails(breaker, 2)
    assert breaker.state is CLOSED, "the count began anew"


def test_one_failure_of_a_probe_opens_it_for_another_while(
    breaker: CircuitBreaker, later: Later
) -> None:
    trip(breaker)
    later(60.0)
    succeeds(breaker)
    fails(breaker)
    assert breaker.state is OPEN
    assert 59.0 < refused(breaker).retry_after <= 60.0
    later(60.0)
    succeeds(breaker)
    assert breaker.state is HALF_OPEN, "successes before the failure do not count"


def test_no_more_calls_than_allowed_try_at_a_time_in_all_processes(
    make: Make, later: Later
) -> None:
    # given a circuit that may be tried, and two processes
    one, other = make(), make()
    trip(one)
    later(60.0)

    # when three calls run
    with probes(one, 2) as running, probes(other, 1):
        # then no fourth is let through, until one of them has ended
        assert one.get_metrics()["probes"] == 3
        for breaker in (one, other):
            assert not breaker.is_call_permitted()
            assert refused(breaker).retry_after == 1.0
        running[0].end()
        assert other.is_call_permitted()
        with probes(other, 1) as another:
            assert another[0].admitted
            refused(one)


@pytest.mark.backend("valkey")
def test_of_many_that_come_at_once_no_more_than_allowed_try(make: Make, later: Later) -> None:
    breaker = make(CircuitBreakerConfig(3, half_open_max_calls=4, success_threshold=9))
    trip(breaker)
    later(60.0)
    with probes(breaker, 12) as tried:
        assert sum(probe.admitted for probe in tried) == 4


@pytest.mark.backend(*SEVERAL)
def test_with_one_place_and_two_successes_needed_calls_try_one_after_the_other(
    make: Make, later: Later
) -> None:
    breaker = make(CircuitBreakerConfig(3, half_open_max_calls=1))
    trip(breaker)
    later(60.0)
    with probes(breaker, 1):
        refused(breaker)
    succeeds(breaker)
    assert breaker.state is CLOSED


@pytest.mark.backend(*SEVERAL)
@pytest.mark.parametrize("first", ["failure", "success"])
def test_what_was_admitted_in_one_period_counts_for_nothing_in_another(
    make: Make, later: Later, first: str
) -> None:
    """A slow call that began before the circuit opened says nothing of the service now."""
    # given three calls that were admitted while it was closed
    breaker = make()
    with probes(breaker, 3) as slow:
        trip(breaker)
        slow[0].end(fail)
        assert breaker.get_metrics()["failures"] == 3
        # when they end while it is half-open
        later(60.0)
        probe = Probe(breaker)
        slow[1].end(fail if first == "failure" else lambda: None)
        assert breaker.state is HALF_OPEN
        assert breaker.get_metrics()["successes"] == 0
        assert breaker.get_metrics()["probes"] == 1
        probe.end()
        succeeds(breaker)
        # or after it has closed again
        fails(breaker)
        slow[2].end(fail if first == "success" else lambda: None)
        assert breaker.get_metrics()["failures"] == 1
    assert isinstance(slow[0].error, ServiceError)


@pytest.mark.backend(*SEVERAL)
def test_a_probe_of_an_earlier_trial_counts_for_nothing_in_a_later_one(
    breaker: CircuitBreaker, later: Later
) -> None:
    trip(breaker)
    later(60.0)
    with probes(breaker, 2) as slow:
        fails(breaker)
        later(60.0)
        with probes(breaker, 1):
            slow[0].end(fail)
            slow[1].end()
            assert breaker.get_metrics()["probes"] == 1
            assert breaker.state is HALF_OPEN
            assert breaker.get_metrics()["successes"] == 0


@pytest.mark.backend(*SEVERAL)
def test_a_late_outcome_does_not_make_it_look_open_again(
    make: Make, later: Later, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tta_agent_coordination")
    breaker = make()
    with probes(breaker, 1):
        trip(breaker)
        later(60.0)
        assert breaker.state is HALF_OPEN
    assert [each.message.partition(": ")[2] for each in caplog.records] == [
        "open after closed",
        "half-open after open",
    ]


@pytest.mark.backend(*SEVERAL)
def test_reset_closes_it_for_all_processes(make: Make, later: Later) -> None:
    one, other = make(), make()
    trip(one)
    other.reset()
    succeeds(one)
    assert one.state is CLOSED
    # and calls that ran then count for nothing
    fails(one, 2)
    with probes(one, 1) as slow:
        other.reset()
        slow[0].end(fail)
    assert one.get_metrics()["failures"] == 0
    # and a probe keeps no place
    trip(one)
    later(60.0)
    with probes(one, 1):
        other.reset()
        assert one.get_metrics()["probes"] == 0


@pytest.mark.backend(*SEVERAL)
def test_each_process_goes_by_its_own_thresholds(make: Make) -> None:
    patient = make(CircuitBreakerConfig(failure_threshold=10, timeout_seconds=1000.0))
    hasty = make(CircuitBreakerConfig(failure_threshold=4, timeout_seconds=5.0))
    fails(patient, 5)
    assert patient.state is CLOSED
    fails(hasty)
    assert patient.state is OPEN
    assert refused(patient).retry_after <= 5.0, "the one that opened it decides for how long"


@pytest.mark.backend(*SEVERAL)
def test_breakers_of_other_names_and_prefixes_are_others(make: Make) -> None:
    breaker, other = make(), make(name="llm/us")
    trip(breaker)
    succeeds(other)


def test_state_is_kept_when_all_processes_have_ended(make: Make) -> None:
    before = make()
    trip(before)
    before.close()
    after = make()
    assert refused(after).retry_after > 0.0


@pytest.mark.backend(*SEVERAL)
@pytest.mark.parametrize("timeout", [10.0, 200_000.0])
def test_nothing_stays_for_ever_and_no_open_circuit_is_forgotten_before_its_time(
    make: Make, client: Client, key_prefix: str, timeout: float
) -> None:
    # given a circuit that is open, then half-open, with a mark of each call
    breaker = make(CircuitBreakerConfig(1, timeout_seconds=timeout))
    keys = Keys(key_prefix).circuit(NAME)
    trip(breaker)
    day = 86_400_000
    left = client.pttl(keys["circuit"])
    assert timeout * 1000 + day - 60_000 < left <= timeout * 1000 + day + 1000
    assert 0 < client.pttl(keys["marks"]) <= 120_000


@pytest.mark.backend(*SEVERAL)
def test_the_places_and_the_circuit_of_a_trial_vanish_too(
    breaker: CircuitBreaker, later: Later, client: Client, key_prefix: str
) -> None:
    trip(breaker)
    later(60.0)
    with probes(breaker, 1):
        for key in ("circuit", "probes"):
            assert 0 < client.pttl(Keys(key_prefix).circuit(NAME)[key]) <= 86_401_000


@pytest.mark.backend(*SEVERAL)
def test_what_somebody_else_wrote_into_the_record_is_passed_over(
    breaker: CircuitBreaker, client: Client, key_prefix: str
) -> None:
    key = Keys(key_prefix).circuit(NAME)["circuit"]
    client.hset(key, mapping={"phase": "ajar", "failures": "many", "period": "x"})
    assert breaker.state is CLOSED
    trip(breaker)


@pytest.mark.backend(*SEVERAL)
def test_a_clock_that_was_set_back_brings_no_old_period_back(
    breaker: CircuitBreaker, client: Client, key_prefix: str
) -> None:
    # given a record from a time when the server's clock was ahead
    trip(breaker)
    breaker.reset()
    key = Keys(key_prefix).circuit(NAME)["circuit"]
    ahead = int(client.hget(key, "period") or 0) + 10**15
    client.hset(key, "period", ahead)
    with probes(breaker, 1) as slow:
        breaker.reset()
        assert int(client.hget(key, "period") or 0) == ahead + 1
        slow[0].end(fail)
    assert breaker.get_metrics()["failures"] == 0


@pytest.mark.backend("fakeredis", "valkey", "cluster")
@pytest.mark.parametrize("name", ["open ai (café)", "{a}b", "}{", "*"])
def test_a_name_may_have_any_character_that_can_be_printed(make: Make, name: str) -> None:
    breaker, other = make(name=name), make(name=f"{name}.")
    trip(breaker)
    refused(breaker)
    assert make(name=name).state is OPEN
    assert other.state is CLOSED


@pytest.mark.backend(*SEVERAL)
def test_one_that_is_made_after_the_server_was_emptied_knows_nothing_of_before(
    client: Client, backend: Backend, key_prefix: str
) -> None:
    # given an open circuit, of which this process knows from just now
    one = CircuitBreaker(client, NAME, CONFIG, key_prefix, refresh=60.0)
    with closing(one):
        trip(one)
        # when its keys are gone, and a new breaker is made
        for key in backend.keys(f"{key_prefix}*"):
            client.delete(key)
        with closing(CircuitBreaker(client, NAME, CONFIG, key_prefix, refresh=60.0)) as other:
            # then that one asks before it refuses
            succeeds(other)
            succeeds(one)
