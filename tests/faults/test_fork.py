"""Coordinators in child processes."""

import multiprocessing
import os
import pickle
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import pytest

from tests.faults.calls import INBOX, OTHER, SENDER, message
from tests.faults.conftest import Coordinators
from tests.faults.test_breaker_opens import open_breaker
from tests.faults.test_threads import beside
from tests.support.backends import Backend
from tta_agent_coordination import CoordinatorUnavailableError, RedisMessageCoordinator
from tta_agent_coordination.proxy import FaultProxy

CHILD_TIMEOUT = 15.0

pytestmark = [
    pytest.mark.guarantee("2.16"),
    pytest.mark.backend("valkey"),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork"),
    # Python 3.12 and newer; that it is dangerous is why these tests are here.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def in_child(action: Callable[[], Any]) -> Any:
    """Run an action in a forked child and return what it returned; fail if it hangs."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, pickle.dumps(action()))
        except BaseException as error:  # noqa: BLE001 - the parent shall see it
            os.write(writing, pickle.dumps(AssertionError(repr(error))))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answered, _, _ = select.select([pipe], [], [], CHILD_TIMEOUT)
        if not answered:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert answered, "the child hangs"
        result = pickle.loads(pipe.read())
    if isinstance(result, AssertionError):
        raise result
    return result


def exchange(coordinator: RedisMessageCoordinator, number: int) -> list[str]:
    """Send a message and receive it; return what it took."""
    inbox = OTHER if number % 2 else INBOX
    coordinator.send_message(SENDER, inbox, message(number))
    received = coordinator.receive(inbox, wait=1.0)
    assert received is not None
    assert coordinator.ack(inbox, received.token)
    return [received.message.message_id]


def test_a_coordinator_in_use_works_in_the_child_and_goes_on_in_the_parent(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    # given a coordinator with a connection
    coordinator = through_proxy()
    exchange(coordinator, 0)
    assert proxy.connections == 1

    # when parent and child use it in turn
    found = in_child(lambda: [exchange(coordinator, n) for n in range(1, 20, 2)])

    # then the child had one of its own, and the parent's still stands
    assert found == [[f"message-{n:04}"] for n in range(1, 20, 2)]
    assert proxy.connections == 2
    assert exchange(coordinator, 20) == ["message-0020"]
    assert proxy.connections == 2


def test_parent_and_child_do_not_read_each_others_replies(
    through_proxy: Coordinators,
) -> None:
    coordinator = through_proxy()
    exchange(coordinator, 0)
    results: list[Any] = []

    def work() -> None:
        results.extend(exchange(coordinator, n) for n in range(2, 100, 2))

    start = threading.Thread(target=work, name="parent-work")
    start.start()
    found = in_child(lambda: [exchange(coordinator, n) for n in range(101, 200, 2)])
    start.join()

    assert found == [[f"message-{n:04}"] for n in range(101, 200, 2)]
    assert results == [[f"message-{n:04}"] for n in range(2, 100, 2)]


def test_a_coordinator_that_was_not_used_yet_works_in_the_child(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy()
    assert in_child(lambda: exchange(coordinator, 1)) == ["message-0001"]
    assert exchange(coordinator, 2) == ["message-0002"]
    assert proxy.connections == 2


def test_a_child_of_a_parent_with_an_open_breaker_and_held_locks_starts_anew(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    # given an open breaker, and threads in the middle of everything that has a lock
    coordinator = through_proxy(call_timeout=0.5)
    coordinator.stats(INBOX)
    proxy.refuse()
    open_breaker(coordinator)
    proxy.heal()
    proxy.drop_reply_of("EVALSHA", times=2)  # so that the child pauses between attempts
    gate = coordinator._calls.link.commands
    locked, forked = threading.Event(), threading.Event()

    def hold() -> None:
        pool = coordinator._calls.link.route().pool("any").pool
        with gate._breaker._breaker._lock, gate._closed._cond, pool._lock:
            locked.set()
            forked.wait(CHILD_TIMEOUT)

    # when it forks
    with beside("holder", hold):
        assert locked.wait(5.0)
        try:
            found = in_child(lambda: [exchange(coordinator, 1), gate.state])
        finally:
            forked.set()

    # then the child works at once; the parent's breaker is as it was
    assert found == [["message-0001"], "closed"]
    assert gate.state == "open"


def test_a_closed_coordinator_is_closed_in_the_child_too(through_proxy: Coordinators) -> None:
    coordinator = through_proxy()
    coordinator.close()

    def call() -> str:
        try:
            coordinator.stats(INBOX)
        except Exception as error:  # noqa: BLE001 - its name is what is looked at
            return type(error).__name__
        return "no error"

    assert in_child(call) == "ConfigurationError"


def test_closing_it_in_the_child_leaves_the_parents_connections_alone(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy()
    coordinator.stats(INBOX)
    in_child(coordinator.close)
    coordinator.stats(INBOX)
    assert proxy.connections == 1


def test_what_the_parent_received_without_a_reply_is_not_the_childs(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    # given a receive of the parent's that was carried out without a reply
    coordinator = through_proxy(call_timeout=0.3)
    coordinator.send_message(SENDER, INBOX, message(1))
    proxy.drop_reply_of("EVALSHA", times=10**6)
    with pytest.raises(CoordinatorUnavailableError):
        coordinator.receive(INBOX, 60.0)
    proxy.heal()

    # then the child does not get it, and the parent does
    assert in_child(lambda: coordinator.receive(INBOX, 60.0)) is None
    deadline = time.monotonic() + 5.0
    received = None
    while received is None and time.monotonic() < deadline:
        try:
            received = coordinator.receive(INBOX, 60.0)
        except CoordinatorUnavailableError:
            threading.Event().wait(0.05)
    assert received is not None
    assert received.queue_message.delivery_attempts == 1


def exchange_in_process(
    made: RedisMessageCoordinator | tuple[str, str], number: int, answer: Connection
) -> None:
    if isinstance(made, tuple):
        made = RedisMessageCoordinator.from_url(*made)
    answer.send(exchange(made, number))
    made.close()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_work(
    backend: Backend, key_prefix: str, coordinators: Coordinators, method: str
) -> None:
    coordinator = coordinators(backend.client(), key_prefix)
    exchange(coordinator, 0)
    # Only a forked one can be handed the coordinator itself.
    made = coordinator if method == "fork" else (backend.url, key_prefix)
    context = multiprocessing.get_context(method)
    answer, answering = context.Pipe(duplex=False)
    process = context.Process(target=exchange_in_process, args=(made, 1, answering), name="child")
    process.start()
    try:
        assert answer.poll(CHILD_TIMEOUT)
        assert answer.recv() == ["message-0001"]
    finally:
        process.join(CHILD_TIMEOUT)
        assert process.exitcode == 0
        answer.close()
        answering.close()
    assert exchange(coordinator, 2) == ["message-0002"]
