"""4.5: a request waits for its reply, and leaves nothing behind."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.backends import Backend
from tests.support.marks import ALL, ONE_BACKEND
from tests.support.waiting import eventually
from tests.workers.conftest import Coordinators
from tests.workers.given import ASKER, LONG, OWN, Gate, Scripted, Serve, event, in_thread, send
from tta_agent_coordination import (
    AgentMessage,
    ConfigurationError,
    CoordinatorUnavailableError,
    InboxFullError,
    MessageType,
    RedisMessageCoordinator,
    RemoteAgentError,
    RequestTimeoutError,
)
from tta_agent_coordination.coordinator import requests

Coordinator = RedisMessageCoordinator


def assert_nothing_is_left(backend: Backend, prefix: str) -> None:
    """Nothing but marks, which have a time to live, and the index."""
    client = backend.client()
    names = {key.decode() for key in backend.keys(f"{prefix}*")}
    kept = {name for name in names if name.rpartition(":")[2] in ("marks", "marks_old", "inboxes")}
    assert names == kept
    assert all(client.pttl(name) > 0 for name in names)


@pytest.mark.guarantee("4.5")
@ALL
def test_many_threads_ask_at_once_and_each_gets_its_own_reply(
    backend: Backend, key_prefix: str, coordinator: Coordinator, serve: Serve
) -> None:
    serve(Scripted(), coordinator, threads=4)

    def ask(number: int) -> object:
        return coordinator.request(ASKER, OWN, {"number": number}, timeout=LONG).payload["echo"]

    with ThreadPoolExecutor(16, thread_name_prefix="asker") as askers:
        replies = list(askers.map(ask, range(200)))
    assert replies == [{"number": number} for number in range(200)]
    eventually(lambda: _is_left(backend, key_prefix))


def _is_left(backend: Backend, prefix: str) -> bool:
    try:
        assert_nothing_is_left(backend, prefix)
    except AssertionError:
        return False
    return True


@pytest.mark.guarantee("4.5")
@ALL
def test_a_request_that_nobody_answers_times_out_and_is_taken_back(
    backend: Backend, key_prefix: str, coordinator: Coordinator
) -> None:
    begun = time.monotonic()
    with pytest.raises(RequestTimeoutError, match=r"no reply from greeter:1 within 0.3 s"):
        coordinator.request(ASKER, OWN, {}, timeout=0.3)
    assert 0.3 <= time.monotonic() - begun < 3.0
    assert coordinator.receive(OWN) is None
    assert_nothing_is_left(backend, key_prefix)


@pytest.mark.guarantee("4.5")
@ONE_BACKEND
def test_a_request_that_waits_for_a_retry_is_taken_back(
    backend: Backend, key_prefix: str, coordinator: Coordinator, serve: Serve
) -> None:
    coordinator.configure(backoff_base=30.0)
    worker = serve(Scripted(lambda payload: {}[payload["none"]]), coordinator)
    with pytest.raises(RequestTimeoutError):
        coordinator.request(ASKER, OWN, {"none": 1}, timeout=0.3)
    worker.stop()
    assert_nothing_is_left(backend, key_prefix)


@pytest.mark.guarantee("4.5")
@ALL
def test_a_late_reply_is_dropped(
    backend: Backend, key_prefix: str, coordinator: Coordinator, serve: Serve
) -> None:
    # given a request whose handler takes longer than the one who asked waits
    gate = Gate()
    worker = serve(Scripted(gate), coordinator)
    with pytest.raises(RequestTimeoutError):
        coordinator.request(ASKER, OWN, {"number": 1}, timeout=0.2)

    # when it is answered after all, the next to ask gets its own reply
    gate.open.set()
    reply = coordinator.request(ASKER, OWN, {"number": 2}, timeout=5.0)
    assert reply.payload == {"echo": {"number": 2}}
    worker.stop()
    eventually(lambda: _is_left(backend, key_prefix))


@pytest.mark.guarantee("4.5")
@ALL
def test_a_reply_by_hand_is_as_good(coordinator: Coordinator) -> None:
    asked = in_thread(lambda: coordinator.request(ASKER, OWN, {"a": 1}, timeout=LONG), "asks")
    received = coordinator.receive(OWN, wait=5.0)
    assert received is not None
    message = received.message
    assert (message.message_type, message.sender) == (MessageType.REQUEST, ASKER)
    assert message.reply_to is not None
    answer = AgentMessage(
        OWN,
        message.reply_to,
        {"b": 2},
        message_type=MessageType.RESPONSE,
        correlation_id=message.correlation_id,
    )
    send(coordinator, answer)
    coordinator.ack(OWN, received.token)
    assert asked().payload == {"b": 2}


@pytest.mark.guarantee("4.5")
@ALL
def test_the_inbox_for_replies_vanishes_by_itself(
    backend: Backend, key_prefix: str, coordinator: Coordinator, serve: Serve
) -> None:
    # given a reply to a process that is gone
    gate = Gate()
    serve(Scripted(gate), coordinator)
    with pytest.raises(RequestTimeoutError):
        coordinator.request(ASKER, OWN, {}, timeout=0.2)
    address = coordinator._requests.address
    send(coordinator, event(1, address))
    names = [key.decode() for key in backend.keys(f"{key_prefix}:{{{address}}}*")]
    client = backend.client()
    gone = -2  # the reader may drop it at any moment
    lives = [client.pttl(name) for name in names]
    assert all(life == gone or 0 < life <= 120_000 for life in lives), lives
    gate.open.set()


@pytest.mark.guarantee("4.5")
@ALL
def test_a_full_inbox_takes_no_request(coordinator: Coordinator) -> None:
    coordinator.configure(queue_size=1)
    send(coordinator, event(1))
    with pytest.raises(InboxFullError, match="queue full"):
        coordinator.request(ASKER, OWN, {}, timeout=5.0)


@pytest.mark.guarantee("4.5")
@ONE_BACKEND
def test_wrong_arguments_are_refused(coordinator: Coordinator) -> None:
    with pytest.raises(TypeError):
        coordinator.request("asker", OWN, {}, timeout=1.0)
    with pytest.raises(TypeError):
        coordinator.request(ASKER, OWN, [], timeout=1.0)
    with pytest.raises(ValueError, match="timeout"):
        coordinator.request(ASKER, OWN, {}, timeout=-1.0)
    assert coordinator._requests._replies()._pending == {}


@pytest.mark.guarantee("4.5")
@ALL
def test_closing_the_coordinator_ends_requests_under_way(
    backend: Backend, key_prefix: str, coordinators: Coordinators
) -> None:
    coordinator = coordinators(backend.client(), key_prefix)
    asking = [
        in_thread(lambda: coordinator.request(ASKER, OWN, {}, timeout=60.0), f"asks-{number}")
        for number in range(3)
    ]
    eventually(lambda: coordinator.internals.held(OWN) == 3)
    begun = time.monotonic()
    coordinator.close()
    for wait in asking:
        with pytest.raises(ConfigurationError, match="closed"):
            wait()
    assert time.monotonic() - begun < 3.0
    with pytest.raises(ConfigurationError, match="closed"):
        coordinator.request(ASKER, OWN, {}, timeout=60.0)
    coordinators(backend.client(), key_prefix).purge(OWN)


@pytest.mark.guarantee("4.5")
@ONE_BACKEND
def test_a_request_that_cannot_be_taken_back_times_out_all_the_same(
    backend: Backend, proxy, key_prefix: str, coordinators: Coordinators,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    coordinator = coordinators(backend.client_through(proxy), key_prefix, call_timeout=0.5)
    asked = in_thread(lambda: coordinator.request(ASKER, OWN, {}, timeout=0.6), "asks")
    eventually(lambda: backend.keys(f"{key_prefix}*messages"))
    proxy.refuse()
    with pytest.raises(RequestTimeoutError):
        asked()
    assert "could not be taken back" in caplog.text


@pytest.mark.guarantee("4.5")
@ONE_BACKEND
def test_a_request_outlives_a_redis_that_is_away_for_a_while(
    backend: Backend, proxy, key_prefix: str, coordinators: Coordinators, serve: Serve
) -> None:
    near = coordinators(backend.client(), key_prefix)
    far = coordinators(backend.client_through(proxy), key_prefix, call_timeout=0.5)
    gate = Gate()
    serve(Scripted(gate), near)
    asked = in_thread(lambda: far.request(ASKER, OWN, {"a": 1}, timeout=LONG), "asks")
    gate.wait_for(1)
    proxy.refuse()
    gate.open.set()
    eventually(lambda: near.internals.held(OWN) == 0)
    proxy.heal()
    assert asked().payload == {"echo": {"a": 1}}


@pytest.mark.guarantee("4.5")
@ONE_BACKEND
def test_a_request_that_cannot_be_sent_says_so(
    backend: Backend, proxy, key_prefix: str, coordinators: Coordinators
) -> None:
    coordinator = coordinators(backend.client_through(proxy), key_prefix, call_timeout=0.3)
    proxy.refuse()
    with pytest.raises(CoordinatorUnavailableError):
        coordinator.request(ASKER, OWN, {}, timeout=5.0)


@pytest.mark.guarantee("4.5")
@ONE_BACKEND
def test_a_child_process_asks_under_an_address_of_its_own(
    coordinator: Coordinator, serve: Serve
) -> None:
    serve(Scripted(), coordinator)
    coordinator.request(ASKER, OWN, {"from": "parent"}, timeout=5.0)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            reply = coordinator.request(ASKER, OWN, {"from": "child"}, timeout=5.0)
            told = f"{reply.payload['echo']['from']} {coordinator._requests.address}"
            os.write(writing, told.encode())
        finally:
            os._exit(0)
    os.close(writing)
    timer = threading.Timer(LONG, os.kill, (child, signal.SIGKILL))
    timer.start()
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    timer.cancel()
    timer.join()
    name, address = told.split()
    assert name == "child"
    assert address != str(coordinator._requests.address)
    reply = coordinator.request(ASKER, OWN, {"from": "parent"}, timeout=5.0)
    assert reply.payload == {"echo": {"from": "parent"}}


@pytest.mark.guarantee("4.5")
@ONE_BACKEND
def test_the_reader_of_replies_ends_when_nothing_is_expected(
    coordinator: Coordinator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "_LINGER", 0.1)
    serve(Scripted(), coordinator)
    for _ in range(2):
        coordinator.request(ASKER, OWN, {}, timeout=5.0)
        eventually(lambda: coordinator._requests._replies()._reader is None)


@pytest.mark.guarantee("4.5")
@ONE_BACKEND
def test_the_reader_of_replies_survives_any_error(
    coordinator: Coordinator, serve: Serve, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    serve(Scripted(), coordinator)
    with monkeypatch.context() as patched:
        patched.setattr(requests._Replies, "_fetch", lambda _self: 1 / 0)
        with pytest.raises(RequestTimeoutError):
            coordinator.request(ASKER, OWN, {}, timeout=0.2)
    assert "goes on after an error" in caplog.text
    assert coordinator.request(ASKER, OWN, {"a": 1}, timeout=5.0).payload == {"echo": {"a": 1}}


@pytest.mark.guarantee("4.5")
@ONE_BACKEND
def test_an_error_reply_of_another_version_is_read_as_well_as_may_be(
    coordinator: Coordinator,
) -> None:
    asked = in_thread(lambda: coordinator.request(ASKER, OWN, {}, timeout=LONG), "asks")
    received = coordinator.receive(OWN, wait=5.0)
    assert received is not None
    message = received.message
    assert message.reply_to is not None
    answer = AgentMessage(
        OWN,
        message.reply_to,
        message_type=MessageType.RESPONSE,
        correlation_id=message.correlation_id,
        headers={requests.ERROR_HEADER: "OddError", requests.ATTEMPTS_HEADER: "many"},
    )
    send(coordinator, answer)
    coordinator.ack(OWN, received.token)
    with pytest.raises(RemoteAgentError, match="OddError") as it:
        asked()
    assert it.value.attempts == 0
