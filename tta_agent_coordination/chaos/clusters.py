"""A cluster of the run's own, and the faults of its nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import attrs

from tta_agent_coordination import CoordinationError
from tta_agent_coordination.chaos.scene import Scenario, Scene
from tta_agent_coordination.chaos.settings import INBOX, ChaosError
from tta_agent_coordination.chaos.stages import AOF_ALWAYS, OwnServer, Stage
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.server_process import free_port
from tta_agent_coordination.transport.console import Console

SLOTS = 16384
PRIMARIES = 3
NODE_TIMEOUT = 1500
"""Milliseconds of silence after which a node is taken for dead."""
READY_TIMEOUT = 30.0
"""Seconds that a cluster may take to form, or to heal."""
FAILOVER_LOSS = 1.0
"""Seconds of writes that may not have reached the replica when its primary is killed."""

_LOOK = 0.02


@attrs.frozen(eq=False)
class Seat:
    """A node of a cluster that is formed.

    Attributes:
        console: Of the node.
        port: Of 127.0.0.1, at which it listens.
        bus_port: At which it talks with the others.
    """

    console: Console
    port: int
    bus_port: int


def form(primaries: Sequence[Seat], replicas: Mapping[Seat, Seat]) -> None:
    """Make a cluster of empty nodes that share the slots, and return when it serves.

    Args:
        primaries: The nodes that get the slots.
        replicas: Further nodes, each with its primary.

    Raises:
        ChaosError: It does not within `READY_TIMEOUT`.
    """
    share = -(-SLOTS // len(primaries))
    for index, seat in enumerate(primaries):
        first, last = index * share, min((index + 1) * share, SLOTS) - 1
        seat.console("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        seat.console("CLUSTER", "ADDSLOTSRANGE", first, last)
    every = [*primaries, *replicas]
    for seat in every[1:]:
        primaries[0].console("CLUSTER", "MEET", "127.0.0.1", seat.port, seat.bus_port)
    await_ready([seat.console for seat in every])
    for replica, primary in replicas.items():
        replica.console("CLUSTER", "REPLICATE", primary.console("CLUSTER", "MYID").decode())
    for replica in replicas:
        await_in_step(replica.console)


def await_in_step(console: Console) -> None:
    """Return when a replica has all the data of its primary."""
    await_that(lambda: is_in_step(console), "the replica does not get in step")


def await_ready(nodes: Sequence[Console]) -> None:
    """Return when all nodes know each other, and see every slot served."""
    wanted = {
        "cluster_state": "ok",
        "cluster_slots_ok": str(SLOTS),
        "cluster_known_nodes": str(len(nodes)),
    }

    def ready(console: Console) -> bool:
        return wanted.items() <= told(console("CLUSTER", "INFO")).items()

    await_that(lambda: all(map(ready, nodes)), "the cluster does not serve")


def told(reply: bytes) -> dict[str, str]:
    """Return the lines ``name:value`` of a reply."""
    lines = reply.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def await_that(condition: Callable[[], bool], otherwise: str) -> None:
    """Return when a condition holds; servers that do not answer do not count.

    Raises:
        ChaosError: It does not within `READY_TIMEOUT`.
    """
    end = time.monotonic() + READY_TIMEOUT
    while not _holds(condition):
        if time.monotonic() > end:
            raise ChaosError(f"{otherwise} within {READY_TIMEOUT:g} s")
        time.sleep(_LOOK)


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except CoordinationError:
        return False


class ClusterNode(OwnServer):
    """One node, at ports that stay the same."""

    def __init__(self, folder: Path, options: Sequence[str]) -> None:
        """Start it."""
        self._port, self._bus_port = free_port(), free_port()
        in_cluster = ("--cluster-enabled", "yes", "--cluster-port", str(self._bus_port))
        super().__init__(folder, (*in_cluster, *options), port=self._port)

    @property
    def seat(self) -> Seat:
        """Where it is."""
        return Seat(self.console(), self._port, self._bus_port)


class OwnCluster(Stage):
    """Three primaries, and a replica of the one with the inbox if there shall be one."""

    def __init__(self, folder: Path, options: Sequence[str] = (), *, replica: bool = False) -> None:
        """Start it below `folder`."""
        self._folder = folder
        self._options = (
            *("--cluster-node-timeout", str(NODE_TIMEOUT)),
            *("--cluster-replica-validity-factor", "0"),
            *("--repl-diskless-sync-delay", "0"),
            *options,
        )
        self._nodes: list[ClusterNode] = []
        try:
            primaries = [self._add_node() for _ in range(PRIMARIES)]
            self.holder = primaries[self._first_holder()]
            self.spare = self._add_node() if replica else None
            spares = {self.spare.seat: self.holder.seat} if self.spare else {}
            form([node.seat for node in primaries], spares)
        except BaseException:
            self.close()
            raise
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{n.port}" for n in self._nodes)

    def console(self) -> Console:
        """See `Stage.console`."""
        return self.holder.console()

    def consoles(self) -> Sequence[Console]:
        """See `Stage.consoles`."""
        return [node.console() for node in self._nodes if node is not self.spare]

    def await_ready(self) -> None:
        """Return when every slot is served again."""
        await_ready([node.console() for node in self._nodes])

    def fail_over(self) -> None:
        """Return when the replica has taken over; it is the holder then, without a replica."""
        spare = self.spare
        if spare is None:
            raise RuntimeError("this cluster has no replica")
        await_that(lambda: role_of(spare.console()) == "master", "the replica does not take over")
        self.holder, self.spare = spare, None

    def take_back(self, node: ClusterNode) -> None:
        """Start a node that was replaced; return when it is the replica of its successor."""
        node.start()
        self.spare = node
        await_in_step(node.console())
        self.await_ready()

    def close(self) -> None:
        """End every node."""
        for node in self._nodes:
            node.close()

    def _add_node(self) -> ClusterNode:
        node = ClusterNode(self._folder / f"node{len(self._nodes)}", self._options)
        self._nodes.append(node)
        return node

    def _first_holder(self) -> int:
        key = Keys("tta").inbox(INBOX)["ready"]
        return self._nodes[0].console()("CLUSTER", "KEYSLOT", key) // -(-SLOTS // PRIMARIES)


def role_of(console: Console) -> str:
    """Return ``master`` or ``slave``."""
    return console("ROLE")[0].decode()


def is_in_step(console: Console) -> bool:
    """Whether a replica is connected to its primary, and has all its data."""
    return told(console("INFO", "replication")).get("master_link_status") == "up"


def restart_node(scene: Scene) -> None:
    """Kill the node with the inbox and start it again with its AOF."""
    cluster = cast("OwnCluster", scene.stage)
    cluster.holder.kill()
    scene.sleep(0.1, 1.0)
    cluster.holder.start()
    cluster.await_ready()


def replace_node(scene: Scene) -> None:
    """Kill the node with the inbox, let its replica take over, and start it again as replica."""
    cluster = cast("OwnCluster", scene.stage)
    killed = cluster.holder
    with scene.losing(FAILOVER_LOSS):
        killed.kill()
        cluster.fail_over()
    cluster.take_back(killed)


def _own(folder: Path, *, replica: bool) -> OwnCluster:
    return OwnCluster(folder, () if replica else AOF_ALWAYS, replica=replica)


SCENARIOS = (
    Scenario(
        "cluster-node-killed",
        "SIGKILL of the node with the inbox, restarted with its AOF (always)",
        restart_node,
        open_stage=partial(_own, replica=False),
    ),
    Scenario(
        "cluster-failover",
        "SIGKILL of the node with the inbox, whose replica takes over",
        replace_node,
        open_stage=partial(_own, replica=True),
        bound="what had not reached the replica: at most its last second",
    ),
)
