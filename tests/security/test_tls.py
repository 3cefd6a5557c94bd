"""TLS: checked certificates, errors that say what is wrong, and the same deadlines as without."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
import redis
from redis.connection import SSLConnection

from tests.conftest import OwnServers
from tests.contract.given import (
    ONE,
    PATIENCE,
    SENDER,
    WORKER,
    InBackground,
    drain,
    message,
    send,
    take,
    together,
)
from tests.support.backends import Backend
from tests.support.tls import Authority, TlsFront
from tta_agent_coordination import (
    Agent,
    AgentMessage,
    AgentWorker,
    ConfigurationError,
    CoordinationError,
    CoordinatorUnavailableError,
    RedisMessageCoordinator,
)
from tta_agent_coordination.transport.connections import bounded
from tta_agent_coordination.transport.deadline import DeadlineSocket, until
from tta_agent_coordination.transport.gate import Command
from tta_agent_coordination.transport.link import Link

pytestmark = [pytest.mark.guarantee("2.13"), pytest.mark.backend("valkey")]

BIG = "x" * 900_000
"""A payload of many TLS records, each of which holds 16 KiB at most."""

Front = Callable[..., TlsFront]
Connect = Callable[..., RedisMessageCoordinator]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def front(backend: Backend, authority: Authority) -> Iterator[Front]:
    """Begin to listen before the server: ``front("localhost", mutual=True)``."""
    with ExitStack() as opened:

        def listen(name: str = "localhost", **options: object) -> TlsFront:
            context = authority.server(name, **options)
            return opened.enter_context(TlsFront(context, backend.addresses[0]))

        yield listen


@pytest.fixture
def connect(authority: Authority, key_prefix: str) -> Iterator[Connect]:
    """Make coordinators that check certificates: ``connect(url, ssl_certfile=...)``."""
    with ExitStack() as opened:

        def make(url: str, call_timeout: float = 5.0, **settings: object):
            known = {"ssl_ca_certs": authority.file, **settings}
            client = opened.enter_context(redis.Redis.from_url(url, **known))
            return opened.enter_context(
                RedisMessageCoordinator(client, key_prefix, call_timeout=call_timeout)
            )

        yield make


@pytest.fixture
def coordinator(front: Front, connect: Connect) -> RedisMessageCoordinator:
    return connect(front().url())


def sized(text: str) -> AgentMessage:
    return AgentMessage(SENDER, WORKER, {"text": text})


@pytest.mark.parametrize("text", ["", BIG], ids=["small", "big"])
def test_messages_of_any_size_go_both_ways(coordinator: RedisMessageCoordinator, text: str) -> None:
    coordinator.send_many(SENDER, [sized(text) for _ in range(3)])
    received = coordinator.receive_many(WORKER, 3)
    assert [each.message.payload for each in received] == [{"text": text}] * 3
    assert all(coordinator.ack_many(WORKER, [each.token for each in received]))


def test_a_url_says_all_that_tls_needs(front: Front, authority: Authority, key_prefix: str) -> None:
    url = f"{front().url()}?ssl_ca_certs={authority.file}"
    with RedisMessageCoordinator.from_url(url, key_prefix) as coordinator:
        send(coordinator, 1)
        assert drain(coordinator) == [1]


def test_a_waiting_consumer_is_woken_each_time(coordinator: RedisMessageCoordinator) -> None:
    for number in range(20):
        with InBackground(lambda: coordinator.receive(WORKER, wait=PATIENCE)) as answer:
            began = time.monotonic()
            send(coordinator, number)
            received = answer()
        assert received.message.payload["n"] == number
        assert time.monotonic() - began < PATIENCE / 2
        coordinator.ack(WORKER, received.token)


def test_many_wait_and_each_gets_a_message(coordinator: RedisMessageCoordinator) -> None:
    def job(index: int) -> int:
        if index == 0:
            send(coordinator, *range(7))
            return -1
        received = coordinator.receive(WORKER, wait=PATIENCE)
        assert received is not None
        return received.message.payload["n"]

    assert sorted(together(8, job)) == list(range(-1, 7))


def test_what_is_due_is_handed_out_in_time(coordinator: RedisMessageCoordinator) -> None:
    coordinator.send_message(SENDER, WORKER, message(1), delay=0.5)
    began = time.monotonic()
    received = coordinator.receive(WORKER, wait=PATIENCE)
    assert received is not None
    assert 0.3 < time.monotonic() - began < 3.0


@pytest.mark.parametrize("settings", [{}, {"driver_info": None}], ids=["", "unnamed"])
def test_session_tickets_are_not_taken_for_an_answer(
    front: Front, authority: Authority, settings: dict[str, None], key_prefix: str
) -> None:
    key, url = f"{key_prefix}:wake", front().url()
    with redis.Redis.from_url(url, ssl_ca_certs=authority.file, **settings) as client:
        link = Link(client, call_timeout=5.0)
        wait = Command(("BZPOPMIN", key, "0.3"))
        with link.commands.blocking(key, wait, 0.3) as answered:
            assert not answered(0.1)
            assert answered(PATIENCE)
        link.close()


def test_a_wait_ends_with_nothing_when_its_time_is_over(
    coordinator: RedisMessageCoordinator,
) -> None:
    began = time.monotonic()
    assert coordinator.receive(WORKER, wait=0.3) is None
    assert 0.3 <= time.monotonic() - began < 3.0


class Echo(Agent):
    def process(self, payload: dict) -> dict:
        return payload


def test_a_worker_answers(coordinator: RedisMessageCoordinator) -> None:
    with AgentWorker(Echo(ONE), coordinator, threads=2):
        payloads = [{"n": n, "text": BIG if n == 3 else ""} for n in range(6)]
        answers = [
            coordinator.request(SENDER, ONE, payload, timeout=PATIENCE) for payload in payloads
        ]
    assert [answer.payload for answer in answers] == payloads


@contextmanager
def answering(greet: Callable[[socket.socket], object]) -> Iterator[int]:
    """A port at which whoever connects is met with ``greet``, one after the other."""
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                greet(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        thread = threading.Thread(target=serve, name="answering")
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join(PATIENCE)


def refusal(coordinator: RedisMessageCoordinator) -> ConfigurationError:
    """What a call raises, which must be at once although there were five seconds."""
    began = time.monotonic()
    with pytest.raises(ConfigurationError) as caught:
        coordinator.stats(WORKER)
    assert time.monotonic() - began < 2.5
    assert isinstance(caught.value, CoordinatorUnavailableError)
    assert "the TLS certificates are not accepted" in str(caught.value)
    return caught.value


def test_a_server_of_another_authority_is_refused_at_once(
    front: Front, connect: Connect, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("other"))
    listener = front()
    error = refusal(connect(listener.url(), ssl_ca_certs=other.file))
    assert "unable to get local issuer certificate" in str(error)
    assert listener.shaken == 0


def test_the_authorities_of_the_system_are_asked_when_none_is_named(
    front: Front, connect: Connect
) -> None:
    assert "CERTIFICATE_VERIFY_FAILED" in str(refusal(connect(front().url(), ssl_ca_certs=None)))


def test_a_cluster_of_another_authority_is_refused_at_once(front: Front) -> None:
    url = front().url().replace("rediss://", "rediss+cluster://")
    with RedisMessageCoordinator.from_url(url) as coordinator:
        refusal(coordinator)
        with pytest.raises(ConfigurationError, match="certificates"):
            coordinator.check()


def test_a_certificate_of_another_host_is_refused_at_once(front: Front, connect: Connect) -> None:
    error = refusal(connect(front("elsewhere.example").url()))
    assert "not valid for 'localhost'" in str(error)


def test_a_certificate_that_has_expired_is_refused_at_once(front: Front, connect: Connect) -> None:
    assert "expired" in str(refusal(connect(front(days=-1.0).url())))


def test_a_server_that_wants_a_certificate_gets_it(
    front: Front, connect: Connect, authority: Authority
) -> None:
    listener = front(mutual=True)
    coordinator = connect(listener.url(), **authority.client("agent@example.com"))
    send(coordinator, 1)
    assert drain(coordinator) == [1]


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_server_that_gets_no_certificate_is_refused_at_once(
    authority: Authority, connect: Connect, version: str
) -> None:
    """It says so in the handshake, or with TLS 1.3 when the first reply is waited for."""
    context = authority.server("localhost", mutual=True)
    context.maximum_version = ssl.TLSVersion[version]

    def greet(end: socket.socket) -> None:
        far = context.wrap_socket(end, server_side=True, do_handshake_on_connect=False)
        with far, suppress(OSError):
            with suppress(ssl.SSLError):
                far.do_handshake()
            while socket.socket.recv(far, 4096):  # closed at once, its last word would get lost
                pass

    with answering(greet) as port:
        assert "_ALERT_" in str(refusal(connect(f"rediss://localhost:{port}")))


def test_calls_go_on_after_the_certificate_was_renewed(
    front: Front, connect: Connect, authority: Authority
) -> None:
    listener = front(days=-1.0)
    coordinator = connect(listener.url())
    refusal(coordinator)
    listener.present(authority.server("localhost"))
    send(coordinator, 1)
    assert drain(coordinator) == [1]


def advice(url: str) -> str:
    """What a call to this address says in the end."""
    with (
        RedisMessageCoordinator.from_url(url, call_timeout=0.6) as coordinator,
        pytest.raises(CoordinatorUnavailableError) as caught,
    ):
        coordinator.stats(WORKER)
    assert "hunter2" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("service", ["", "+cluster"])
def test_who_speaks_without_tls_to_a_port_with_it_is_told_what_to_check(
    front: Front, service: str
) -> None:
    url = front().url(login="user:hunter2@").replace("rediss://", f"redis{service}://")
    assert "if that port speaks TLS, give rediss://" in advice(url)


@pytest.mark.parametrize("service", ["", "+cluster"])
def test_who_speaks_with_tls_to_a_port_without_it_is_told_what_to_check(
    own_server: OwnServers, service: str
) -> None:
    url = own_server(tcp=True).url.replace("redis://", f"rediss{service}://user:hunter2@")
    assert "if that port has no TLS, give redis://" in advice(url)


@pytest.mark.parametrize("octets", [b"\x15\x03\x03\x00\x02\x02\x46", b"HTTP/1.1 400 Bad\r\n"])
def test_what_does_not_speak_the_protocol_is_told_from_a_server(octets: bytes) -> None:
    """The first is what OpenSSL says to those who come without TLS."""

    def greet(end: socket.socket) -> None:
        with end:
            end.recv(4096)
            end.sendall(octets)

    with (
        answering(greet) as port,
        RedisMessageCoordinator.from_url(f"redis://127.0.0.1:{port}") as coordinator,
        pytest.raises(CoordinationError, match="begins with rediss://"),
    ):
        coordinator.stats(WORKER)


@pytest.mark.parametrize("gate", ["commands", "leases"])
def test_an_address_at_which_something_has_answered_is_not_doubted(
    own_server: OwnServers, key_prefix: str, gate: str
) -> None:
    server = own_server(tcp=True)
    with RedisMessageCoordinator(server.client(), key_prefix, call_timeout=2.0) as coordinator:
        send(coordinator, 1)
        token = take(coordinator).token
        server.pause()
        with pytest.raises(CoordinatorUnavailableError) as caught:
            coordinator.stats(WORKER) if gate == "commands" else coordinator.ack(WORKER, token)
        assert "nothing has answered" not in str(caught.value)


HANDSHAKE = b"\x16\x03\x03\x40\x00" + bytes(200)
"""The beginning of a record of 16 KiB."""


@pytest.mark.parametrize("octets", [b"", HANDSHAKE], ids=["silent", "dripping"])
def test_the_deadline_holds_in_the_handshake(connect: Connect, octets: bytes) -> None:
    with ExitStack() as held:

        def drip(end: socket.socket) -> None:
            held.enter_context(end)
            with suppress(OSError):  # the client has left
                for octet in octets:
                    end.send(bytes([octet]))
                    time.sleep(0.1)

        with answering(drip) as port:
            began = time.monotonic()
            with pytest.raises(CoordinatorUnavailableError):
                connect(f"rediss://localhost:{port}", call_timeout=0.6).stats(WORKER)
            assert 0.3 < time.monotonic() - began < 2.0

            connection = bounded(SSLConnection)(port=port, socket_timeout=PATIENCE)
            began = time.monotonic()
            with pytest.raises(redis.TimeoutError), until(began + 0.3):
                connection.connect()
            assert time.monotonic() - began < PATIENCE / 2


@contextmanager
def tls_pair(authority: Authority) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """Two ends of a connection that have shaken hands: the client's and the server's."""
    near, far = socket.socketpair()
    ends = list[ssl.SSLSocket]()
    shake = authority.server("localhost").wrap_socket
    server = threading.Thread(
        target=lambda: ends.append(shake(far, server_side=True)), name="tls-server"
    )
    server.start()
    context = ssl.create_default_context(cafile=authority.file)
    with context.wrap_socket(near, server_hostname="localhost") as client:
        server.join(PATIENCE)
        with ends[0]:
            yield client, ends[0]


def test_a_peer_that_takes_a_little_at_a_time_cannot_stretch_the_deadline(
    authority: Authority,
) -> None:
    over = threading.Event()
    with tls_pair(authority) as (client, server):

        def sip() -> None:
            while not over.wait(0.01):
                server.recv(16384)

        thread = threading.Thread(target=sip, name="sip")
        thread.start()
        began = time.monotonic()
        try:
            with pytest.raises(TimeoutError), until(began + 0.5):
                DeadlineSocket(client).sendall(bytes(8_000_000))
            assert time.monotonic() - began < 2.0
        finally:
            over.set()
            thread.join(PATIENCE)
