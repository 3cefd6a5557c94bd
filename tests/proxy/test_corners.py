"""What the proxy meets seldom."""

import selectors
import socket
import struct
import threading

import pytest

from tests.conftest import OwnServers
from tests.proxy.given import SHORT, received
from tta_agent_coordination.proxy import FaultProxy, relay
from tta_agent_coordination.proxy.faults import Fate
from tta_agent_coordination.proxy.link import End, Link, connect
from tta_agent_coordination.proxy.resp import take_frame

pytestmark = pytest.mark.backend("valkey")


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
    monkeypatch.setattr(relay, "CALL_TIMEOUT", 0.1)
    wire.sendall(b"PING\r\n")
    proxy.wait_for("PING")

    with pytest.raises(TimeoutError, match="does not respond"):
        proxy.heal()

    monkeypatch.undo()
    go_on.set()


def test_a_client_that_left_before_it_was_accepted_does_no_harm(proxy: FaultProxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        nobody.setblocking(False)
        proxy._relay._accept(nobody, proxy.servers[0], selectors.EVENT_READ)

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


def test_replies_in_a_row_do_not_wait_for_each_other() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        to_server = connect(listener.getsockname())
        assert to_server is not None
        from_client, _ = listener.accept()
    with selectors.DefaultSelector() as selector:
        link = Link(selector, from_client, to_server, lambda _command: Fate.DELIVER)
        for end in (from_client, to_server):
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        link.reset()


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
