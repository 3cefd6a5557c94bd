"""Sentinels that choose another primary, and work that goes on there by itself."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from tests.conftest import OwnServers
from tests.faults.calls import CALLS, INBOX, SENDER, Stage, message
from tests.faults.conftest import Coordinators
from tests.faults.test_gate import taking
from tests.faults.test_threads import beside
from tests.faults.traffic import Traffic, until_it_works
from tests.support.sentinels import NAME, Sentinels
from tests.support.servers import LocalServer, binary_of
from tests.support.waiting import SLACK, eventually, holds_within
from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentWorker,
    ConfigurationError,
    CoordinatorUnavailableError,
    ReceivedMessage,
    RedisAgentRegistry,
    RedisMessageCoordinator,
)
from tta_agent_coordination.errors import CoordinatorAccessError
from tta_agent_coordination.proxy import FaultProxy
from tta_agent_coordination.transport import sentinel
from tta_agent_coordination.transport.connections import route_to
from tta_agent_coordination.transport.deadline import until
from tta_agent_coordination.transport.sentinel import SentinelAddress, SentinelRoute
from tta_agent_coordination.transport.url import target_of

pytestmark = pytest.mark.guarantee("2.13")

CLIENT = "fail-over-tests"
PATIENT = 15.0
"""A call_timeout within which a fail-over is over, on a busy machine too."""
NOWHERE = ("127.0.0.1", 1)


@pytest.fixture(scope="module")
def group() -> Iterator[Sentinels]:
    """A primary, a replica and three sentinels."""
    with Sentinels(binary_of("valkey")) as group:
        yield group


@pytest.fixture
def sentinels(group: Sentinels) -> Iterator[Sentinels]:
    """The same, mended after the test; every connection must be closed by then."""
    yield group
    group.mend()
    servers = (*group.nodes, *group.sentinels)
    tidy = holds_within(2.0, lambda: not any(map(_ours, servers)))
    assert tidy, f"connections left behind: {[_ours(server) for server in servers]}"


def _ours(server: LocalServer) -> list[str]:
    return [entry["name"] for entry in server.admin.client_list() if entry["name"] == CLIENT]


@pytest.fixture
def prefix() -> str:
    """A prefix of the test's own; the servers go with the module."""
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
def connect(sentinels: Sentinels, prefix: str) -> Iterator[Coordinators]:
    """Make coordinators by the URL of the sentinels."""
    with ExitStack() as made:

        def make(**options: Any) -> RedisMessageCoordinator:
            return made.enter_context(
                RedisMessageCoordinator.from_url(url_of(sentinels), prefix, **options)
            )

        yield make


def url_of(sentinels: Sentinels) -> str:
    return f"{sentinels.url}?client_name={CLIENT}"


def route_of(coordinator: RedisMessageCoordinator) -> SentinelRoute:
    route = coordinator.internals.link.route()
    assert isinstance(route, SentinelRoute)
    return route


# Fail-over ---------------------------------------------------------------------------------------


def kill(sentinels: Sentinels) -> None:
    before = sentinels.primary
    before.kill()
    sentinels.await_primary_other_than(before)


def suspend(sentinels: Sentinels) -> None:
    before = sentinels.primary
    before.pause()
    sentinels.await_primary_other_than(before)


@pytest.mark.parametrize("happen", [kill, suspend, Sentinels.fail_over])
def test_what_a_replica_had_is_not_lost_and_work_goes_on_by_itself(
    sentinels: Sentinels, connect: Coordinators, happen: Callable[[Sentinels], None]
) -> None:
    coordinator = connect(call_timeout=3.0, replicas=1, replicas_timeout=0.3)
    traffic = Traffic(coordinator, happen.__name__)
    with traffic.flowing():
        traffic.await_more()
        happen(sentinels)
        sentinels.mend()  # with one replica, nothing is safe until the other is back
        traffic.await_more()
    assert traffic.longest < 3.0 + SLACK


def test_nothing_is_lost_when_the_primary_stops_writes_before_it_is_replaced(
    sentinels: Sentinels, connect: Coordinators
) -> None:
    traffic = Traffic(connect(), "coordinated", replicated=False)
    with traffic.flowing():
        traffic.await_more()
        sentinels.fail_over("COORDINATED")
        traffic.await_more()
    assert not traffic.errors


def test_the_doctor_looks_at_the_primary_that_sentinels_name(
    sentinels: Sentinels, connect: Coordinators
) -> None:
    [role] = [one for one in connect().check().findings if one.name == "role"]
    port = sentinels.primary.admin.connection_pool.connection_kwargs["port"]
    assert role.server.endswith(f":{port}")


