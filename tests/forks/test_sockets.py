"""A child closes what it inherited, and does nothing else to it."""

import gc
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from tests.conftest import OwnServers
from tests.faults.test_fork import in_child
from tests.support.backends import Backend, Servers
from tests.support.servers import LocalServer
from tests.support.waiting import eventually
from tests.workers.conftest import Coordinators
from tests.workers.given import ASKER, LONG, OWN, event, in_thread, send
from tta_agent_coordination import RedisMessageCoordinator
from tta_agent_coordination.transport.deadline import DeadlineSocket
from tta_agent_coordination.transport.gate import Command

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.guarantee("2.16"),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork"),
    # Python 3.12 and newer; that it is dangerous is why these tests are here.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def descriptors() -> set[str]:
    """What this process has open that is a socket."""
    found = set[str]()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:  # the directory itself, closed by now
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


@pytest.mark.backend("valkey", "cluster")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_child_that_does_nothing_has_no_socket_of_the_parents(
    backend: Backend, coordinators: Coordinators, key_prefix: str
) -> None:
    before = descriptors()
    coordinator = coordinators(backend.client(), key_prefix)
    coordinator.stats(OWN)
    ours = descriptors() - before
    assert ours
    assert not in_child(lambda: descriptors() & ours)
    coordinator.stats(OWN)
    assert ours <= descriptors()


@pytest.mark.backend("valkey")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_child_has_no_socket_of_a_receive_that_is_made_in_steps(
    backend: Backend, coordinators: Coordinators, key_prefix: str
) -> None:
    # given a receive that waits as those of asyncio do
    before = descriptors()
    coordinator = coordinators(backend.client(), key_prefix)
    receiving = coordinator.internals.steps.receiving(OWN, 1, 60.0, wait=LONG)
    assert receiving.step() is None

    # then a child has nothing of it, and the parent goes on to wait
    ours = descriptors() - before
    assert ours
    found, came = in_child(lambda: (descriptors() & ours, receiving.step()))
    assert (found, came) == (set(), [])
    send(coordinator, event(1))
    assert select.select([receiving.descriptor], [], [], LONG)[0]
    [received] = receiving.step()
    assert coordinator.ack(OWN, received.token)


@pytest.mark.backend("valkey")
def test_the_parent_keeps_its_connection_when_a_child_collects_its_garbage(
    backend: Backend, servers: Servers, coordinators: Coordinators, key_prefix: str
) -> None:
    # given a coordinator with one connection
    coordinator = coordinators(backend.client(), key_prefix)
    before = servers.connections()
    coordinator.stats(OWN)
    [ours] = servers.connections() - before

    # when a child makes one of its own, closes it, and throws everything away
    def use_and_drop() -> int:
        coordinator.stats(OWN)
        coordinator.close()
        return gc.collect()

    in_child(use_and_drop)

    # then the parent's is the same as before
    assert ours in servers.connections()
    coordinator.stats(OWN)
    eventually(lambda: servers.connections() - before == {ours})


@pytest.mark.backend("valkey")
def test_a_fork_in_the_middle_of_a_call_repeats_the_call_in_the_child(
    backend: Backend, coordinators: Coordinators, key_prefix: str
) -> None:
    # given a signal handler that forks
    coordinator = coordinators(backend.client(), key_prefix)
    children: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: children.append(os.fork()))
    pause = Command(("BZPOPMIN", f"{key_prefix}:never", "0.3"))
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()

    # when it comes while a reply is waited for
    answer: list[object] = []
    try:
        answer = coordinator.internals.link.commands.run("key", pause)
    finally:
        if children == [0]:
            os._exit(0 if answer == [None] else 1)
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGUSR1, before)

    # then each gets its own reply
    assert answer == [None]
    _, status = os.waitpid(children[0], 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_socket_that_was_closed_before_is_no_trouble() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        wrapped = DeadlineSocket(ours)
        ours.close()
        wrapped._drop()
        assert theirs.recv(1) == b""


PARENT = textwrap.dedent(
    """
    import os, sys, threading
    from tta_agent_coordination import AgentId, RedisMessageCoordinator
    coordinator = RedisMessageCoordinator.from_url(sys.argv[1], sys.argv[2])
    inbox = AgentId("greeter", "1")
    waiting = threading.Thread(
        target=coordinator.receive, args=(inbox, 60.0), kwargs={"wait": 60.0}, daemon=True
    )
    waiting.start()
    sys.stdin.readline()
    child = os.fork()
    if child == 0:
        sys.stdin.readline()
        os._exit(0)
    print(child, flush=True)
    threading.Event().wait(60)
    """
)


@pytest.fixture
def server(own_server: OwnServers) -> LocalServer:
    return own_server()


def test_a_blocked_command_of_a_dead_parent_does_not_live_on_in_its_child(
    server: LocalServer, coordinators: Coordinators
) -> None:
    # given a process that waits for a message, and has forked a child that does nothing
    coordinator = coordinators(server.client(), "forks")
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PARENT, server.url, "forks"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    try:
        eventually(lambda: waits(server) == 1, timeout=LONG, what="it does not wait")
        parent.stdin.write("fork\n")
        parent.stdin.flush()
        child = int(parent.stdout.readline())

        # when it is killed
        parent.kill()
        parent.wait()

        # then nobody waits any more, though the child lives, and nobody takes a wake-up from us
        eventually(lambda: waits(server) == 0, what="a dead process waits")
        os.kill(child, 0)
        receive = in_thread(lambda: coordinator.receive(OWN, wait=LONG), "receive")
        eventually(lambda: waits(server) == 1, timeout=LONG)
        send(coordinator, event(1))
        received = receive()
        assert received.message.sender == ASKER
    finally:
        parent.kill()
        parent.communicate()


def waits(server: LocalServer) -> int:
    return server.admin.info("clients")["blocked_clients"]


@pytest.mark.backend("valkey")
def test_a_child_can_do_everything_while_threads_of_the_parent_hold_every_lock(
    backend: Backend, coordinators: Coordinators, key_prefix: str
) -> None:
    # given threads that send, receive and acknowledge all the time
    coordinator = coordinators(backend.client(), key_prefix)
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            use(coordinator)

    workers = [in_thread(work, f"work-{number}") for number in range(4)]

    # when one more thread forks again and again
    try:
        fork = in_thread(lambda: [in_child(lambda: use(coordinator)) for _ in range(10)], "forks")
        found = fork()
    finally:
        ended.set()
        for result in workers:
            result()

    # then no child hangs
    assert found == [True] * 10


def use(coordinator: RedisMessageCoordinator) -> bool:
    send(coordinator, event(1, to=OWN))
    received = coordinator.receive(OWN, 60.0, wait=LONG)
    assert received is not None
    return bool(coordinator.ack(OWN, received.token))
