"""Faults of connections, and servers that end behind the proxy."""

import socket
import threading
import time

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.conftest import OwnServers
from tests.proxy.conftest import Connect
from tests.proxy.given import SHORT
from tests.support.backends import Backend
from tests.support.waiting import eventually
from tta_agent_coordination.proxy import FaultProxy

pytestmark = pytest.mark.backend("valkey")

# Faults of connections ------------------------------------------------------------------------


def test_a_black_hole_swallows_commands_on_old_and_new_connections(
    connect: Connect, proxy: FaultProxy, key_prefix: str
) -> None:
    old, new = connect(socket_timeout=SHORT), connect(socket_timeout=SHORT)
    old.ping()
    proxy.black_hole()

    with pytest.raises(redis.TimeoutError):
        old.incrby(key_prefix, 1)
    with pytest.raises(redis.TimeoutError):
        new.incrby(key_prefix, 1)

    assert proxy.count("INCRBY") == 1
    proxy.heal()
    assert old.incrby(key_prefix, 1) == new.incrby(key_prefix, 1) - 1 == 1


def test_a_reply_under_way_vanishes_in_a_black_hole(
    backend: Backend, proxy: FaultProxy, wire: socket.socket, key_prefix: str
) -> None:
    wire.sendall(f"BLPOP {key_prefix} 0\r\n".encode())
    proxy.wait_for("BLPOP")
    proxy.black_hole()

    backend.client().rpush(key_prefix, "v")

    eventually(lambda: not backend.keys(key_prefix))
    proxy.heal()
    with pytest.raises(ConnectionResetError):
        wire.recv(100)


def test_a_half_open_connection_is_silent_while_new_ones_work(
    connect: Connect, proxy: FaultProxy
) -> None:
    client = connect(socket_timeout=SHORT)
    client.ping()
    proxy.half_open()

    with pytest.raises(redis.TimeoutError):
        client.ping()

    assert client.ping()
    assert proxy.connections == 2


def test_a_reset_is_seen_by_a_client_that_waits(
    connect: Connect, proxy: FaultProxy, key_prefix: str
) -> None:
    client, errors = connect(), []

    def wait() -> None:
        with pytest.raises(redis.ConnectionError) as caught:
            client.blpop(key_prefix, 5)
        errors.append(caught.value)

    waiting = threading.Thread(target=wait, name="waiting")
    waiting.start()
    proxy.wait_for("BLPOP")
    proxy.reset()
    waiting.join(5)

    assert len(errors) == 1
    assert client.ping()


def test_connections_are_refused_until_it_heals(connect: Connect, proxy: FaultProxy) -> None:
    client = connect()
    client.ping()
    proxy.refuse()
    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            client.ping()
    proxy.heal()
    assert client.ping()


def test_replies_are_delayed(connect: Connect, proxy: FaultProxy) -> None:
    client = connect()
    client.ping()
    proxy.delay(0.1)
    start = time.monotonic()
    client.ping()
    assert time.monotonic() - start >= 0.1


def test_a_reply_drips(connect: Connect, proxy: FaultProxy) -> None:
    client = connect()
    client.ping()
    proxy.drip(200)
    start = time.monotonic()
    assert client.echo("0123456789" * 2) == b"0123456789" * 2
    assert 0.1 <= time.monotonic() - start < 2
    proxy.heal()
    assert client.echo("x" * 10_000) == b"x" * 10_000


def test_delayed_replies_are_released_when_it_heals(proxy: FaultProxy, wire: socket.socket) -> None:
    proxy.delay(60)
    wire.sendall(b"PING\r\nPING\r\n")
    proxy.wait_for("PING", count=2)
    proxy.heal()
    assert wire.recv(7, socket.MSG_WAITALL) == b"+PONG\r\n"


# Servers --------------------------------------------------------------------------------------


def test_the_end_of_the_server_is_passed_on(own_server: OwnServers) -> None:
    server = own_server(tcp=True)
    with FaultProxy(server.address) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as wire:
            wire.sendall(b"PING\r\n")
            assert wire.recv(100) == b"+PONG\r\n"
            server.kill()
            assert wire.recv(100) == b""
        with redis.Redis(port=proxy.port, retry=Retry(NoBackoff(), 0)) as client:
            with pytest.raises(redis.ConnectionError):
                client.ping()
            server.start()
            assert client.ping()


def test_a_paused_server_is_not_taken_for_dead(own_server: OwnServers) -> None:
    server = own_server()
    with (
        FaultProxy(server.address) as proxy,
        redis.Redis(port=proxy.port, socket_timeout=SHORT, retry=Retry(NoBackoff(), 0)) as client,
    ):
        client.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        assert client.ping()


def test_closing_resets_clients_and_ends_the_thread(own_server: OwnServers) -> None:
    proxy = FaultProxy(own_server().address)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as wire:
        wire.sendall(b"PING\r\n")
        assert wire.recv(100) == b"+PONG\r\n"
        proxy.close()
        proxy.close()
        with pytest.raises(ConnectionResetError):
            wire.recv(100)
    assert not [t for t in threading.enumerate() if t.name == f"fault-proxy-{proxy.port}"]


@pytest.mark.backend("cluster")
def test_it_stands_before_every_node_of_a_cluster(
    backend: Backend, proxy: FaultProxy, key_prefix: str
) -> None:
    client = backend.client_through(proxy)
    for number in range(20):
        client.set(f"{key_prefix}:{number}", number)
    assert proxy.count("SET") == len(backend.keys()) == 20
    assert len(proxy.ports) == 3


def test_a_lost_request_does_not_reach_the_server_and_those_before_it_do(
    connect: Connect, backend: Backend, proxy: FaultProxy, key_prefix: str
) -> None:
    client, key = connect(), f"{key_prefix}:count"
    client.ping()
    fault = proxy.lose_request(2)
    pipeline = client.pipeline(transaction=False)
    for _ in range(3):
        pipeline.incr(key)

    with pytest.raises(redis.ConnectionError):
        pipeline.execute()

    assert fault.used_up
    eventually(lambda: backend.client().get(key) == b"1")