def test_every_call_works_at_a_primary_behind_sentinels(
    sentinels: Sentinels, connect: Coordinators, prefix: str
) -> None:
    for call in CALLS:
        if call.name != "receive-with-wait":  # it needs a proxy
            coordinator = connect(**call.options)
            call.act(
                Stage(coordinator, coordinator, cast("FaultProxy", None), call.arrange(coordinator))
            )
            coordinator.close()
            for key in sentinels.primary.admin.scan_iter(f"{prefix}*"):
                sentinels.primary.admin.unlink(key)


def test_a_call_in_flight_outlasts_a_fail_over_that_is_shorter(
    sentinels: Sentinels, connect: Coordinators, caplog: pytest.LogCaptureFixture
) -> None:
    coordinator = connect(call_timeout=PATIENT)
    coordinator.send_message(SENDER, INBOX, message(1))
    consumer = connect(call_timeout=PATIENT)
    received: list[ReceivedMessage | None] = []

    def wait() -> None:
        received.append(consumer.receive(AgentId("waiting"), wait=60.0))

    with beside("consumer", wait):
        eventually(lambda: waiting_at(sentinels.primary) == 1)
        before = sentinels.primary
        before.kill()
        assert coordinator.send_message(SENDER, INBOX, message(2)).delivered
        coordinator.send_message(SENDER, AgentId("waiting"), message(3))
    assert [got and got.message.message_id for got in received] == ["message-0003"]
    old, new = before.address[1], sentinels.await_primary_other_than(before).address[1]
    lines = [text for text in caplog.messages if text.startswith("the primary of")]
    assert lines == [f"the primary of agents is now 127.0.0.1:{new}; it was 127.0.0.1:{old}"] * 2


def waiting_at(server: LocalServer) -> int:
    return sum(entry["cmd"].lower() == "bzpopmin" for entry in server.admin.client_list())


def test_who_waits_at_a_primary_that_hangs_is_called_away(
    sentinels: Sentinels, connect: Coordinators
) -> None:
    """Its connection says nothing; another call of the coordinator finds the new primary."""
    coordinator = connect(call_timeout=6.0)
    received: list[ReceivedMessage | None] = []

    def wait() -> None:
        received.append(coordinator.receive(INBOX, wait=60.0))

    with beside("consumer", wait):
        eventually(lambda: waiting_at(sentinels.primary) == 1)
        suspend(sentinels)
        with taking(0.0, 8.0):  # less than the slice of 12 s after which it looks by itself
            coordinator.send_message(SENDER, INBOX, message(1))
            eventually(lambda: received)
    assert [got and got.message.message_id for got in received] == ["message-0001"]


class Greeter(Agent):
    """Says so when it is asked."""

    def __init__(self) -> None:
        super().__init__(AgentId("greeter", "1"))
        self.greeted = threading.Event()

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        self.greeted.set()
        return payload


def test_workers_and_registries_go_on_at_the_new_primary(
    sentinels: Sentinels, connect: Coordinators, prefix: str
) -> None:
    registry = RedisAgentRegistry.from_url(
        url_of(sentinels), prefix, heartbeat_ttl_s=1.5, heartbeat_interval_s=0.2
    )
    greeter, coordinator = Greeter(), connect(call_timeout=2.0)
    with registry, AgentWorker(greeter, coordinator, registry, threads=1):
        eventually(lambda: len(registry.list_registered()) == 1)
        kill(sentinels)
        sentinels.primary.admin.flushall()  # as if the replica had known nothing

        until_it_works(lambda: coordinator.send_message(SENDER, greeter.agent_id, message(1)))
        assert greeter.greeted.wait(20.0)
        eventually(lambda: _alive(registry) == [greeter.agent_id], timeout=20.0)


def _alive(registry: RedisAgentRegistry) -> list[AgentId]:
    try:
        return [record.agent_id for record in registry.list_registered()]
    except CoordinatorUnavailableError:
        return []


def test_an_old_primary_that_refuses_writes_is_left_at_once(
    sentinels: Sentinels, connect: Coordinators
) -> None:
    coordinator = connect()
    coordinator.send_message(SENDER, INBOX, message(1))
    route = route_of(coordinator)
    replica = sentinels.replica.address
    own = redis.ConnectionPool(**route._to_primary, host=replica[0], port=replica[1])
    route._take(replica, type(route.pool(""))(own))

    with taking(0.0, 1.0):
        result = coordinator.send_message(SENDER, INBOX, message(2))

    assert result.delivered
    assert route._primary is not None
    assert route._primary[0] == sentinels.primary.address


