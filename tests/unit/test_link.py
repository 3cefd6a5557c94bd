"""Where a client points, what is taken from it, and what of ours is opened and closed."""

import gc
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import fakeredis
import pytest
import redis
import redis.asyncio
from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException

from tests.support.backends import Backend
from tests.support.waiting import SLACK, eventually
from tta_agent_coordination import policy
from tta_agent_coordination.errors import (
    ConfigurationError,
    CoordinationError,
    CoordinatorCircuitOpenError,
    CoordinatorUnavailableError,
)
from tta_agent_coordination.proxy import FaultProxy
from tta_agent_coordination.transport import speech
from tta_agent_coordination.transport.bounded import bounded
from tta_agent_coordination.transport.cluster import ClusterAddress, ClusterRoute
from tta_agent_coordination.transport.connections import Route, ServerRoute, route_to
from tta_agent_coordination.transport.deadline import DeadlineSocket, until
from tta_agent_coordination.transport.gate import Command
from tta_agent_coordination.transport.link import Link
from tta_agent_coordination.transport.url import target_of

PING = Command(("PING",))
NOWHERE = ("127.0.0.1", 1)


@contextmanager
def link_to(target: object, **options: Any) -> Iterator[Link]:
    link = Link(target, **{"call_timeout": 5.0, **options})
    try:
        yield link
    finally:
        link.close()


def settings_of(client: object) -> dict[str, Any]:
    return dict(route_to(client, limit=1.5).pool("any").pool.connection_kwargs)


# What is taken from a client -----------------------------------------------------------------


@pytest.mark.parametrize(
    "target", [None, "redis://localhost", redis.asyncio.Redis(), redis.ConnectionPool()]
)
def test_only_synchronous_clients_will_do(target: object) -> None:
    with pytest.raises(TypeError, match="redis must be"):
        Link(target, call_timeout=1.0)


def test_the_address_and_the_credentials_of_a_client_are_taken() -> None:
    client = redis.Redis(
        host="example", port=7000, db=3, username="u", password="p", client_name="n"
    )
    taken = settings_of(client)
    expected = {"host": "example", "port": 7000, "db": 3, "username": "u", "password": "p"}
    assert taken | expected == taken
    assert taken["client_name"] == "n"


def test_its_retries_time_outs_limits_and_ways_of_reading_are_not() -> None:
    client = redis.Redis(
        socket_timeout=99.0,
        socket_connect_timeout=99.0,
        protocol=3,
        decode_responses=True,
        health_check_interval=9,
        max_connections=1,
        retry_on_error=[OSError],
    )
    route = route_to(client, limit=1.5)
    taken = route.pool("any").pool.connection_kwargs
    assert (taken["socket_timeout"], taken["socket_connect_timeout"]) == (1.5, 1.5)
    assert taken["protocol"] == 2
    assert taken["retry"].get_retries() == 0
    assert not {"decode_responses", "health_check_interval", "retry_on_error"} & set(taken)
    assert route.pool("any").pool.max_connections > 1_000_000


def test_tls_is_kept() -> None:
    client = redis.Redis(ssl=True, ssl_ca_certs="/ca.pem", ssl_cert_reqs="required")
    pool = route_to(client, limit=1.0).pool("any").pool
    assert issubclass(pool.connection_class, redis.SSLConnection)
    assert pool.connection_kwargs["ssl_ca_certs"] == "/ca.pem"


@pytest.mark.parametrize(
    "settings", [{"ssl": True}, {"connection_class": redis.SSLConnection}], ids=["flag", "class"]
)
def test_tls_is_kept_for_a_cluster(settings: dict[str, Any]) -> None:
    route = ClusterRoute(ClusterAddress((NOWHERE,), settings), limit=0.5)
    assert route._settings["connection_class"] is bounded(redis.SSLConnection)
    assert "ssl" not in route._settings
    with pytest.raises(RedisClusterException):
        route.pool("key")


def test_a_cluster_node_may_have_an_address_with_colons() -> None:
    route = ClusterRoute(ClusterAddress((("::1", 1), NOWHERE)), limit=0.5)
    with pytest.raises(RedisClusterException, match="cannot be connected"):
        route.pool("key")
    route.refresh()
    route.close()


def test_passwords_of_a_cluster_are_not_shown() -> None:
    assert "secret" not in repr(ClusterAddress((NOWHERE,), {"password": "secret"}))


