"""The places of probes: kept while they run, and given back when their process dies."""

import gc
import logging
import threading

import pytest

from tests.circuit.conftest import Later, Make
from tests.circuit.given import (
    CLOSED,
    HALF_OPEN,
    NAME,
    PATIENCE,
    fails,
    probes,
    refused,
    succeeds,
    trip,
)
from tests.support.servers import Client
from tests.support.waiting import eventually
from tta_agent_coordination import CircuitBreaker, policy
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.proxy import FaultProxy

pytestmark = [pytest.mark.guarantee("5.2"), pytest.mark.backend("valkey", "fakeredis")]


def renewers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "tta-circuit-probes"]


def ends(client: Client, key_prefix: str) -> list[float]:
    """When the places are free again."""
    key = Keys(key_prefix).circuit(NAME)["probes"]
    return [end for _, end in client.zrange(key, 0, -1, withscores=True)]


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place is renewed every 50 ms; its lease is long enough for a busy machine."""
    monkeypatch.setattr(policy, "RENEWALS_A_LEASE", 200)


def test_a_place_is_free_again_when_its_lease_has_passed(make: Make, later: Later) -> None:
    # given probes whose process is gone: nobody renews their places
    breaker, other = make(), make()
    trip(breaker)
    later(60.0)
    lost = [breaker.admit() for _ in range(3)]
    refused(other)
    later(policy.PROBE_LEASE - 2.0)
    assert other.get_metrics()["probes"] == 3
    refused(other)

    # when the lease has passed
    later(2.0)

    # then others may try
    assert other.get_metrics()["probes"] == 0
    assert other.is_call_permitted()
    succeeds(other)
    assert other.state is HALF_OPEN
    # and what they still report counts, as the period is the same
    breaker.settle(lost[0])
    assert other.state is CLOSED


@pytest.mark.usefixtures("short_lease")
def test_a_probe_that_runs_for_long_keeps_its_place(
    breaker: CircuitBreaker, later: Later, client: Client, key_prefix: str
) -> None:
    trip(breaker)
    later(60.0)
    with probes(breaker, 2):
        assert len(renewers()) == 1
        for _ in range(3):  # so much later that without renewal it would be over
            before = min(ends(client, key_prefix))
            eventually(lambda before=before: min(ends(client, key_prefix)) > before)
        before = min(ends(client, key_prefix))
        later(0.8 * policy.PROBE_LEASE)
        eventually(lambda: min(ends(client, key_prefix)) > before, timeout=PATIENCE)
        later(0.8 * policy.PROBE_LEASE)
        assert breaker.get_metrics()["probes"] == 2


@pytest.mark.usefixtures("short_lease")
def test_renewing_makes_no_place_that_is_gone(
    make: Make, later: Later, client: Client, key_prefix: str
) -> None:
    breaker, other = make(), make()
    trip(breaker)
    later(60.0)
    with probes(breaker, 1):
        other.reset()
        key = Keys(key_prefix).circuit(NAME)["probes"]
        kept = breaker._parts.get().decisions.server.renew(["0123456789abcdef"])
        assert kept == [False]
        assert client.exists(key) == 0


def test_the_thread_runs_only_while_probes_do(
    breaker: CircuitBreaker, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "RENEWALS_A_LEASE", 0.001)  # it does not look by itself
    succeeds(breaker)
    trip(breaker)
    assert renewers() == []
    later(60.0)
    with probes(breaker, 2) as running:
        assert [thread.daemon for thread in renewers()] == [True]
        running[0].end()
        assert len(renewers()) == 1
    eventually(lambda: renewers() == [], timeout=PATIENCE)
    trip(breaker)
    later(60.0)
    with probes(breaker, 1):
        assert len(renewers()) == 1, "and again for the next"
    eventually(lambda: renewers() == [], timeout=PATIENCE)


def test_closing_it_ends_the_thread_and_waits_for_it(breaker: CircuitBreaker, later: Later) -> None:
    trip(breaker)
    later(60.0)
    with probes(breaker, 1):
        breaker.close()
        assert renewers() == []


@pytest.mark.usefixtures("short_lease")
def test_a_permit_that_nobody_holds_any_more_is_not_renewed(
    breaker: CircuitBreaker, later: Later
) -> None:
    """Ctrl-C between admission and call would otherwise take a place for ever."""
    trip(breaker)
    later(60.0)
    breaker.admit()
    gc.collect()
    eventually(lambda: renewers() == [], timeout=PATIENCE)
    later(policy.PROBE_LEASE)
    assert breaker.get_metrics()["probes"] == 0
    with probes(breaker, 1):
        assert len(renewers()) == 1, "the next probe is renewed again"


@pytest.mark.usefixtures("short_lease")
@pytest.mark.backend("valkey")
def test_an_outage_does_not_end_the_renewing(
    through_proxy: Make,
    proxy: FaultProxy,
    later: Later,
    client: Client,
    key_prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "tta_agent_coordination")
    breaker = through_proxy(call_timeout=0.3)
    trip(breaker)
    later(60.0)
    with probes(breaker, 1):
        proxy.refuse()
        eventually(lambda: "could not be renewed" in caplog.text, timeout=PATIENCE)
        before = max(ends(client, key_prefix))
        proxy.heal()
        eventually(lambda: max(ends(client, key_prefix)) > before, timeout=PATIENCE)
    fails(breaker)
