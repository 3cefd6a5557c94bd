"""A primary, its replicas and the sentinels that watch them, all real and all of one test."""

from pathlib import Path
from typing import Self

from tests.support.servers import LocalServer
from tta_agent_coordination.chaos.watch import NAME, QUICK, SENTINELS, Watch

__all__ = ["NAME", "Sentinels"]


class Sentinels:
    """Servers of which one is the primary, and sentinels that choose another when it dies.

    Attributes:
        nodes: The servers; the first one begins as the primary.
        sentinels: The sentinels; two of them must agree.
        addresses: Of the sentinels.
        url: For ``from_url``.
    """

    def __init__(self, binary: Path) -> None:
        self.nodes: list[LocalServer] = []
        self.sentinels: list[LocalServer] = []
        try:
            self._start(binary)
        except BaseException:
            self.close()
            raise
        self.addresses = [sentinel.address for sentinel in self.sentinels]
        self.url = self._watch.url

    @property
    def primary(self) -> LocalServer:
        """The server that the first sentinel which answers names."""
        return self._at(self._watch.primary)

    @property
    def replica(self) -> LocalServer:
        """A server that runs and is not the primary."""
        primary = self.primary
        return next(node for node in self.nodes if node is not primary and node.is_running)

    def fail_over(self, *how: str) -> None:
        """Let the sentinels change the roles in good order; see `Watch.fail_over`."""
        self._watch.fail_over(*how)
        self._reconnect()

    def await_primary_other_than(self, before: LocalServer) -> LocalServer:
        """Return the new primary, when it serves as such."""
        port = self._watch.await_other_than(before.address[1])
        self._reconnect()
        return self._at(port)

    def mend(self) -> None:
        """Start what was killed, let go on what was paused, and return when all is well."""
        for server in (*self.nodes, *self.sentinels):
            if server.is_running:
                server.resume()
            else:
                server.start()
        self._watch.await_agreement()
        self._reconnect()

    def close(self) -> None:
        """End all of them; idempotent."""
        for server in (*self.sentinels, *self.nodes):
            server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _start(self, binary: Path) -> None:
        self.nodes.append(LocalServer(binary, tcp=True, options=QUICK))
        host, port = self.nodes[0].address
        options = (*QUICK, "--replicaof", host, str(port))
        self.nodes.append(LocalServer(binary, tcp=True, options=options))
        self._watch = Watch([node.address[1] for node in self.nodes])
        for _ in range(SENTINELS):
            config = self._watch.config()
            self.sentinels.append(
                LocalServer(binary, tcp=True, options=("--sentinel",), config=config)
            )
            self._watch.add(self.sentinels[-1].address[1])
        self._watch.await_agreement()

    def _reconnect(self) -> None:
        for node in self.nodes:  # a server whose role changes closes every connection
            node.admin.connection_pool.disconnect()

    def _at(self, port: int) -> LocalServer:
        return next(node for node in self.nodes if node.address[1] == port)
