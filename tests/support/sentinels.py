"""A primary, its replicas and the sentinels that watch them, all real and all of one test."""

import secrets
from pathlib import Path
from typing import Self

import redis

from tests.support.servers import LocalServer
from tests.support.waiting import eventually, holds_within

NAME = "agents"
"""By which the sentinels know the primary."""
DOWN_AFTER = 0.8
"""Seconds of silence after which a sentinel takes a server for dead."""
FAIL_OVER_TIMEOUT = 2.0
"""Seconds that a fail-over may take; the next one begins after twice as many."""
PATIENCE = 30.0
"""Seconds that a fail-over may take on a busy machine; it takes about two."""

_PERIODS = (
    "info-period",
    "300",
    "publish-period",
    "500",
    "ask-period",
    "200",
    "ping-period",
    "200",
)
"""Milliseconds; sentinels would take ten seconds to tell an old primary to follow the new one."""
_QUICK = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")


class Sentinels:
    """Servers of which one is the primary, and sentinels that choose another when it dies.

    Attributes:
        nodes: The servers; the first one begins as the primary.
        sentinels: The sentinels; two of them must agree.
        url: For ``from_url``.
    """

    def __init__(self, binary: Path, *, replicas: int = 1, sentinels: int = 3) -> None:
        self.nodes: list[LocalServer] = []
        self.sentinels: list[LocalServer] = []
        try:
            self._start(binary, replicas, sentinels)
        except BaseException:
            self.close()
            raise
        self.addresses = [sentinel.address for sentinel in self.sentinels]
        hosts = ",".join(f"{host}:{port}" for host, port in self.addresses)
        self.url = f"redis+sentinel://{hosts}/{NAME}"

    @property
    def primary(self) -> LocalServer:
        """The server that the first sentinel which runs names."""
        asked = next(sentinel for sentinel in self.sentinels if sentinel.is_running)
        _, port = asked.admin.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", NAME)
        return next(node for node in self.nodes if node.address[1] == port)

    @property
    def replica(self) -> LocalServer:
        """A server that runs and is not the primary."""
        primary = self.primary
        return next(node for node in self.nodes if node is not primary and node.is_running)

    def fail_over(self, *how: str) -> None:
        """Let the sentinels change the roles in good order; return when they have.

        Args:
            how: ``COORDINATED`` lets the primary refuse writes before it is replaced.
        """
        before = self.primary
        for _ in range(5):  # a busy machine may take longer than the sentinels allow
            eventually(
                lambda: self._begins_fail_over(*how), timeout=PATIENCE, what="the sentinels refuse"
            )
            if holds_within(2 * FAIL_OVER_TIMEOUT, lambda: self._serves_other_than(before)):
                break
        self.await_primary_other_than(before)

    def await_primary_other_than(self, before: LocalServer) -> LocalServer:
        """Return the new primary, when it serves as such."""
        eventually(lambda: self._serves_other_than(before), timeout=PATIENCE, what="no fail-over")
        return self.primary

    def await_replica(self, node: LocalServer) -> None:
        """Return when `node` is a replica of the primary and has all its data."""
        eventually(lambda: _follows(node), timeout=PATIENCE, what="it does not become a replica")

    def mend(self) -> None:
        """Start what was killed, let go on what was paused, and return when all is well."""
        for server in (*self.nodes, *self.sentinels):
            if server.is_running:
                server.resume()
            else:
                server.start()
        self._hurry()
        eventually(self._is_well, timeout=PATIENCE, what="the sentinels do not agree")

    def close(self) -> None:
        """End all of them; idempotent."""
        for server in (*self.sentinels, *self.nodes):
            server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _start(self, binary: Path, replicas: int, sentinels: int) -> None:
        self.nodes.append(LocalServer(binary, tcp=True, options=_QUICK))
        host, port = self.nodes[0].address
        for _ in range(replicas):
            options = (*_QUICK, "--replicaof", host, str(port))
            self.nodes.append(LocalServer(binary, tcp=True, options=options))
        known = [self._config(node.address[1], "known-replica") for node in self.nodes[1:]]
        for _ in range(sentinels):
            self._start_sentinel(binary, known)
        self._hurry()
        eventually(self._is_well, timeout=PATIENCE, what="the sentinels do not agree")

    def _start_sentinel(self, binary: Path, known: list[str]) -> None:
        number = secrets.token_hex(20)
        config = [
            f"sentinel myid {number}",
            f"sentinel monitor {NAME} 127.0.0.1 {self.nodes[0].address[1]} 2",
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER * 1000:.0f}",
            f"sentinel failover-timeout {NAME} {FAIL_OVER_TIMEOUT * 1000:.0f}",
            *known,
        ]
        sentinel = LocalServer(
            binary, tcp=True, options=("--sentinel",), config="\n".join([*config, ""])
        )
        self.sentinels.append(sentinel)
        known.append(self._config(sentinel.address[1], "known-sentinel", number))

    def _serves_other_than(self, before: LocalServer) -> bool:
        now = self.primary
        return now is not before and _role(now) == "master"

    def _begins_fail_over(self, *how: str) -> bool:
        try:
            self.sentinels[0].admin.execute_command("SENTINEL FAILOVER", NAME, *how)
        except redis.ResponseError:  # of the last one, or it thinks the replica is not ready
            return False
        return True

    def _hurry(self) -> None:
        for sentinel in self.sentinels:
            sentinel.admin.execute_command("SENTINEL", "DEBUG", *_PERIODS)

    @staticmethod
    def _config(port: int, *words: str) -> str:
        kind, *rest = words
        return " ".join([f"sentinel {kind} {NAME} 127.0.0.1 {port}", *rest])

    def _is_well(self) -> bool:
        primary = self.primary
        return (
            all(self._agrees(sentinel, primary) for sentinel in self.sentinels)
            and _role(primary) == "master"
            and all(_follows(node) for node in self.nodes if node is not primary)
        )

    def _agrees(self, sentinel: LocalServer, primary: LocalServer) -> bool:
        state = sentinel.admin.execute_command("SENTINEL MASTER", NAME)
        return (
            state["num-other-sentinels"] == len(self.sentinels) - 1
            and state["num-slaves"] == len(self.nodes) - 1
            and state["port"] == primary.address[1]
            and not state["is_sdown"]
            and not state["is_odown"]
        )


def _replication(node: LocalServer) -> dict[str, object]:
    """What a server says of its replication; nothing when it just closed the connection."""
    try:
        return dict(node.admin.info("replication"))
    except redis.ConnectionError:  # as it does with every client when its role changes
        return {"role": "changing"}


def _role(node: LocalServer) -> object:
    return _replication(node)["role"]


def _follows(node: LocalServer) -> bool:
    state = _replication(node)
    return state["role"] == "slave" and state["master_link_status"] == "up"
