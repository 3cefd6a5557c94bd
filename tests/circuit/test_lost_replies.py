"""A reply is lost, the question is asked again, and it counts once."""

import pytest

from tests.circuit.conftest import Later, Make
from tests.circuit.given import (
    CLOSED,
    HALF_OPEN,
    NAME,
    OPEN,
    fail,
    fails,
    probes,
    refused,
    succeeds,
    trip,
)
from tests.support.backends import Backend
from tests.support.servers import Client
from tta_agent_coordination import CircuitBreakerConfig
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.proxy import Command, FaultProxy
from tta_agent_coordination.transport import scripts
from tta_agent_coordination.transport.scripts import Script

pytestmark = [pytest.mark.guarantee("5.1"), pytest.mark.backend("valkey", "redis62")]

FAULTS = pytest.mark.parametrize("fault", ["drop_reply_of", "reset_mid_reply", "lose_request"])
ALL = 10**6


@pytest.fixture(autouse=True)
def scripts_are_known(client: Client) -> None:
    """A reply that tells of an unknown script would be no reply to the move."""
    for script in vars(scripts).values():
        if isinstance(script, Script) and script.name.startswith("circuit"):
            client.script_load(script.source)


def calls_of(script: Script) -> object:
    sha = script.sha.encode()

    def is_one(command: Command) -> bool:
        return command.name == "EVALSHA" and command.args[0] == sha

    return is_one


def holders(client: Client, key_prefix: str) -> int:
    return client.zcard(Keys(key_prefix).circuit(NAME)["probes"])


@FAULTS
def test_a_failure_counts_once(through_proxy: Make, proxy: FaultProxy, fault: str) -> None:
    breaker = through_proxy()
    for number in range(1, 3):
        inflicted = getattr(proxy, fault)(calls_of(scripts.CIRCUIT_SETTLE))
        fails(breaker)
        assert inflicted.used_up
        metrics = breaker.get_metrics()
        assert (metrics["failures"], metrics["storage"]) == (number, "redis")


@FAULTS
def test_a_probe_has_one_place_and_its_success_counts_once(
    through_proxy: Make,
    proxy: FaultProxy,
    fault: str,
    later: Later,
    client: Client,
    key_prefix: str,
) -> None:
    breaker = through_proxy()
    trip(breaker)
    later(60.0)
    inflicted = getattr(proxy, fault)(calls_of(scripts.CIRCUIT_ADMIT))
    with probes(breaker, 1):
        assert inflicted.used_up
        assert holders(client, key_prefix) == 1
        inflicted = getattr(proxy, fault)(calls_of(scripts.CIRCUIT_SETTLE))
    assert inflicted.used_up
    metrics = breaker.get_metrics()
    assert (metrics["state"], metrics["successes"], metrics["probes"]) == (HALF_OPEN, 1, 0)
    assert metrics["storage"] == "redis"


@FAULTS
def test_the_probe_that_takes_the_last_place_gets_it(
    through_proxy: Make, proxy: FaultProxy, fault: str, later: Later
) -> None:
    breaker = through_proxy(CircuitBreakerConfig(3, half_open_max_calls=1))
    trip(breaker)
    later(60.0)
    inflicted = getattr(proxy, fault)(calls_of(scripts.CIRCUIT_ADMIT))
    succeeds(breaker)
    assert inflicted.used_up


@FAULTS
def test_the_failure_that_opens_it_opens_it_once(
    through_proxy: Make, proxy: FaultProxy, fault: str, client: Client, key_prefix: str
) -> None:
    breaker = through_proxy()
    fails(breaker, 2)
    inflicted = getattr(proxy, fault)(calls_of(scripts.CIRCUIT_SETTLE))
    fails(breaker)
    assert inflicted.used_up
    assert breaker.state is OPEN
    key = Keys(key_prefix).circuit(NAME)["circuit"]
    assert client.hget(key, "period") == client.hget(key, "opened"), "one change, one period"


@FAULTS
def test_a_reset_happens_once(through_proxy: Make, proxy: FaultProxy, fault: str) -> None:
    breaker = through_proxy()
    trip(breaker)
    inflicted = getattr(proxy, fault)(calls_of(scripts.CIRCUIT_SET))
    breaker.reset()
    assert inflicted.used_up
    assert breaker.state is CLOSED


