"""How often a command reaches the server, and how long a call takes at most."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.conftest import OwnServers
from tests.faults.calls import CALLS, INBOX, INBOXES, SENDER, Call, Stage, message
from tests.faults.conftest import Coordinators
from tests.faults.test_lost_replies import describe
from tests.support.backends import Backend
from tests.support.waiting import SLACK, eventually
from tta_agent_coordination import CoordinatorUnavailableError, RedisMessageCoordinator
from tta_agent_coordination.proxy import Command, FaultProxy
from tta_agent_coordination.transport import gate, scripts
from tta_agent_coordination.transport.link import Link

CALL_TIMEOUT = 0.6


@contextmanager
def taking(least: float, most: float) -> Iterator[None]:
    """Fail unless the block takes between so many seconds."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert least <= took <= most + SLACK, f"took {took:.3f} s, not {least} to {most}"


def answers(coordinator: RedisMessageCoordinator) -> bool:
    try:
        coordinator.stats(INBOX)
    except CoordinatorUnavailableError:
        return False
    return True


def executions(client: Any, name: str) -> int:
    return client.info("commandstats").get(f"cmdstat_{name}", {"calls": 0})["calls"]


# How often ----------------------------------------------------------------------------------


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
@pytest.mark.parametrize("drops", [0, 1, 2, 3])
def test_a_command_is_sent_once_more_for_each_reply_that_is_lost(
    backend: Backend, proxy: FaultProxy, through_proxy: Coordinators, drops: int
) -> None:
    coordinator, admin = through_proxy(), backend.client()
    coordinator.stats(INBOX)
    before = executions(admin, "evalsha")
    proxy.forget()
    if drops:
        proxy.drop_reply_of("EVALSHA", times=drops)

    coordinator.stats(INBOX)

    assert [command.name for command in proxy.commands] == ["EVALSHA"] * (1 + drops)
    assert executions(admin, "evalsha") - before == 1 + drops


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
@pytest.mark.usefixtures("even_pauses")
@pytest.mark.parametrize("gate_for", ["commands", "leases"])
def test_a_command_whose_replies_are_all_lost_is_sent_until_the_deadline(
    backend: Backend, proxy: FaultProxy, through_proxy: Coordinators, gate_for: str
) -> None:
    coordinator, admin = through_proxy(call_timeout=CALL_TIMEOUT), backend.client()
    coordinator.stats(INBOX)
    before = executions(admin, "evalsha")
    calls = {
        "commands": lambda: coordinator.stats(INBOX),
        "leases": lambda: coordinator.ack(INBOX, "0123456789abcdef:message-1"),
    }
    proxy.forget()
    proxy.drop_reply_of("EVALSHA", times=1000)

    with pytest.raises(CoordinatorUnavailableError) as caught, taking(0.3, CALL_TIMEOUT):
        calls[gate_for]()

    # Pauses of 20, 40, 80 and 160 ms; the next would end after the deadline.
    assert proxy.count("EVALSHA") == 5
    assert executions(admin, "evalsha") - before == 5
    assert caught.value.__cause__ is not None


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
def test_the_commands_of_a_pipeline_are_repeated_together(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy()
    coordinator.broadcast_message(SENDER, message(999), INBOXES)
    proxy.forget()
    proxy.drop_reply_of(2)

    results = coordinator.broadcast_message(SENDER, message(1), INBOXES)

    assert all(result.delivered and not result.duplicate for result in results)
    assert [command.name for command in proxy.commands] == ["EVALSHA"] * 3 * 2
    assert coordinator.stats(INBOX).ready[message(1).priority] == 2


@pytest.mark.guarantee("2.12")
@pytest.mark.backend("valkey")
def test_a_wait_is_one_blocking_command_however_short_the_call_timeout(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy(call_timeout=0.3)

    with taking(1.0, 1.2):
        assert coordinator.receive(INBOX, wait=1.0) is None

    assert proxy.count("BZPOPMIN") == 1
    assert proxy.connections == 1


# How long -----------------------------------------------------------------------------------

Blight = Callable[[FaultProxy], None]
BLIGHTS: dict[str, Blight] = {
    "refused": FaultProxy.refuse,
    "black-hole": FaultProxy.black_hole,
    "drip": lambda proxy: proxy.drip(1.0),
    "delay": lambda proxy: proxy.delay(60.0),
}


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey", "cluster")
@pytest.mark.usefixtures("quick_reset")
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "new"])
@pytest.mark.parametrize("blight", BLIGHTS)
def test_no_call_takes_longer_than_its_timeout_and_the_next_ones_work_again(
    proxy: FaultProxy, through_proxy: Coordinators, blight: str, connected: bool
) -> None:
    coordinator = through_proxy(call_timeout=CALL_TIMEOUT)
    if connected:
        eventually(lambda: answers(coordinator))
    BLIGHTS[blight](proxy)

    with pytest.raises(CoordinatorUnavailableError), taking(0.0, CALL_TIMEOUT):
        coordinator.stats(INBOX)

    proxy.heal()
    eventually(lambda: answers(coordinator), timeout=3.0)


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
def test_a_half_open_connection_costs_a_share_of_the_timeout_and_no_error(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy(call_timeout=CALL_TIMEOUT)
    coordinator.stats(INBOX)
    proxy.half_open()

    with taking(CALL_TIMEOUT / 3, CALL_TIMEOUT / 2):
        coordinator.stats(INBOX)

    assert proxy.connections == 2


@pytest.mark.guarantee("2.13")
def test_a_server_that_pauses_its_clients_holds_no_call_past_its_timeout(
    own_server: OwnServers, coordinators: Coordinators
) -> None:
    server = own_server()
    coordinator = coordinators(server.client(), call_timeout=CALL_TIMEOUT)
    coordinator.stats(INBOX)
    server.admin.client_pause(1500)

    with pytest.raises(CoordinatorUnavailableError), taking(0.0, CALL_TIMEOUT):
        coordinator.stats(INBOX)

    eventually(lambda: answers(coordinator), timeout=5.0)


@pytest.mark.guarantee("2.13")
@pytest.mark.usefixtures("quick_reset")
@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
def test_a_stopped_server_holds_no_call_past_its_timeout(
    own_server: OwnServers, coordinators: Coordinators, tcp: bool
) -> None:
    server = own_server(tcp=tcp)
    connected = coordinators(server.client(), call_timeout=CALL_TIMEOUT)
    new = coordinators(server.client(), call_timeout=CALL_TIMEOUT)
    connected.stats(INBOX)
    server.pause()
    try:
        for coordinator in (connected, new):
            with pytest.raises(CoordinatorUnavailableError), taking(0.0, CALL_TIMEOUT):
                coordinator.stats(INBOX)
    finally:
        server.resume()

    eventually(lambda: answers(connected) and answers(new), timeout=5.0)


# Scripts that the server forgot ----------------------------------------------------------------


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey", "redis62")
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_a_server_that_forgot_its_scripts_before_a_call_is_told_them_again(
    backend: Backend, proxy: FaultProxy, key_prefix: str, coordinators: Coordinators, call: Call
) -> None:
    client = backend.client()

    def play(prefix: str, *, flush: bool) -> Any:
        helper, coordinator = (
            coordinators(target, prefix, **call.options)
            for target in (client, backend.client_through(proxy))
        )
        stage = Stage(coordinator, helper, proxy, call.arrange(helper))
        proxy.forget()
        if flush:
            client.script_flush()
        return describe(call.act(stage))

    assert play(f"{key_prefix}-a", flush=True) == play(f"{key_prefix}-b", flush=False)


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
def test_scripts_may_be_forgotten_in_the_middle_of_a_pipeline(
    backend: Backend, proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    # given a pipeline of six scripts, each longer than one read of the proxy
    coordinator, client = through_proxy(), backend.client()
    client.script_flush()
    text = "x" * 2_000

    def flush_before(command: Command) -> bool:
        if command.name == "EVALSHA" and proxy.count("EVALSHA") <= 10:
            client.script_flush()
        return False

    # when the scripts are flushed before each of them, and in the middle of the repetition
    fault = proxy.drop_reply_of(flush_before)
    results = coordinator.send_many(
        SENDER, [message(number, headers={"text": text}) for number in range(600)]
    )

    # then every message is stored, once and in order
    assert not fault.used_up
    assert all(result.delivered and not result.duplicate for result in results)
    received = coordinator.receive_many(INBOX, 600)
    assert [got.message.payload["number"] for got in received] == list(range(600))


@pytest.mark.backend("valkey")
def test_a_server_that_never_keeps_a_script_is_given_up_within_the_deadline(
    backend: Backend,
) -> None:
    wrong = scripts.Script("wrong", ("messages",), (), "return 1", sha="0" * 40)
    link = Link(backend.client(), call_timeout=CALL_TIMEOUT)
    command = gate.Command(("EVALSHA", wrong.sha, 0), wrong)

    with pytest.raises(CoordinatorUnavailableError, match="No matching script"):
        link.commands.run("key", command)

    assert link.commands.state == "closed"
    link.close()
