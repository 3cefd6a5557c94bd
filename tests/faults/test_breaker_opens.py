"""When the breaker around Redis opens, whom it lets through, and what it says."""

import logging
import threading
import time
from collections.abc import Callable

import pytest

from tests.conftest import OwnServers
from tests.faults.calls import INBOX, SENDER, message
from tests.faults.conftest import Coordinators
from tests.support.backends import Backend
from tests.support.waiting import eventually
from tta_agent_coordination import (
    CircuitBreakerOpenError,
    CoordinationError,
    CoordinatorUnavailableError,
    LeaseOutcome,
    RedisMessageCoordinator,
)
from tta_agent_coordination.errors import CoordinatorCircuitOpenError
from tta_agent_coordination.proxy import Command, FaultProxy
from tta_agent_coordination.transport import scripts

LOGGER = "tta_agent_coordination"
TOKEN = "0123456789abcdef:message-1"  # of a message that there is not


def in_threads(number: int, action: Callable[[], object]) -> list[BaseException]:
    """Run an action in so many threads at once; return what they raised."""
    start = threading.Barrier(number)
    raised: list[BaseException] = []

    def run() -> None:
        start.wait()
        try:
            action()
        except CoordinationError as error:
            raised.append(error)

    threads = [threading.Thread(target=run, name=f"caller-{n}") for n in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def fails(coordinator: RedisMessageCoordinator) -> bool:
    try:
        coordinator.stats(INBOX)
    except CoordinatorUnavailableError:
        return True
    return False


def open_breaker(coordinator: RedisMessageCoordinator) -> CoordinatorCircuitOpenError:
    """Call until the breaker refuses; return how."""
    while True:
        try:
            coordinator.stats(INBOX)
        except CoordinatorCircuitOpenError as error:
            return error
        except CoordinatorUnavailableError:
            pass


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
@pytest.mark.usefixtures("even_pauses")
def test_the_fifth_failure_in_a_row_opens_it_the_first_of_each_call_not_counted(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    # given calls that have the time for four attempts: at 0, 20, 60 and 140 ms
    coordinator = through_proxy(call_timeout=0.3)
    proxy.refuse()

    # when one fails, three failures count, and the next is tried
    assert fails(coordinator)
    assert proxy.connections == 4
    assert fails(coordinator)
    assert proxy.connections == 8

    # then five are exceeded, and nothing more is tried
    with pytest.raises(CoordinatorCircuitOpenError) as caught:
        coordinator.stats(INBOX)
    assert proxy.connections == 8
    assert isinstance(caught.value, CircuitBreakerOpenError)
    assert isinstance(caught.value, CoordinatorUnavailableError)
    assert 0.0 < caught.value.retry_after <= 1.0


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
@pytest.mark.usefixtures("even_pauses")
def test_a_success_in_between_starts_the_count_anew(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy(call_timeout=0.3)
    for _ in range(4):
        proxy.refuse()
        assert fails(coordinator)
        proxy.heal()
        assert not fails(coordinator)


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
def test_one_call_tries_after_the_reset_time_and_the_others_are_refused_meanwhile(
    proxy: FaultProxy, through_proxy: Coordinators, quick_reset: float
) -> None:
    # given an open breaker whose time to try has come, and a server that does not answer
    coordinator = through_proxy(call_timeout=0.6)
    proxy.refuse()
    assert open_breaker(coordinator).retry_after <= quick_reset
    proxy.heal()
    proxy.black_hole()
    threading.Event().wait(quick_reset)
    before = proxy.connections

    # when ten call at once
    refusals = in_threads(10, lambda: coordinator.stats(INBOX))

    # then one of them went to the server, with one attempt
    assert proxy.connections == before + 1
    kinds = [isinstance(error, CircuitBreakerOpenError) for error in refusals]
    assert sorted(kinds) == [False] + [True] * 9


@pytest.mark.guarantee("2.13")
def test_it_closes_by_itself_when_the_server_is_back(
    own_server: OwnServers, coordinators: Coordinators, quick_reset: float
) -> None:
    server = own_server()
    coordinator = coordinators(server.client(), call_timeout=0.3)
    coordinator.stats(INBOX)
    server.kill()
    open_breaker(coordinator)
    server.start()

    eventually(lambda: not fails(coordinator), timeout=quick_reset + 1.0)

    assert coordinator.send_message(SENDER, INBOX, message(1)).delivered


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
def test_leases_and_commands_have_breakers_of_their_own(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    # given acks that never get a reply
    coordinator = through_proxy(call_timeout=0.5)
    coordinator.send_message(SENDER, INBOX, message(1))
    sha = scripts.ACK.sha.encode()

    def is_ack(command: Command) -> bool:
        return command.name == "EVALSHA" and command.args[0] == sha

    proxy.drop_reply_of(is_ack, times=10**6)
    while True:
        try:
            coordinator.ack(INBOX, TOKEN)
        except CoordinatorCircuitOpenError:
            break
        except CoordinatorUnavailableError:
            continue

    # then everything but leases goes on, and extend is refused as ack is
    assert coordinator.receive(INBOX) is not None
    with pytest.raises(CoordinatorCircuitOpenError, match="redis-leases"):
        coordinator.extend(INBOX, TOKEN, 5.0)

    # and the other way round
    proxy.heal()
    eventually(lambda: not lease_fails(coordinator), timeout=3.0)
    proxy.refuse()
    assert "redis-commands" in str(open_breaker(coordinator))
    proxy.heal()
    assert coordinator.ack(INBOX, TOKEN) is LeaseOutcome.UNKNOWN


def lease_fails(coordinator: RedisMessageCoordinator) -> bool:
    try:
        coordinator.ack(INBOX, TOKEN)
    except CoordinatorUnavailableError:
        return True
    return False


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
def test_twenty_idle_connections_that_the_server_closed_do_not_open_it(
    backend: Backend,
    proxy: FaultProxy,
    through_proxy: Coordinators,
    caplog: pytest.LogCaptureFixture,
) -> None:
    coordinator, client = through_proxy(), backend.client()
    others = {entry["id"] for entry in client.client_list()}
    proxy.delay(0.2)
    assert not in_threads(20, lambda: coordinator.stats(INBOX))
    assert proxy.connections == 20
    proxy.heal()

    for number in {entry["id"] for entry in client.client_list()} - others:
        client.client_kill_filter(_id=number)

    assert not in_threads(20, lambda: coordinator.stats(INBOX))
    assert not caplog.records


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
def test_twenty_calls_whose_connections_break_at_once_do_not_open_it(
    proxy: FaultProxy, through_proxy: Coordinators, caplog: pytest.LogCaptureFixture
) -> None:
    # given twenty calls whose replies are on their way
    coordinator = through_proxy()
    in_threads(20, lambda: coordinator.stats(INBOX))
    proxy.delay(5.0)
    proxy.forget()
    calls = threading.Thread(
        target=lambda: in_threads(20, lambda: coordinator.stats(INBOX)), name="calls"
    )
    calls.start()
    proxy.wait_for("EVALSHA", count=20)

    # when every connection breaks, once
    proxy.reset()
    proxy.heal()
    calls.join()

    # then each is made again, and the first failure of none was counted
    assert proxy.count("EVALSHA") == 40
    assert not caplog.records


@pytest.mark.backend("valkey")
def test_an_outage_is_one_line_in_the_log_and_its_end_another(
    proxy: FaultProxy,
    through_proxy: Coordinators,
    quick_reset: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "tta_agent_coordination")
    coordinator = through_proxy(call_timeout=0.3)
    proxy.refuse()
    began = time.monotonic()
    trials = 0
    while trials < 3 or time.monotonic() - began < 4 * quick_reset:
        open_breaker(coordinator)
        threading.Event().wait(quick_reset)
        trials += 1
    proxy.heal()
    eventually(lambda: not fails(coordinator))

    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "circuit breaker redis-commands: open after closed"),
        ("INFO", "circuit breaker redis-commands: closed after half-open"),
    ]
    assert {record.name for record in caplog.records} == {LOGGER}


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
def test_a_call_that_was_under_way_when_it_opened_closes_it_with_its_success(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    # given a call whose reply takes half a second
    coordinator = through_proxy(call_timeout=5.0)
    coordinator.stats(INBOX)
    slow = threading.Thread(target=lambda: coordinator.stats(INBOX), name="slow")
    proxy.forget()
    proxy.delay(0.5)
    slow.start()
    proxy.wait_for("EVALSHA")

    # when others fail meanwhile, so that the breaker opens
    link = coordinator._calls.link
    for _ in range(5):
        link.commands._breaker.failed(ConnectionError("lost"), trial=False)
    assert link.commands.state == "open"
    slow.join()

    # then its answer is proof enough that the server is there
    assert link.commands.state == "closed"
