"""Sequences that were found to break a promise once, each as short as it gets."""

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import OwnServers
from tests.support.backends import Backend
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    CoordinatorUnavailableError,
    FailureType,
    ReceivedMessage,
    RedisMessageCoordinator,
)
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.proxy import Command, FaultProxy
from tta_agent_coordination.transport.gate import Command as Wire
from tta_agent_coordination.transport.link import Link

SENDER, WORKER, OTHER = AgentId("sender"), AgentId("worker"), AgentId("other")

Make = Callable[..., RedisMessageCoordinator]


@pytest.fixture
def coordinator_of(key_prefix: str) -> Iterator[Make]:
    """Make coordinators under the test's prefix, closed at its end."""
    with ExitStack() as opened:
        yield lambda client, **options: opened.enter_context(
            RedisMessageCoordinator(client, key_prefix, **options)
        )


@pytest.fixture
def coordinator(backend: Backend, coordinator_of: Make) -> RedisMessageCoordinator:
    return coordinator_of(backend.client())


def message(number: int = 1) -> AgentMessage:
    return AgentMessage(SENDER, WORKER, message_id=f"message-{number}")


def send_and_kill(coordinator: RedisMessageCoordinator, agent_id: AgentId) -> None:
    """Make a dead letter."""
    coordinator.send_message(SENDER, agent_id, message())
    nack_for_good(coordinator, agent_id)


def nack_for_good(coordinator: RedisMessageCoordinator, agent_id: AgentId) -> None:
    received = coordinator.receive(agent_id)
    assert received is not None
    assert coordinator.nack(agent_id, received.token, FailureType.PERMANENT)


@pytest.mark.guarantee("2.3")
def test_a_dead_letter_moved_away_and_back_at_once_is_not_lost(
    coordinator: RedisMessageCoordinator,
) -> None:
    send_and_kill(coordinator, WORKER)
    assert coordinator.replay_dead_letters(WORKER, to=OTHER) == 1
    nack_for_good(coordinator, OTHER)

    assert coordinator.replay_dead_letters(OTHER, to=WORKER) == 1

    assert coordinator.receive(WORKER) is not None


@pytest.mark.guarantee("2.3")
def test_a_dead_letter_stays_while_the_other_inbox_holds_a_copy(
    coordinator: RedisMessageCoordinator,
) -> None:
    send_and_kill(coordinator, WORKER)
    coordinator.send_message(SENDER, OTHER, message())

    assert coordinator.replay_dead_letters(WORKER, to=OTHER) == 0

    assert coordinator.stats(WORKER).dead == 1


@pytest.mark.guarantee("2.9")
def test_a_send_repeated_after_its_message_was_handled_is_recognized_without_a_window(
    backend: Backend, proxy: FaultProxy, coordinator_of: Make
) -> None:
    options = {"dedup_window": 0.0}
    consumer = coordinator_of(backend.client(), **options)
    sender = coordinator_of(backend.client_through(proxy), **options)
    sender.send_message(SENDER, WORKER, message(1))
    handle(consumer)
    sends: list[Command] = []

    def handled_before_the_second(command: Command) -> bool:
        if command.name != "EVALSHA":
            return False
        sends.append(command)
        if len(sends) == 2:
            handle(consumer)
        return len(sends) == 1

    proxy.drop_reply_of(handled_before_the_second, times=2)

    assert sender.send_message(SENDER, WORKER, message(2)).delivered

    assert len(sends) == 2
    assert consumer.receive(WORKER) is None


def handle(consumer: RedisMessageCoordinator) -> None:
    received = consumer.receive(WORKER)
    assert received is not None
    assert consumer.ack(WORKER, received.token)