# Sentinels ---------------------------------------------------------------------------------------


def test_sentinels_that_are_away_are_passed_over_and_asked_last_next_time(
    sentinels: Sentinels, connect: Coordinators
) -> None:
    dead, silent, well = sentinels.sentinels
    dead.kill()
    assert sentinels.primary in sentinels.nodes, "the next one is asked"
    silent.pause()
    coordinator = connect(call_timeout=3.0)
    assert coordinator.send_message(SENDER, INBOX, message(1)).delivered
    route = route_of(coordinator)
    assert route._sentinels[0] == well.address
    route.refresh()
    with taking(0.0, 0.2):
        coordinator.stats(INBOX)


def test_a_sentinel_that_names_a_replica_is_not_believed(
    sentinels: Sentinels, own_server: OwnServers
) -> None:
    # A replica that they do not watch: they would tell the wrong one who is the primary.
    host, port = own_server(tcp=True).address
    port = own_server(tcp=True, options=("--replicaof", host, str(port))).address[1]
    wrong = own_server(
        tcp=True,
        options=("--sentinel",),
        config=f"sentinel monitor {NAME} 127.0.0.1 {port} 1\n"
        f"sentinel down-after-milliseconds {NAME} 60000\n",
    )
    route = SentinelRoute(SentinelAddress(NAME, (wrong.address, *sentinels.addresses)), limit=2.0)
    route.pool("any")
    assert route._primary is not None
    assert route._primary[0] == sentinels.primary.address
    route.close()

    alone = SentinelRoute(SentinelAddress(NAME, (wrong.address,)), limit=2.0)
    with pytest.raises(redis.ConnectionError, match=rf"127.0.0.1:{port}, .* is a replica"):
        alone.pool("any")
    alone.close()


def test_a_primary_that_nobody_reaches_is_tried_once_and_not_for_each_sentinel(
    sentinels: Sentinels,
) -> None:
    sentinels.primary.pause()
    route = SentinelRoute(target_of(sentinels.url), limit=0.6)
    refused = pytest.raises(redis.ConnectionError, match="no primary of 'agents'")
    with refused, taking(0.0, 1.3), until(time.monotonic() + 3.0):
        route.pool("any")
    route.close()
    sentinels.primary.resume()


def test_a_name_that_sentinels_do_not_know_is_an_error_of_configuration(
    sentinels: Sentinels, coordinators: Coordinators
) -> None:
    address = SentinelAddress("agent", tuple(sentinels.addresses))
    coordinator = coordinators(address, call_timeout=PATIENT)
    with taking(0.0, 1.0), pytest.raises(ConfigurationError) as caught:
        coordinator.stats(INBOX)
    host, port = sentinels.addresses[0]
    assert f"{host}:{port}" in str(caught.value)
    assert "knows a primary named 'agent'" in str(caught.value)


def test_the_error_names_the_sentinels_when_none_answers(coordinators: Coordinators) -> None:
    url = "redis+sentinel://127.0.0.1:1,[::1]:2/agents"
    coordinator = coordinators(target_of(url), call_timeout=0.3)
    with pytest.raises(CoordinatorUnavailableError) as caught:
        coordinator.stats(INBOX)
    text = str(caught.value)
    assert "no primary of 'agents'" in text
    assert "127.0.0.1:1: " in text
    assert "[::1]:2: " in text


