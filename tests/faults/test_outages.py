"""Servers that are away for a while: what fails says so, and work goes on by itself."""

import threading
import time

import pytest
import redis

from tests.conftest import OwnServers
from tests.faults.calls import INBOX, SENDER, message
from tests.faults.conftest import Coordinators
from tests.faults.test_gate import CALL_TIMEOUT, answers, taking
from tests.faults.test_threads import beside
from tests.support.waiting import eventually
from tta_agent_coordination import (
    CoordinatorUnavailableError,
    ReceivedMessage,
    RedisMessageCoordinator,
)

pytestmark = [pytest.mark.guarantee("2.13"), pytest.mark.usefixtures("quick_reset")]


@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
def test_a_coordinator_may_be_made_while_the_server_is_down(
    own_server: OwnServers, coordinators: Coordinators, tcp: bool
) -> None:
    server = own_server(tcp=tcp)
    server.stop()

    coordinator = coordinators(server.client(), call_timeout=CALL_TIMEOUT)
    with pytest.raises(CoordinatorUnavailableError) as caught, taking(0.0, CALL_TIMEOUT):
        coordinator.send_message(SENDER, INBOX, message(1))
    assert isinstance(caught.value.__cause__, redis.ConnectionError)

    server.start()
    eventually(lambda: answers(coordinator))


def test_a_server_that_dies_between_two_calls_is_used_again_when_it_is_back(
    own_server: OwnServers, coordinators: Coordinators
) -> None:
    server = own_server()
    coordinator = coordinators(server.client(), call_timeout=CALL_TIMEOUT)
    coordinator.send_message(SENDER, INBOX, message(1))
    server.kill()

    with pytest.raises(CoordinatorUnavailableError), taking(0.0, CALL_TIMEOUT):
        coordinator.send_message(SENDER, INBOX, message(2))

    server.start()
    eventually(lambda: answers(coordinator))
    assert coordinator.send_message(SENDER, INBOX, message(2)).delivered


def test_a_server_that_is_restarted_during_a_call_costs_only_time(
    own_server: OwnServers, coordinators: Coordinators
) -> None:
    server = own_server()
    coordinator = coordinators(server.client(), call_timeout=10.0)
    coordinator.stats(INBOX)
    server.kill()

    with beside("starter", server.start):
        result = coordinator.send_message(SENDER, INBOX, message(1))

    assert result.delivered
    assert not result.duplicate


def test_a_restart_between_two_calls_is_not_even_noticed(
    own_server: OwnServers, coordinators: Coordinators
) -> None:
    server = own_server()
    coordinator = coordinators(server.client())
    for number in range(3):
        assert coordinator.send_message(SENDER, INBOX, message(number)).delivered
        server.restart()


def test_a_restart_during_a_wait_costs_the_waiting_consumer_nothing(
    own_server: OwnServers, coordinators: Coordinators
) -> None:
    server = own_server()
    consumer = coordinators(server.client())
    received: list[ReceivedMessage | None] = []

    def wait() -> None:
        received.append(consumer.receive(INBOX, wait=20.0))

    with beside("consumer", wait):
        eventually(lambda: waiting(server.admin) == 1)
        server.restart()
        eventually(lambda: waiting(server.admin) == 1)
        coordinators(server.client()).send_message(SENDER, INBOX, message(1))
    assert [got and got.message.message_id for got in received] == ["message-0001"]


def waiting(admin: redis.Redis) -> int:
    return sum(entry["cmd"].lower() == "bzpopmin" for entry in admin.client_list())


def test_a_wait_ends_with_an_error_when_the_server_stays_away(
    own_server: OwnServers, coordinators: Coordinators
) -> None:
    server = own_server()
    consumer = coordinators(server.client(), call_timeout=CALL_TIMEOUT)
    ends: list[float] = []

    def wait() -> None:
        with pytest.raises(CoordinatorUnavailableError):
            consumer.receive(INBOX, wait=60.0)
        ends.append(time.monotonic())

    with beside("consumer", wait):
        eventually(lambda: waiting(server.admin) == 1)
        server.kill()
        killed = time.monotonic()
    assert ends[0] - killed < CALL_TIMEOUT + 0.5


def test_consumers_that_just_call_again_go_on_when_the_server_is_back(
    own_server: OwnServers, coordinators: Coordinators
) -> None:
    server = own_server()
    consumer = coordinators(server.client(), call_timeout=CALL_TIMEOUT)
    received: list[ReceivedMessage] = []

    def consume(coordinator: RedisMessageCoordinator) -> None:
        pause = threading.Event()
        while not received:
            try:
                got = coordinator.receive(INBOX, wait=20.0)
            except CoordinatorUnavailableError:
                pause.wait(0.02)
            else:
                received.extend([got] if got else [])

    with beside("consumer", lambda: consume(consumer)):
        eventually(lambda: waiting(server.admin) == 1)
        server.kill()
        eventually(lambda: consumer._calls.link.commands.state == "open")
        server.start()
        coordinators(server.client()).send_message(SENDER, INBOX, message(1))
    assert received[0].message.message_id == "message-0001"
