"""The way to a cluster: each key is on the node that owns its slot."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any, cast

import attrs
import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import Connection as TcpConnection
from redis.connection import SSLConnection
from redis.retry import Retry

from tta_agent_coordination.transport.bounded import alone, bounded, own_settings, speaks_tls
from tta_agent_coordination.transport.ready import ReadyPool
from tta_agent_coordination.transport.wire import Pool


@attrs.frozen
class ClusterAddress:
    """Some nodes of a cluster, and how to connect to any of them.

    Attributes:
        nodes: Host and port of each.
        settings: Keyword arguments of ``RedisCluster``, credentials among them.
    """

    nodes: tuple[tuple[str, int], ...]
    settings: dict[str, Any] = attrs.field(factory=dict[str, Any], repr=False)

    @classmethod
    def of(cls, client: RedisCluster) -> ClusterAddress:
        """Read them off a client."""
        # redis-py's own types are not complete.
        known = cast("Any", client)
        settings = dict[str, Any](known.nodes_manager.connection_kwargs)
        settings.pop("redis_connect_func", None)  # bound to the client it came from
        settings["address_remap"] = known.nodes_manager.address_remap
        return cls(tuple((node.host, node.port) for node in known.get_nodes()), settings)


class ClusterRoute:
    """Each key is on the node that owns its slot."""

    spread = True
    blocks_sender = False

    def __init__(self, address: ClusterAddress, *, limit: float) -> None:
        """Note the nodes; connects when first used."""
        self._nodes = address.nodes
        self._settings = own_settings(address.settings, limit)
        self._settings.pop("retry")  # of single nodes; they get it from the cluster client
        tls = self._settings.pop("ssl", False)
        kind = self._settings.get("connection_class", SSLConnection if tls else TcpConnection)
        self._settings["connection_class"] = bounded(kind)
        self.tls = speaks_tls(kind)
        self._cluster: Any = None  # a RedisCluster, whose types are not complete
        self._stale = False
        self._at_hand: dict[Pool, ReadyPool] = {}
        self._connecting = threading.Lock()

    def pool(self, key: str) -> Pool:
        """Return the pool of the primary that owns the slot of `key`."""
        cluster = self._connected()
        node = cluster.get_node_from_key(key)
        if node is None:
            raise redis.ConnectionError(f"no node of the cluster owns the slot of {key!r}")
        return self._ready(cluster.get_redis_connection(node).connection_pool)

    def servers(self) -> dict[str, Pool]:
        """Return every primary."""
        cluster = self._connected()
        return {
            node.name: self._ready(cluster.get_redis_connection(node).connection_pool)
            for node in cluster.get_primaries()
        }

    def importing(self, host: str, port: int) -> Pool | None:
        """Return the pool of a node that a slot is being moved to; None if it is not known."""
        cluster = self._connected()
        node = cluster.get_node(*cluster.nodes_manager.remap_host_port(host, port))
        return node and self._ready(cluster.get_redis_connection(node).connection_pool)

    def refresh(self) -> None:
        """Drop idle connections; read the map of slots again before the next command."""
        if self._cluster is not None:
            self._stale = True
            for pool in self._pools(self._cluster.get_nodes()):
                self._ready(pool).disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close every connection."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            for pool in {*self._at_hand, *self._pools(cluster.get_nodes())}:
                self._ready(pool).disconnect()

    def _ready(self, pool: Pool) -> ReadyPool:
        return self._at_hand.setdefault(pool, ReadyPool(pool))

    def _connected(self) -> Any:
        cluster = self._cluster
        if cluster is not None and not self._stale:
            return cluster
        return alone(self._connecting, self._connect)  # two would open twice, and one be lost

    def _connect(self) -> Any:
        if self._cluster is None:
            (host, port), *others = self._nodes
            # Only with a URL does it take the class of its connections from us.
            self._cluster = RedisCluster(
                url=f"redis://[{host}]:{port}" if ":" in host else f"redis://{host}:{port}",
                startup_nodes=[ClusterNode(*other) for other in others],
                retry=Retry(NoBackoff(), 0),
                **self._settings,
            )
        elif self._stale:
            self._stale = False
            self._cluster.nodes_manager.initialize()
            self._retire_others(self._pools(self._cluster.get_primaries()))
        return self._cluster

    def _retire_others(self, primaries: Sequence[Pool]) -> None:
        """Call away those who wait at a node that is no primary any more: it may just hang."""
        for pool in set(self._at_hand).difference(primaries):
            self._at_hand.pop(pool).retire()

    @staticmethod
    def _pools(nodes: Iterable[Any]) -> list[Pool]:
        clients = (node.redis_connection for node in nodes)
        return [client.connection_pool for client in clients if client is not None]