def test_a_primary_found_while_the_coordinator_closes_is_not_kept(
    sentinels: Sentinels, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = SentinelRoute(target_of(url_of(sentinels)), limit=1.0)
    ask = route._ask

    def close_meanwhile() -> object:
        found = ask()
        route.close()
        return found

    monkeypatch.setattr(route, "_ask", close_meanwhile)
    assert not route.pool("any")._at_hand


def test_ctrl_c_while_a_primary_is_asked_leaves_no_reply_behind(
    sentinels: Sentinels, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = SentinelRoute(target_of(url_of(sentinels)), limit=1.0)
    ask, asked = sentinel._ask, list[Any]()

    def interrupted(connection: Any, *words: object) -> object:
        if words[0] == "HELLO":
            asked.append(connection)
            raise KeyboardInterrupt
        return ask(connection, *words)

    with monkeypatch.context() as during:
        during.setattr(sentinel, "_ask", interrupted)
        with pytest.raises(KeyboardInterrupt):
            route.pool("any")
    assert [connection._sock for connection in asked] == [None]
    route.pool("any")  # and it is asked again
    route.close()


# Credentials and clients -------------------------------------------------------------------------


@pytest.fixture
def guarded(own_server: OwnServers) -> tuple[LocalServer, LocalServer]:
    """A server and a sentinel with passwords of their own."""
    server = own_server(tcp=True)
    config = f"sentinel monitor {NAME} 127.0.0.1 {server.address[1]} 1\n"
    sentinel = own_server(tcp=True, options=("--sentinel",), config=config)
    for each, password in ((server, "of-the-server"), (sentinel, "of-the-sentinel")):
        each.admin.acl_setuser(
            "default", enabled=True, reset_passwords=True, passwords=[f"+{password}"]
        )
    return server, sentinel


def test_sentinels_and_servers_have_credentials_of_their_own(
    guarded: tuple[LocalServer, LocalServer], coordinators: Coordinators
) -> None:
    host, port = guarded[1].address
    good = f"redis+sentinel://:of-the-server@{host}:{port}/{NAME}?sentinel_password=of-the-sentinel"
    assert coordinators(target_of(good)).send_message(SENDER, INBOX, message(1)).delivered

    for url in (good.partition("?")[0], good.replace("of-the-server", "wrong")):
        coordinator = coordinators(target_of(url), call_timeout=PATIENT)
        with taking(0.0, 1.0), pytest.raises(CoordinatorAccessError) as caught:
            coordinator.stats(INBOX)
        assert f"{host}:{port}: " in str(caught.value)
        assert "sentinel_password" in str(caught.value)
        assert "of-the" not in str(caught.value)


def test_a_client_that_a_sentinel_made_tells_where_the_sentinels_are(
    guarded: tuple[LocalServer, LocalServer], coordinators: Coordinators
) -> None:
    maker = Sentinel(
        [NOWHERE, guarded[1].address],
        sentinel_kwargs={"password": "of-the-sentinel", "retry": Retry(NoBackoff(), 0)},
        password="of-the-server",
        db=3,
        socket_timeout=99.0,
    )
    client = maker.master_for(NAME)
    coordinator = coordinators(client)
    assert coordinator.send_message(SENDER, INBOX, message(1)).delivered
    assert route_of(coordinator)._to_primary["db"] == 3
    assert client.dbsize() > 0
    for made in (client, *maker.sentinels):
        made.close()


def test_after_a_search_in_vain_the_next_command_searches_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    route = route_to(Sentinel([NOWHERE]).master_for(NAME), limit=1.0)
    assert isinstance(route, SentinelRoute)
    answers: list[object] = []

    def ask() -> object:
        answers.append(None)
        if len(answers) in (2, 3):
            raise redis.ConnectionError("no sentinel answers")
        pool = SimpleNamespace(retire=lambda: None, disconnect=lambda **_: None)
        return (f"server-{len(answers)}", 1), pool

    monkeypatch.setattr(route, "_ask", ask)
    first = route.pool("any")
    assert route.pool("any") is first
    route.refresh()
    for _ in range(2):
        with pytest.raises(redis.ConnectionError, match="no sentinel"):
            route.pool("any")
    assert list(route.servers()) == ["server-4:1"]
    assert route.pool("any") is route.pool("any") is not first
    assert len(answers) == 4
    route.close()


def test_a_client_for_replicas_is_refused() -> None:
    maker = Sentinel([NOWHERE])
    with pytest.raises(ConfigurationError, match="master_for"):
        route_to(maker.slave_for(NAME), limit=1.0)


def test_a_client_that_replaces_the_address_it_is_told_is_followed(
    guarded: tuple[LocalServer, LocalServer],
) -> None:
    maker = Sentinel(
        [guarded[1].address], sentinel_kwargs={"password": "of-the-sentinel"},
        force_master_ip="localhost", password="of-the-server",
    )  # fmt: skip
    route = route_to(maker.master_for(NAME), limit=1.0)
    assert isinstance(route, SentinelRoute)
    route.pool("any")
    assert route._primary is not None
    assert route._primary[0] == ("localhost", guarded[0].address[1])
    route.close()


@pytest.mark.parametrize("ssl", [True, False])
def test_tls_is_kept_for_what_a_sentinel_names(ssl: bool) -> None:
    maker = Sentinel([NOWHERE], sentinel_kwargs={"ssl": ssl}, ssl=ssl)
    route = route_to(maker.master_for(NAME), limit=1.0)
    assert isinstance(route, SentinelRoute)
    for settings in (route._to_primary, route._to_sentinels):
        assert issubclass(settings["connection_class"], redis.SSLConnection) is ssl
    route.close()