def repeat(client: Client, proxy: FaultProxy, script: Script) -> None:
    """Send the last call of a script once more, as a copy that the network held back."""
    sent = [command for command in proxy.commands if command.args[0] == script.sha.encode()]
    client.execute_command("EVALSHA", *sent[-1].args)


def test_a_success_that_is_repeated_ends_no_later_row(
    through_proxy: Make, proxy: FaultProxy, make: Make, client: Client
) -> None:
    breaker, other = through_proxy(), make()
    fails(other)
    succeeds(breaker)
    fails(other)
    repeat(client, proxy, scripts.CIRCUIT_SETTLE)
    assert other.get_metrics()["failures"] == 1


def test_a_success_that_is_repeated_ends_no_later_row_though_it_changed_nothing(
    through_proxy: Make, proxy: FaultProxy, make: Make, client: Client
) -> None:
    # given a success whose process thinks that something had failed
    breaker, other = through_proxy(), make()
    fails(other)
    with breaker:
        other.call(lambda: None)
    fails(other)
    repeat(client, proxy, scripts.CIRCUIT_SETTLE)
    assert other.get_metrics()["failures"] == 1


def test_a_reset_that_is_repeated_closes_no_later_opening(
    through_proxy: Make, proxy: FaultProxy, make: Make, client: Client
) -> None:
    breaker, other = through_proxy(), make()
    breaker.reset()
    trip(other)
    repeat(client, proxy, scripts.CIRCUIT_SET)
    assert other.state is OPEN


def test_a_failure_of_a_probe_that_is_repeated_does_not_prolong_the_wait(
    through_proxy: Make, proxy: FaultProxy, later: Later, make: Make, client: Client
) -> None:
    breaker, other = through_proxy(), make()
    trip(breaker)
    later(60.0)
    fails(breaker)
    later(30.0)
    repeat(client, proxy, scripts.CIRCUIT_SETTLE)
    assert refused(other).retry_after <= 30.0


def test_an_admission_that_is_repeated_after_the_end_gives_its_place_back_with_its_lease(
    through_proxy: Make, proxy: FaultProxy, later: Later, make: Make, client: Client
) -> None:
    """Nobody holds that place; it is free again after the lease, as that of a killed process."""
    breaker, other = through_proxy(), make()
    trip(breaker)
    later(60.0)
    succeeds(breaker)
    repeat(client, proxy, scripts.CIRCUIT_ADMIT)
    assert other.get_metrics()["probes"] == 1
    later(10.0)
    assert other.get_metrics()["probes"] == 0


def test_without_any_reply_it_counts_here(through_proxy: Make, proxy: FaultProxy) -> None:
    """The server may have counted too: it is right again when it is back."""
    breaker = through_proxy(CircuitBreakerConfig(2), call_timeout=0.3)
    fails(breaker)
    proxy.drop_reply_of(calls_of(scripts.CIRCUIT_SETTLE), times=ALL)
    fails(breaker)
    metrics = breaker.get_metrics()
    assert (metrics["state"], metrics["storage"]) == (OPEN, "local")


def test_a_probe_without_any_reply_to_its_admission_takes_no_place_for_long(
    through_proxy: Make, proxy: FaultProxy, later: Later, make: Make
) -> None:
    # given an admission that was carried out, and of which nothing was heard
    breaker, other = through_proxy(call_timeout=0.3), make()
    trip(breaker)
    later(60.0)
    proxy.drop_reply_of(calls_of(scripts.CIRCUIT_ADMIT), times=ALL)
    refused(breaker)  # this process goes by what it knew: open
    assert other.get_metrics()["probes"] == 1
    # then its place is free when its lease has passed
    later(10.0)
    assert other.get_metrics()["probes"] == 0


@pytest.mark.backend("valkey", "redis62", "cluster")
def test_a_server_that_has_forgotten_its_scripts_learns_them_again(
    make: Make, backend: Backend, later: Later
) -> None:
    breaker = make()
    for admin in backend._admins:
        admin.script_flush()
    trip(breaker)
    later(60.0)
    for admin in backend._admins:
        admin.script_flush()
    with probes(breaker, 1) as running:
        for admin in backend._admins:
            admin.script_flush()
        running[0].end(fail)
    assert breaker.state is OPEN
