"""Connections of the library's own, to the server that a client of the user's points at.

A coordinator takes the address, the credentials and the TLS settings from the client it is given
and nothing else: its connections have no retries and no time-outs of their own (the gate has
both), answer in bytes, and are not shared with the user or, after a fork, with the parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol, cast

import attrs
import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

from tta_agent_coordination import checks
from tta_agent_coordination.transport.deadline import DeadlineSocket, remaining

# What a client may bring that the gate decides instead, or that ties it to its own pool.
_NOT_TAKEN = frozenset({
    "cache", "cache_config", "connection_pool", "decode_responses", "encoding", "encoding_errors",
    "event_dispatcher", "health_check_interval", "himport_registry", "legacy_responses",
    "parser_class", "protocol", "retry", "retry_on_error", "retry_on_timeout", "socket_timeout",
    "socket_connect_timeout",
})  # fmt: skip
_NOT_TAKEN_PREFIXES = ("maint", "oss_cluster_", "orig_")


class Connection(Protocol):
    """The part that is used of a redis-py connection."""

    def pack_commands(self, commands: Sequence[Sequence[object]], /) -> list[bytes]:
        """Return commands as they go over the wire."""
        ...

    def send_packed_command(self, command: Sequence[bytes], /) -> None:
        """Connect where need be, and send."""
        ...

    def read_response(self) -> object:
        """Return the next reply, or raise the error that it is."""
        ...

    def can_read(self, timeout: float) -> bool:
        """Whether a reply, or the end of the connection, has come; waits up to `timeout`."""
        ...

    def disconnect(self) -> None:
        """Close the socket; the next use connects again."""
        ...


class Pool(Protocol):
    """The part that is used of a redis-py connection pool."""

    connection_class: type[Any]
    connection_kwargs: dict[str, Any]

    def get_connection(self) -> Connection:
        """Return a connection that nobody else uses, and that has nothing to read."""
        ...

    def release(self, connection: Connection, /) -> None:
        """Give a connection back."""
        ...

    def disconnect(self, inuse_connections: bool = ...) -> None:
        """Disconnect the idle connections, or all."""
        ...


class Route(Protocol):
    """Where the commands for a key go.

    Attributes:
        spread: Whether keys without a common hash tag may be on different servers.
    """

    spread: bool

    def pool(self, key: str) -> Pool:
        """Return the pool of connections to the server that holds `key`."""
        ...

    def refresh(self) -> None:
        """Drop idle connections and what is known of the servers: something failed."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


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


def route_to(target: object, *, limit: float) -> Route:
    """Return a route of our own to where `target` points; it connects when first used.

    Args:
        target: ``redis.Redis``, ``redis.cluster.RedisCluster``, a ``FakeRedis`` or the address
            of a cluster.
        limit: Seconds that opening a connection, or one attempt, may take at most.

    Raises:
        TypeError: It is none of them; an asyncio client, for example.
    """
    if isinstance(target, RedisCluster):
        target = ClusterAddress.of(target)
    if isinstance(target, ClusterAddress):
        return ClusterRoute(target, limit=limit)
    client = checks.instance_of("redis", target, redis.Redis)
    return ServerRoute(cast("Pool", client.connection_pool), limit=limit)


class ServerRoute:
    """All keys are on one server."""

    spread = False

    def __init__(self, pool: Pool, *, limit: float) -> None:
        """Open a pool to where `pool` points; connects when first used."""
        self._pool = cast(
            "Pool",
            redis.ConnectionPool(
                connection_class=bounded(pool.connection_class),
                **_own_settings(pool.connection_kwargs, limit),
            ),
        )

    def pool(self, key: str) -> Pool:
        """Return the one pool."""
        del key
        return self._pool

    def refresh(self) -> None:
        """Drop idle connections: the server may have closed them all."""
        self._pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close every connection."""
        self._pool.disconnect()


class ClusterRoute:
    """Each key is on the node that owns its slot."""

    spread = True

    def __init__(self, address: ClusterAddress, *, limit: float) -> None:
        """Note the nodes; connects when first used."""
        self._nodes = address.nodes
        self._settings = _own_settings(address.settings, limit)
        self._settings.pop("retry")  # of single nodes; they get it from the cluster client
        self._cluster: Any = None  # a RedisCluster, whose types are not complete
        self._stale = False

    def pool(self, key: str) -> Pool:
        """Return the pool of the primary that owns the slot of `key`."""
        cluster = self._connected()
        node = cluster.get_node_from_key(key)
        if node is None:
            raise redis.ConnectionError(f"no node of the cluster owns the slot of {key!r}")
        pool = cluster.get_redis_connection(node).connection_pool
        kind = bounded(pool.connection_class)
        if pool.connection_class is not kind:
            pool.disconnect()
            pool.connection_class = kind
            pool.reset()
        return pool

    def refresh(self) -> None:
        """Drop idle connections; read the map of slots again before the next command."""
        if self._cluster is not None:
            self._stale = True
            for pool in self._pools(self._cluster):
                pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close every connection."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            for pool in self._pools(cluster):
                pool.disconnect()

    def _connected(self) -> Any:
        if self._cluster is None:
            nodes = [ClusterNode(host, port) for host, port in self._nodes]
            self._cluster = RedisCluster(
                startup_nodes=nodes, retry=Retry(NoBackoff(), 0), **self._settings
            )
        elif self._stale:
            self._stale = False
            self._cluster.nodes_manager.initialize()
        return self._cluster

    @staticmethod
    def _pools(cluster: Any) -> list[Pool]:
        clients = (node.redis_connection for node in cluster.get_nodes())
        return [client.connection_pool for client in clients if client is not None]


def _own_settings(settings: dict[str, Any], limit: float) -> dict[str, Any]:
    kept = {
        name: value
        for name, value in settings.items()
        if name not in _NOT_TAKEN and not name.startswith(_NOT_TAKEN_PREFIXES)
    }
    return kept | {
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": limit,
        "socket_connect_timeout": limit,
    }


class _Bounded:
    """Mixed into a connection class: its socket keeps to the deadline of the call."""

    socket_connect_timeout: float | None

    def _connect(self) -> DeadlineSocket:
        self.socket_connect_timeout = remaining() or self.socket_connect_timeout
        return DeadlineSocket(cast("Any", super())._connect())


@cache
def bounded(kind: type[Any]) -> type[Any]:
    """Return a connection class like `kind` whose sockets keep to the deadline of the call.

    Connections without a socket of the system's, as fakeredis has them, are left as they are.
    """
    if issubclass(kind, _Bounded) or _is_fake(kind):
        return kind
    return type(f"Bounded{kind.__name__}", (_Bounded, kind), {})


def _is_fake(kind: type[Any]) -> bool:
    return any(base.__module__.startswith("fakeredis") for base in kind.__mro__)
