"""Slots of a cluster that move to another node, and nodes that die, under running traffic."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.faults.calls import INBOX, SENDER, message
from tests.faults.conftest import Coordinators
from tests.faults.test_fail_over import waiting_at
from tests.faults.test_gate import taking
from tests.faults.test_threads import beside
from tests.faults.traffic import Traffic
from tests.support.servers import LocalCluster, LocalServer, binary_of
from tests.support.waiting import SLACK, eventually
from tta_agent_coordination import ReceivedMessage, RedisMessageCoordinator
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.transport.gate import Command
from tta_agent_coordination.transport.link import Link

pytestmark = pytest.mark.guarantee("2.13")

QUICK = ("--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0")
CALL_TIMEOUT = 6.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Three primaries with a replica each."""
    with LocalCluster(binary_of("cluster"), replicas=1, options=QUICK) as cluster:
        yield cluster


@pytest.fixture
def prefix() -> str:
    """A prefix of the test's own; the servers go with the module."""
    return f"test-{secrets.token_hex(6)}"


class Move:
    """A slot on its way from the node that owns it to another."""

    def __init__(self, cluster: LocalCluster, key: str) -> None:
        self.slot = cluster.nodes[0].admin.cluster("KEYSLOT", key)
        self._cluster = cluster
        self.source = next(node for node in cluster.nodes if self._is_owned_by(node))
        self.target = next(node for node in cluster.nodes if node is not self.source)

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Let both nodes know; at the end all nodes know that the slot has moved."""
        source, target = (node.admin.cluster("MYID") for node in (self.source, self.target))
        self._set_slot(self.target, "IMPORTING", source)
        self._set_slot(self.source, "MIGRATING", target)
        yield
        while self.left():
            self.move(self.left())
        for node in (self.target, self.source):
            self._set_slot(node, "NODE", target)

    def at_once(self) -> None:
        """Let Valkey move the slot as a whole."""
        words = ("CLUSTER MIGRATESLOTS", "SLOTSRANGE", self.slot, self.slot, "NODE")
        self.source.admin.execute_command(*words, self.target.admin.cluster("MYID"))
        eventually(lambda: self._is_owned_by(self.target), timeout=20)

    def left(self) -> list[bytes]:
        """What is still at the source."""
        return self.source.admin.execute_command("CLUSTER GETKEYSINSLOT", self.slot, 100)

    def move(self, keys: list[bytes]) -> None:
        """Move some keys."""
        host, port = self.target.address
        self.source.admin.execute_command("MIGRATE", host, port, "", 0, 5000, "KEYS", *keys)

    def _set_slot(self, node: LocalServer, state: str, other: str) -> None:
        node.admin.execute_command("CLUSTER SETSLOT", self.slot, state, other)

    def _is_owned_by(self, node: LocalServer) -> bool:
        known = node.admin.cluster("NODES").values()
        own = next(entry["slots"] for entry in known if "myself" in entry["flags"])
        return any(int(few[0]) <= self.slot <= int(few[-1]) for few in own if "-" not in few[0])


def inbox_key(prefix: str) -> str:
    return Keys(prefix).inbox(INBOX)["messages"]


def test_a_slot_that_moves_under_traffic_costs_only_time(
    cluster: LocalCluster, coordinators: Coordinators, prefix: str
) -> None:
    coordinator = coordinators(cluster.client(), prefix, call_timeout=CALL_TIMEOUT)
    traffic = Traffic(coordinator, "moved", replicated=False)
    with traffic.flowing():
        traffic.await_more()
        move = Move(cluster, inbox_key(prefix))
        with move.begun():
            for key in move.left():  # one by one: some are here, some are there
                move.move([key])
        traffic.await_more()
    assert not traffic.errors
    assert len(traffic.handled) == len(set(traffic.handled))
    assert traffic.safe == set(traffic.handled)
    assert {result.duplicate for result in traffic.confirmed} == {False}
    assert traffic.longest < CALL_TIMEOUT + SLACK


def test_a_slot_that_moves_at_once_is_not_even_noticed(
    cluster: LocalCluster, coordinators: Coordinators, prefix: str
) -> None:
    coordinator = coordinators(cluster.client(), prefix, call_timeout=CALL_TIMEOUT)
    traffic = Traffic(coordinator, "at-once", replicated=False)
    with traffic.flowing():
        traffic.await_more()
        move = Move(cluster, inbox_key(prefix))
        move.at_once()
        traffic.await_more()
    assert not traffic.errors
    assert sorted(traffic.handled) == sorted(result.message_id for result in traffic.confirmed)


def test_what_has_moved_already_is_asked_for_where_it_is(
    cluster: LocalCluster, prefix: str
) -> None:
    here, there = f"{prefix}:{{x}}:here", f"{prefix}:{{x}}:there"
    link = Link(cluster.client(), call_timeout=CALL_TIMEOUT)
    commands = [Command(("GET", key)) for key in (here, there)]
    link.commands.run(here, Command(("SET", here, "a")), Command(("SET", there, "b")))
    move = Move(cluster, here)
    with move.begun():
        move.move([there.encode()])
        with taking(0.0, 0.2):
            assert link.commands.run(here, *commands) == [b"a", b"b"]
    assert link.commands.run(here, *commands) == [b"a", b"b"]
    link.close()


def test_who_waits_for_an_inbox_that_moves_gets_its_messages(
    cluster: LocalCluster, coordinators: Coordinators, prefix: str
) -> None:
    coordinator = coordinators(cluster.client(), prefix, call_timeout=CALL_TIMEOUT)
    move = Move(cluster, inbox_key(prefix))
    received: list[ReceivedMessage | None] = []
    with beside("consumer", lambda: received.append(coordinator.receive(INBOX, wait=60.0))):
        eventually(lambda: waiting_at(move.source) == 1)
        with move.begun():
            pass
        send_one(coordinator)
    assert [got and got.message.message_id for got in received] == ["message-0001"]


def send_one(coordinator: RedisMessageCoordinator) -> None:
    assert coordinator.send_message(SENDER, INBOX, message(1)).delivered


@pytest.mark.parametrize("happen", [LocalServer.kill, LocalServer.pause])
def test_a_node_that_dies_or_hangs_is_replaced_under_traffic(
    cluster: LocalCluster,
    coordinators: Coordinators,
    prefix: str,
    happen: Callable[[LocalServer], None],
) -> None:
    coordinator = coordinators(
        cluster.client(), prefix, call_timeout=CALL_TIMEOUT, replicas=1, replicas_timeout=0.3
    )
    node = Move(cluster, inbox_key(prefix)).source
    replica = cluster.replicas[cluster.nodes.index(node)]
    traffic = Traffic(coordinator, happen.__name__)
    with traffic.flowing():
        traffic.await_more()
        happen(node)
        eventually(lambda: replica.admin.role()[0] == b"master", timeout=30)
        (node.resume if node.is_running else node.start)()
        eventually(lambda: LocalCluster.follows(node), timeout=30)
        traffic.await_more()
    assert traffic.longest < CALL_TIMEOUT + SLACK
    swap(cluster, node, replica)


def swap(cluster: LocalCluster, node: LocalServer, replica: LocalServer) -> None:
    """Note for the tests to come that the two have changed their roles."""
    index = cluster.nodes.index(node)
    cluster.nodes[index], cluster.replicas[index] = replica, node