def fail_to_receive(
    coordinator: RedisMessageCoordinator, proxy: FaultProxy, *, times: int = 1
) -> None:
    """Claim on the server, and get no answer for as long as the call lasts."""
    proxy.drop_reply_of("EVALSHA", times=1000)

    def fail() -> None:
        with pytest.raises(CoordinatorUnavailableError):
            coordinator.receive(WORKER, 60.0)

    threads = [threading.Thread(target=fail, name=f"receiver-{n}") for n in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    proxy.heal()


@pytest.mark.backend("valkey")
@pytest.mark.guarantee("2.9")
def test_two_receives_that_failed_at_once_both_get_their_message_next_time(
    backend: Backend, proxy: FaultProxy, coordinator_of: Make
) -> None:
    receiver = coordinator_of(backend.client_through(proxy), call_timeout=0.2)
    sender = coordinator_of(backend.client())
    sender.send_many(SENDER, [message(1), message(2)])
    receiver.stats(WORKER)
    fail_to_receive(receiver, proxy, times=2)
    assert sender.stats(WORKER).leased == 2

    got = [receive_again(receiver) for _ in range(2)]

    assert {received.message.message_id for received in got} == {"message-1", "message-2"}
    assert [received.queue_message.delivery_attempts for received in got] == [1, 1]


def receive_again(receiver: RedisMessageCoordinator) -> ReceivedMessage:
    """Receive as soon as the breaker lets a call through again."""
    pause = threading.Event()
    for _ in range(200):
        try:
            received = receiver.receive(WORKER, 60.0)
        except CoordinatorUnavailableError:
            pause.wait(0.02)
        else:
            assert received is not None
            return received
    raise AssertionError("the breaker stays open")


@pytest.mark.backend("valkey")
@pytest.mark.guarantee("2.16")
@pytest.mark.guarantee("2.9")
def test_a_child_does_not_get_the_delivery_that_its_parent_asks_for_again(
    backend: Backend, proxy: FaultProxy, coordinator_of: Make
) -> None:
    receiver = coordinator_of(backend.client_through(proxy), call_timeout=0.2)
    sender = coordinator_of(backend.client())
    sender.send_many(SENDER, [message(1), message(2)])
    receiver.stats(WORKER)
    fail_to_receive(receiver, proxy)
    reader, writer = os.pipe()

    with warnings.catch_warnings():
        # The threads of this process are the proxy's, of which the child knows nothing.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.write(writer, receive_again(receiver).token.encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb"), os.fdopen(writer, "wb"):
        token = os.read(reader, 1000).decode()

    assert token.endswith(":message-2")
    assert receive_again(receiver).message.message_id == "message-1"


@pytest.mark.guarantee("2.4")
def test_recovery_finds_an_inbox_that_was_struck_out_before_its_dead_letters_came_back(
    backend: Backend, key_prefix: str, coordinator: RedisMessageCoordinator
) -> None:
    send_and_kill(coordinator, WORKER)
    # What recover_pending() does to an empty inbox that was not sent to for ten minutes.
    backend.client().zrem(Keys(key_prefix).inboxes, str(WORKER))

    operator = RedisMessageCoordinator(backend.client(), key_prefix)
    assert operator.replay_dead_letters(WORKER) == 1
    operator.close()
    assert coordinator.receive(WORKER, 0.0) is not None

    assert coordinator.recover_pending() == 1


@pytest.mark.guarantee("2.4")
def test_recovery_finds_an_inbox_sent_to_after_the_server_lost_everything(
    backend: Backend, key_prefix: str, coordinator: RedisMessageCoordinator
) -> None:
    coordinator.send_message(SENDER, WORKER, message(1))
    backend.delete_keys(f"{key_prefix}*")
    coordinator.send_message(SENDER, WORKER, message(2))
    assert coordinator.receive(WORKER, 0.0) is not None

    assert coordinator.recover_pending() == 1


@pytest.mark.guarantee("2.12")
def test_a_wait_that_cannot_begin_ends_like_one_that_is_cut_short(own_server: OwnServers) -> None:
    """A server that died after the claim and before the wait: ``receive`` looks again."""
    server = own_server()
    link = Link(server.client(), call_timeout=0.5)
    assert link.commands.run("key", Wire(("PING",))) == [b"PONG"]
    server.kill()

    with link.commands.blocking("key", Wire(("BZPOPMIN", "key", "0.1")), 0.1) as answered:
        assert answered(0.1)

    link.close()
