"""The proxy with which other tests break connections does what it says, and nothing else."""

import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.conftest import OwnServers
from tests.support.backends import Backend
from tests.support.waiting import eventually
from tta_agent_coordination.proxy import Command, FaultProxy, core
from tta_agent_coordination.proxy.link import End
from tta_agent_coordination.proxy.resp import take_frame

pytestmark = pytest.mark.backend("valkey")

SHORT = 0.2
"""Socket time-out, in seconds, of a client that is meant to run into it."""

Connect = Callable[..., redis.Redis]


@pytest.fixture
def connect(backend: Backend, proxy: FaultProxy) -> Connect:
    """Make a client of the proxy that sends every command once."""

    def connect(**options: object) -> redis.Redis:
        options.setdefault("retry", Retry(NoBackoff(), 0))
        return backend.client_through(proxy, **options)

    return connect


@pytest.fixture
def wire(proxy: FaultProxy) -> Iterator[socket.socket]:
    """A bare connection to the proxy."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as wire:
        yield wire


def names(proxy: FaultProxy) -> list[str]:
    return [command.name for command in proxy.commands]


def received(wire: socket.socket) -> tuple[bytes, bool]:
    """All that comes until the connection ends, and whether it ends with a reset."""
    got = b""
    try:
        while data := wire.recv(4096):
            got += data
    except ConnectionResetError:
        return got, True
    return got, False


# Passing on -----------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3])
def test_every_kind_of_reply_passes_unchanged(
    connect: Connect, key_prefix: str, protocol: int
) -> None:
    client = connect(protocol=protocol)
    big = b"x" * 1_000_000

    assert client.set(f"{key_prefix}:big", big)
    assert client.get(f"{key_prefix}:big") == big
    assert client.get(f"{key_prefix}:none") is None
    assert client.hset(f"{key_prefix}:hash", mapping={"a": "1", "b": "2"}) == 2
    assert client.hgetall(f"{key_prefix}:hash") == {b"a": b"1", b"b": b"2"}
    assert client.zadd(f"{key_prefix}:scores", {"m": 1.5}) == 1
    assert client.zscore(f"{key_prefix}:scores", "m") == 1.5
    assert client.sadd(f"{key_prefix}:set", "one") == 1
    assert client.smembers(f"{key_prefix}:set") == {b"one"}
    assert client.eval("return {1, {'two', {}}, false}", 0) == [1, [b"two", []], None]
    with pytest.raises(redis.ResponseError, match="no such thing"):
        client.eval("return redis.error_reply('no such thing')", 0)


def test_a_transaction_passes(connect: Connect, key_prefix: str) -> None:
    with connect().pipeline(transaction=True) as pipeline:
        pipeline.incrby(key_prefix, 2).incrby(key_prefix, 3)
        assert pipeline.execute() == [2, 5]


@pytest.mark.parametrize("protocol", [2, 3])
def test_pub_sub_passes(
    connect: Connect, proxy: FaultProxy, key_prefix: str, protocol: int
) -> None:
    with connect(protocol=protocol).pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(key_prefix)
        proxy.wait_for("SUBSCRIBE")
        sender = connect()
        eventually(lambda: sender.publish(key_prefix, "hello"))
        eventually(lambda: (listener.get_message(timeout=1) or {}).get("data") == b"hello")


def test_a_command_in_pieces_is_passed_on_when_it_is_whole(
    proxy: FaultProxy, wire: socket.socket
) -> None:
    wire.sendall(b"*1\r\n$4\r\nPI")
    wire.sendall(b"NG\r\nPI")
    assert wire.recv(100) == b"+PONG\r\n"
    wire.sendall(b"NG\r\n")
    assert wire.recv(100) == b"+PONG\r\n"
    assert names(proxy) == ["PING", "PING"]


# Recording ------------------------------------------------------------------------------------


def test_commands_are_recorded_apart_from_those_that_open_a_connection(
    connect: Connect, proxy: FaultProxy, key_prefix: str
) -> None:
    connect().set(key_prefix, "v")
    assert proxy.commands == [Command("SET", (key_prefix.encode(), b"v"))]
    assert {"CLIENT", "SET"} <= {command.name for command in proxy.seen}
    assert proxy.connections == 1


def test_commands_pipelined_in_one_write_are_recorded_one_by_one(
    connect: Connect, proxy: FaultProxy, key_prefix: str
) -> None:
    with connect().pipeline(transaction=False) as pipeline:
        pipeline.set(key_prefix, 1).get(key_prefix).get(key_prefix).execute()
    assert names(proxy) == ["SET", "GET", "GET"]
    assert proxy.count("get") == 2
    proxy.forget()
    assert proxy.seen == []


def test_a_test_can_wait_for_a_command(
    connect: Connect, proxy: FaultProxy, key_prefix: str
) -> None:
    client = connect()
    waiting = threading.Thread(target=client.blpop, args=(key_prefix, 5), name="waiting")
    waiting.start()
    proxy.wait_for("BLPOP")
    client.rpush(key_prefix, "v")
    waiting.join(5)
    with pytest.raises(TimeoutError, match="GET arrived 0 times"):
        proxy.wait_for("GET", timeout=0.01)


# Faults of one command ------------------------------------------------------------------------


def test_a_command_whose_reply_is_dropped_is_executed_once(
    connect: Connect, proxy: FaultProxy, key_prefix: str
) -> None:
    client = connect()
    fault = proxy.drop_reply_of("INCRBY")

    with pytest.raises(redis.ConnectionError):
        client.incrby(key_prefix, 1)

    fault.wait()
    assert proxy.count("INCRBY") == 1
    assert client.get(key_prefix) == b"1"


def test_transmissions_of_a_client_that_repeats_can_be_counted(
    connect: Connect, proxy: FaultProxy, key_prefix: str
) -> None:
    client = connect(retry=Retry(NoBackoff(), 3))
    fault = proxy.drop_reply_of(lambda command: command.args[:1] == (key_prefix.encode(),), times=2)

    assert client.incrby(key_prefix, 1) == 3

    assert fault.used_up
    assert proxy.count("INCRBY") == 3


def test_the_nth_command_is_counted_from_the_call_on(
    connect: Connect, proxy: FaultProxy, key_prefix: str
) -> None:
    client = connect()
    client.ping()
    fault = proxy.drop_reply_of(2)

    client.set(key_prefix, 1)
    assert not fault.used_up
    with pytest.raises(redis.ConnectionError):
        client.get(key_prefix)
    assert client.get(key_prefix) == b"1"


def test_in_a_pipeline_exactly_the_chosen_reply_is_swallowed(
    backend: Backend, proxy: FaultProxy, wire: socket.socket, key_prefix: str
) -> None:
    proxy.drop_reply_of(3)
    wire.sendall(f"INCR {key_prefix}\r\n".encode() * 4)

    assert received(wire) == (b":1\r\n:2\r\n", False)

    eventually(lambda: backend.client().get(key_prefix) == b"4")


def test_a_reply_is_cut_in_the_middle(proxy: FaultProxy, wire: socket.socket) -> None:
    fault = proxy.reset_mid_reply("ECHO")
    wire.sendall(b"PING\r\nECHO 0123456789\r\n")

    assert received(wire) == (b"+PONG\r\n" + b"$10\r\n0123456789\r\n"[:8], True)
    assert fault.used_up


def test_a_client_notices_a_reply_cut_in_the_middle(connect: Connect, proxy: FaultProxy) -> None:
    client = connect()
    proxy.reset_mid_reply("ECHO")
    with pytest.raises(redis.ConnectionError):
        client.echo("0123456789")
    assert client.echo("0123456789") == b"0123456789"


def test_a_fault_that_meets_nothing_says_so(proxy: FaultProxy) -> None:
    with pytest.raises(TimeoutError, match="no command met the fault"):
        proxy.drop_reply_of("PING").wait(0.01)


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


# Corners ------------------------------------------------------------------------------------------


def test_a_closed_proxy_says_so(own_server: OwnServers) -> None:
    proxy = FaultProxy(own_server().address)
    proxy.close()

    with pytest.raises(RuntimeError, match="the proxy is closed"):
        proxy.heal()


def test_a_proxy_whose_thread_hangs_says_so(
    proxy: FaultProxy, wire: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    proxy.drop_reply_of(lambda _command: go_on.wait(10.0))
    monkeypatch.setattr(core, "CALL_TIMEOUT", 0.1)
    wire.sendall(b"PING\r\n")
    proxy.wait_for("PING")

    with pytest.raises(TimeoutError, match="does not respond"):
        proxy.heal()

    monkeypatch.undo()
    go_on.set()


def test_a_client_that_left_before_it_was_accepted_does_no_harm(proxy: FaultProxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        nobody.setblocking(False)
        proxy._accept(nobody, proxy.servers[0], selectors.EVENT_READ)

    assert proxy.connections == 0


def test_a_socket_that_has_nothing_after_all_is_left_alone() -> None:
    ours, theirs = socket.socketpair()
    with theirs, selectors.DefaultSelector() as selector:
        came: list[object] = []
        end = End(selector, ours, came.append, lambda: came.append("closed"))
        end._read()
        assert came == []
        assert end.is_open
        end.close()


def test_a_reset_is_an_end_like_any_other() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with selectors.DefaultSelector() as selector:
        came: list[object] = []
        end = End(selector, ours, came.append, lambda: came.append("closed"))
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        assert selector.select(5.0), "the reset arrives"
        end._read()
        assert came == ["closed"]
        end.close()


def test_what_nobody_can_read_any_more_is_dropped() -> None:
    ours, theirs = socket.socketpair()
    with selectors.DefaultSelector() as selector:
        end = End(selector, ours, bytes, int)
        theirs.close()
        end.write(b"x" * 100)
        assert not end._unsent
        end.close()


def test_in_silence_not_even_the_end_of_the_server_is_passed_on(own_server: OwnServers) -> None:
    server = own_server(tcp=True)
    with (
        FaultProxy(server.address) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=SHORT) as wire,
    ):
        wire.sendall(b"PING\r\n")
        assert wire.recv(100) == b"+PONG\r\n"
        proxy.black_hole()
        server.kill()
        with pytest.raises(TimeoutError):
            wire.recv(100)
        proxy.heal()
        assert received(wire) == (b"", True)


def test_a_request_can_be_lost_in_silence_too(proxy: FaultProxy) -> None:
    proxy.black_hole()
    proxy.lose_request(1)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as wire:
        wire.sendall(b"PING\r\n")
        assert received(wire) == (b"", True)


def test_what_passes_need_not_be_kept(own_server: OwnServers) -> None:
    with (
        FaultProxy(own_server().address, record=False) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as wire,
    ):
        wire.sendall(b"PING\r\n")
        assert wire.recv(100) == b"+PONG\r\n"
        assert proxy.seen == []


def test_attributes_belong_to_the_reply_behind_them() -> None:
    attribute = b"|1\r\n+ttl\r\n:3600\r\n"
    data = bytearray(attribute + b"$3\r\nabc\r\n+OK\r\n")

    assert take_frame(data) == attribute + b"$3\r\nabc\r\n"
    assert take_frame(data) == b"+OK\r\n"
    assert take_frame(data) is None