@pytest.mark.backend("cluster")
def test_a_cluster_client_tells_its_nodes_and_settings(backend: Backend, proxy: FaultProxy) -> None:
    client = backend.client_through(proxy, client_name="ours")
    assert isinstance(client, RedisCluster)
    address = ClusterAddress.of(client)
    assert {port for _, port in address.nodes} == set(proxy.ports)
    assert address.settings["client_name"] == "ours"
    assert address.settings["address_remap"] == proxy.remap
    with link_to(client) as link:
        assert link.route().spread
        assert link.commands.run("key", PING) == [b"PONG"]


@pytest.mark.backend("cluster")
def test_a_slot_that_no_node_owns_is_an_outage(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = route_to(backend.client(), limit=1.0)
    route.pool("key")
    monkeypatch.setattr(route._cluster, "get_node_from_key", lambda _key: None)
    with pytest.raises(redis.ConnectionError, match="no node"):
        route.pool("key")
    route.close()


@pytest.mark.backend("cluster")
def test_after_a_failure_the_map_of_slots_is_read_again(
    backend: Backend, proxy: FaultProxy
) -> None:
    with link_to(backend.client_through(proxy)) as link:
        link.commands.run("key", PING)
        proxy.forget()
        link.commands.run("key", PING)
        assert proxy.count("CLUSTER") == 0
        link.route().refresh()
        link.commands.run("key", PING)
        assert proxy.count("CLUSTER") == 1


@pytest.mark.backend("cluster")
def test_who_waits_at_a_node_that_is_no_primary_any_more_is_called_away(
    backend: Backend, key_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a connection that waits, at a node that says nothing of its end
    route = route_to(backend.client(), limit=5.0)
    pool = route.pool(key_prefix)
    connection = pool.get_connection()
    connection.send_packed_command(connection.pack_command("BLPOP", key_prefix, 30))

    # when the map of the cluster has another primary in its place
    known = route._cluster
    others = [node for node in known.get_primaries() if pool.pool is not pool_of(node)]
    assert len(others) == 2
    with monkeypatch.context() as changed:
        changed.setattr(known, "get_primaries", lambda: others)
        route.refresh()
        route.pool(key_prefix)

    # then it ends, and the node gets new connections should it be one again
    with pytest.raises(redis.ConnectionError):
        connection.read_response()
    connection.disconnect()
    pool.release(connection)
    assert route.pool(key_prefix) is not pool
    route.close()


def pool_of(node: Any) -> Any:
    return node.redis_connection and node.redis_connection.connection_pool


# Connections ---------------------------------------------------------------------------------


def test_a_bounded_class_is_made_once_and_fakes_are_left_alone() -> None:
    kind = bounded(redis.Connection)
    assert kind is bounded(redis.Connection)
    assert kind is bounded(kind)
    fake = fakeredis.FakeRedis().connection_pool.connection_class
    assert bounded(fake) is fake


def test_connecting_gets_what_is_left_to_the_call_for_each_address() -> None:
    connection = bounded(redis.Connection)(socket_timeout=9.0, socket_connect_timeout=9.0)
    assert connection.socket_connect_timeout == 9.0
    now = time.monotonic()
    with until(now + 2.0):
        assert 1.0 < connection.socket_connect_timeout <= 2.0
    with until(now - 1.0):
        assert connection.socket_connect_timeout == 0.001
    assert connection.socket_connect_timeout == 9.0


# redis-py leaves the socket that could not connect to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    "settings",
    [{"host": "127.0.0.1"}, {"connection_class": redis.UnixDomainSocketConnection}],
    ids=["tcp", "unix"],
)
def test_connecting_that_takes_too_long_is_a_time_out(settings: dict[str, Any]) -> None:
    kind = bounded(settings.pop("connection_class", redis.Connection))
    connection = kind(**settings)
    with until(time.monotonic() - 1.0), pytest.raises(redis.TimeoutError):
        connection.connect()
    gc.collect()  # here, and not in the middle of another test


@pytest.mark.backend("valkey")
def test_a_connection_that_breaks_off_while_it_opens_is_closed(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = route_to(backend.client(), limit=1.0).pool("any").pool
    connection = pool.connection_class(**pool.connection_kwargs)

    def interrupt(*_arguments: object, **_options: object) -> None:
        assert isinstance(connection._sock, DeadlineSocket)
        raise KeyboardInterrupt

    monkeypatch.setattr(connection, "on_connect_check_health", interrupt)
    with pytest.raises(KeyboardInterrupt):
        connection.connect()
    assert connection._sock is None


# Life cycle ----------------------------------------------------------------------------------


@pytest.mark.backend("valkey", "cluster")
def test_nothing_is_connected_before_the_first_call(backend: Backend, proxy: FaultProxy) -> None:
    client = backend.client_through(proxy)
    before = proxy.connections
    with link_to(client) as link:
        assert proxy.connections == before
        link.commands.run("key", PING)
        assert proxy.connections > before


@pytest.mark.backend("valkey", "cluster", "fakeredis")
def test_a_closed_link_refuses_every_call(backend: Backend) -> None:
    with link_to(backend.client()) as link:
        link.commands.run("key", PING)
        link.close()
        link.close()
        for gate in (link.commands, link.leases):
            with pytest.raises(ConfigurationError, match="closed"):
                gate.run("key", PING)
            with pytest.raises(ConfigurationError, match="closed"), gate.blocking("key", PING, 1):
                pass


@pytest.mark.backend("valkey")
def test_a_connection_that_opens_while_the_link_closes_is_closed_behind_it(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with link_to(backend.client()) as link:
        pool: Any = link.route().pool("any").pool
        kind = pool.connection_class
        connect = kind._connect

        def close_first(connection: object) -> object:
            link.close()
            return connect(connection)

        monkeypatch.setattr(kind, "_connect", close_first)
        assert link.commands.run("key", PING) == [b"PONG"]
        [(connection, _)] = link.route().pool("any")._at_hand
        assert connection._sock is None


@pytest.mark.backend("valkey")
def test_a_child_gets_a_route_of_its_own(backend: Backend) -> None:
    with link_to(backend.client()) as link:
        ours = link.route()
        assert isinstance(ours, ServerRoute)
        assert not ours.spread
        link.commands.run("key", PING)
        link._renew()
        theirs = link.route()
        assert theirs is not ours
        assert link.route() is theirs
        ours.close()


@pytest.mark.backend("valkey")
def test_threads_of_a_child_that_call_at_once_share_one_route(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_ask = threading.Barrier(2, timeout=5)
    with link_to(backend.client()) as link:
        link.route().close()
        link._renew()
        make = link._made

        def made() -> Route:
            both_ask.wait()
            return make()

        monkeypatch.setattr(link, "_made", made)
        with ThreadPoolExecutor(2) as threads:
            first, second = threads.map(lambda _: link.route(), range(2))
        assert first is second is link.route()


@pytest.mark.backend("valkey")
def test_a_child_gets_a_breaker_of_its_own(backend: Backend) -> None:
    with link_to(backend.client()) as link:
        for _ in range(5):
            link.commands._breaker.failed(ConnectionError("lost"), trial=False)
        with pytest.raises(CoordinatorUnavailableError):
            link.commands.run("key", PING)
        link.commands.renew()
        assert link.commands.run("key", PING) == [b"PONG"]
        assert link.commands.state == "closed"
        link.close()
        link.commands.renew()
        with pytest.raises(ConfigurationError, match="closed"):
            link.commands.run("key", PING)


# Blocking commands ---------------------------------------------------------------------------


@pytest.mark.backend("valkey")
def test_a_blocking_command_that_meets_an_error_says_so(backend: Backend, key_prefix: str) -> None:
    client = backend.client()
    client.set(f"{key_prefix}:text", "x")
    wrong = Command(("BZPOPMIN", f"{key_prefix}:text", "1"))
    with (
        link_to(client) as link,
        pytest.raises(Exception, match="WRONGTYPE"),
        link.commands.blocking(f"{key_prefix}:text", wrong, 1.0),
    ):
        pass


@pytest.mark.backend("valkey")
def test_a_blocking_command_whose_connection_fails_just_ends(
    backend: Backend, proxy: FaultProxy, key_prefix: str
) -> None:
    key = f"{key_prefix}:none"
    command = Command(("BZPOPMIN", key, "5"))
    with link_to(backend.client_through(proxy)) as link:
        with link.commands.blocking(key, command, 5.0) as answered:
            assert not answered(0.01)
            proxy.reset()
        assert link.commands.state == "closed"
        assert link.commands.run(key, PING) == [b"PONG"]
        eventually(lambda: proxy.connections == 2)


@pytest.mark.backend("valkey")
def test_a_connection_that_is_just_being_closed_is_not_opened_again_to_look_for_an_answer(
    backend: Backend, proxy: FaultProxy, key_prefix: str
) -> None:
    # given a blocking command, whose connection another thread has begun to close
    key = f"{key_prefix}:none"
    command = Command(("BZPOPMIN", key, "5"))
    with link_to(backend.client_through(proxy)) as link:
        began = time.monotonic()
        with link.commands.blocking(key, command, 5.0) as answered:
            connection = answered._connection
            closing, connection._sock = connection._sock, None
            # when it is asked for the answer, then it says that there is none
            with pytest.raises(redis.ConnectionError, match="closed while an answer"):
                answered(5.0)
            closing.close()
        # and nothing is waited for; from then on it may be opened again
        assert time.monotonic() - began < 4.0
        assert not connection.can_read(0.0)
        assert link.commands.run(key, PING) == [b"PONG"]


@pytest.mark.backend("valkey")
def test_a_wait_that_begins_while_the_link_closes_ends_with_it(
    backend: Backend, key_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a link that closes when a wait has got its connection, but not sent its command
    key = f"{key_prefix}:none"
    link = Link(backend.client(), call_timeout=5.0)
    send = speech.send

    def close_and_send(*arguments: Any) -> None:
        link.close()
        send(*arguments)

    monkeypatch.setattr(speech, "send", close_and_send)
    began = time.monotonic()
    with (
        pytest.raises(ConfigurationError, match="closed"),
        link.commands.blocking(key, Command(("BZPOPMIN", key, "5")), 5.0),
    ):
        pytest.fail("there is nothing to wait for")
    assert time.monotonic() - began < 4.0


@pytest.mark.backend("valkey")
def test_who_asks_on_a_connection_that_was_closed_cuts_nobody_else_off(
    backend: Backend, key_prefix: str
) -> None:
    key = f"{key_prefix}:none"
    with link_to(backend.client()) as link:
        gate = link.commands
        # given a wait under way, and an idle connection that the server has closed meanwhile
        with gate.blocking(key, Command(("BZPOPMIN", key, "5")), 5.0) as answered:
            [pool] = gate.servers().values()
            assert gate.ask(pool, PING) == [b"PONG"]
            [(idle, _)] = pool._at_hand
            idle._sock.shutdown(socket.SHUT_RDWR)

            # then another one is asked, and the wait goes on
            assert gate.ask(pool, PING) == [b"PONG"]
            assert not answered(0.05)
            gate.run(key, Command(("ZADD", key, 0, "w")))
        assert answered.reply[1] == b"w"


@pytest.mark.backend("valkey")
def test_what_was_sent_is_answered_when_it_is_asked_for(backend: Backend, key_prefix: str) -> None:
    key = f"{key_prefix}:set"
    with link_to(backend.client()) as link:
        gate = link.commands
        first, second = gate.begin(key, PING, Command(("ZADD", key, 0, "x"))), gate.begin(key, PING)
        assert gate.run(key, PING) == [b"PONG"]
        assert [gate.finish(second), gate.finish(first)] == [[b"PONG"], [b"PONG", 1]]


@pytest.mark.backend("valkey")
def test_what_was_sent_and_is_not_answered_counts_as_no_failure(
    backend: Backend, proxy: FaultProxy, key_prefix: str
) -> None:
    with link_to(backend.client_through(proxy)) as link:
        gate = link.commands
        sent = gate.begin(key_prefix, Command(("BZPOPMIN", f"{key_prefix}:none", "5")))
        proxy.refuse()
        assert gate.finish(sent) is None
        for _ in range(policy.BREAKER_FAILURES):
            assert gate.finish(gate.begin(key_prefix, PING)) is None
        assert gate.state == "closed"
        proxy.heal()
        assert gate.run(key_prefix, PING) == [b"PONG"]


@pytest.mark.backend("valkey")
def test_an_answer_is_waited_for_no_longer_than_in_any_attempt_but_a_late_look_finds_it(
    backend: Backend, key_prefix: str
) -> None:
    with link_to(backend.client(), call_timeout=0.6) as link:
        gate = link.commands
        assert gate.run(key_prefix, PING) == [b"PONG"]
        answered = gate.begin(key_prefix, PING)
        eventually(lambda: time.monotonic() > answered.end)
        assert gate.finish(answered) == [b"PONG"]

        sent = gate.begin(key_prefix, Command(("BZPOPMIN", f"{key_prefix}:none", "2")))
        began = time.monotonic()
        assert gate.finish(sent) is None
        assert 0.1 < time.monotonic() - began < 0.2 + SLACK


@pytest.mark.backend("valkey")
def test_an_answer_of_before_an_outage_does_not_end_it(
    backend: Backend, proxy: FaultProxy, key_prefix: str
) -> None:
    with link_to(backend.client_through(proxy), call_timeout=0.3) as link:
        gate = link.commands
        sent = gate.begin(key_prefix, PING)
        wrong = gate.begin(key_prefix, Command(("ZADD", key_prefix)))
        for one in (sent, wrong):
            connection = one.way[1]
            eventually(connection.can_read, what="the server did not answer")
        proxy.black_hole()
        while gate.state == "closed":
            with pytest.raises(CoordinatorUnavailableError):
                gate.run(key_prefix, PING)
        assert gate.finish(sent) == [b"PONG"]
        assert gate.state == "open"
        with pytest.raises(CoordinationError, match="wrong number of arguments"):
            gate.finish(wrong)
        assert gate.state == "open"


@pytest.mark.backend("valkey")
def test_what_was_sent_and_is_answered_with_an_error_says_so(
    backend: Backend, key_prefix: str
) -> None:
    client = backend.client()
    client.set(f"{key_prefix}:text", "x")
    wrong = Command(("ZADD", f"{key_prefix}:text", 0, "x"))
    with link_to(client) as link:
        sent = link.commands.begin(f"{key_prefix}:text", wrong, PING)
        with pytest.raises(CoordinationError, match="WRONGTYPE"):
            link.commands.finish(sent)
        assert link.commands.run(f"{key_prefix}:text", PING) == [b"PONG"]


def test_nothing_is_sent_while_the_breaker_is_open_or_after_closing() -> None:
    with link_to(redis.Redis(*NOWHERE), call_timeout=0.3) as link:
        gate = link.commands
        while gate.state == "closed":
            with pytest.raises(CoordinatorUnavailableError):
                gate.run("key", PING)
        with pytest.raises(CoordinatorCircuitOpenError):
            gate.begin("key", PING)
    with pytest.raises(ConfigurationError, match="closed"):
        gate.begin("key", PING)


@pytest.mark.backend("valkey")
def test_what_was_sent_before_closing_is_not_waited_for(backend: Backend, key_prefix: str) -> None:
    key = f"{key_prefix}:none"
    link = Link(backend.client(), call_timeout=5.0)
    sent = link.commands.begin(key, Command(("BZPOPMIN", key, "1")))
    link.close()
    began = time.monotonic()
    with pytest.raises(ConfigurationError, match="closed"):
        link.commands.finish(sent)
    assert time.monotonic() - began < 0.9


@pytest.mark.backend("valkey")
def test_an_error_of_the_body_of_a_blocking_command_is_not_swallowed(
    backend: Backend, key_prefix: str
) -> None:
    key = f"{key_prefix}:none"
    command = Command(("BZPOPMIN", key, "5"))
    error = CoordinatorUnavailableError("of the body")
    with link_to(backend.client()) as link:
        with pytest.raises(CoordinatorUnavailableError) as caught:
            fail_in_body(link, key, command, error)
        assert caught.value is error


def fail_in_body(link: Link, key: str, command: Command, error: Exception) -> None:
    with link.commands.blocking(key, command, 5.0):
        raise error


# URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", {"host": "h"}),
        ("redis://u:p%40q@h:7000/2", {"host": "h", "port": 7000, "db": 2, "password": "p@q"}),
        ("unix:///run/redis.sock?db=1", {"path": "/run/redis.sock", "db": 1}),
    ],
)
def test_a_url_says_where_a_server_is(url: str, expected: dict[str, Any]) -> None:
    taken = settings_of(target_of(url))
    assert taken | expected == taken


def test_a_rediss_url_asks_for_tls() -> None:
    pool = route_to(target_of("rediss://h"), limit=1.0).pool("any").pool
    assert issubclass(pool.connection_class, redis.SSLConnection)


def test_a_cluster_url_names_nodes_and_credentials() -> None:
    address = target_of("redis+cluster://u:p%40q@one:7000,two?client_name=n")
    assert isinstance(address, ClusterAddress)
    assert address.nodes == (("one", 7000), ("two", 6379))
    assert address.settings == {"username": "u", "password": "p@q", "client_name": "n"}
    secure = target_of("rediss+cluster://one")
    assert isinstance(secure, ClusterAddress)
    assert secure.settings == {"ssl": True}


@pytest.mark.parametrize(
    "url", ["http://h", "h:6379", "", "redis", "redis://:tell-nobody@h:port", "tell-nobody@h"]
)
def test_what_is_no_url_of_ours_is_refused_without_showing_a_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        target_of(url)
    shown = f"{caught.value!r} {caught.value.__cause__!r}"
    assert "tell-nobody" not in shown
