"""The proxy passes on and records what it is to, and faults of one command meet that one only."""

import socket
import threading

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.proxy.conftest import Connect
from tests.proxy.given import names, received
from tests.support.backends import Backend
from tests.support.waiting import eventually
from tta_agent_coordination.proxy import Command, FaultProxy

pytestmark = pytest.mark.backend("valkey")

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
