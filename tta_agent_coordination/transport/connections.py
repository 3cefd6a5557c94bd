"""Connections of the library's own, to the server that a client of the user's points at.

A coordinator takes the address, the credentials and the TLS settings from the client it is given
and nothing else: its connections have no retries and no time-outs of their own (the gate has
both), answer in bytes, and are not shared with the user or, after a fork, with the parent.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping
from functools import cache
from typing import Any, Protocol, cast

import attrs
import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import Connection as TcpConnection
from redis.connection import SSLConnection
from redis.retry import Retry

from tta_agent_coordination.transport.deadline import DeadlineSocket, remaining
from tta_agent_coordination.transport.ready import ReadyPool
from tta_agent_coordination.transport.wire import Pool

# What a client may bring that the gate decides instead, or that ties it to its own pool.
_NOT_TAKEN = frozenset({
    "cache", "cache_config", "connection_pool", "decode_responses", "encoding", "encoding_errors",
    "event_dispatcher", "health_check_interval", "himport_registry", "legacy_responses",
    "max_connections", "parser_class", "protocol", "retry", "retry_on_error", "retry_on_timeout",
    "socket_connect_timeout", "socket_timeout",
})  # fmt: skip
_NOT_TAKEN_PREFIXES = ("maint", "oss_cluster_", "orig_")
# Not even a None: without any reply to its opening, a TLS connection looks as if one had come,
# because the session tickets of the server are still to be read.
_NOT_LEFT_OUT = frozenset({"driver_info", "lib_name", "lib_version"})
_NO_LIMIT = 2**31
"""Of connections: redis-py 8 would refuse the 101st thread."""


class Route(Protocol):
    """Where the commands for a key go.

    Attributes:
        spread: Whether keys without a common hash tag may be on different servers.
        blocks_sender: Whether a blocking command holds its sender up already, as in fakeredis,
            which keeps its time-out to the millisecond.
    """

    spread: bool
    blocks_sender: bool

    def pool(self, key: str) -> Pool:
        """Return the pool of connections to the server that holds `key`."""
        ...

    def servers(self) -> dict[str, Pool]:
        """Return the pools of all servers that hold keys, by the names of the servers."""
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
    if not isinstance(target, redis.Redis):
        # What was given is not shown: it may be a URL, and clients show their passwords, too.
        raise TypeError(f"redis must be a Redis, not a {type(target).__name__}")
    return ServerRoute(cast("Any", target.connection_pool), limit=limit)


def place_of(target: object) -> Hashable:
    """Return what two targets have in common only if they lead to the same data.

    Should they be written differently (a name and its address, say), they count as two.
    """
    if isinstance(target, RedisCluster):
        target = ClusterAddress.of(target)
    if isinstance(target, ClusterAddress):
        return tuple(sorted(target.nodes))
    pool: Any = getattr(target, "connection_pool", None)
    if pool is None or hasattr(pool, "sentinel_manager"):  # known by another way than its address
        return object()
    settings = pool.connection_kwargs
    if settings.get("server") is not None:  # fakeredis, whose clients each make up a host
        return id(settings["server"]), settings.get("db", 0)
    # redis-py leaves out of a URL's settings what the connection has as its default
    defaults = {"path": None, "host": "localhost", "port": 6379, "db": 0, "username": None}
    return tuple(settings.get(name, default) for name, default in defaults.items())


class ServerRoute:
    """All keys are on one server."""

    spread = False

    def __init__(self, pool: Any, *, limit: float) -> None:
        """Open a pool to where `pool` points; connects when first used."""
        self.blocks_sender = _is_fake(pool.connection_class)
        own = redis.ConnectionPool(
            connection_class=bounded(pool.connection_class),
            **_own_settings(pool.connection_kwargs, limit),
        )
        self._pool = ReadyPool(cast("Pool", own))
        self._name = _name_of(own.connection_kwargs)

    def pool(self, key: str) -> Pool:
        """Return the one pool."""
        del key
        return self._pool

    def servers(self) -> dict[str, Pool]:
        """Return the one server."""
        return {self._name: self._pool}

    def refresh(self) -> None:
        """Drop idle connections: the server may have closed them all."""
        self._pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close every connection."""
        # In fakeredis, a connection in use is a call in progress that cannot be cut off.
        self._pool.disconnect(inuse_connections=not self.blocks_sender)


class ClusterRoute:
    """Each key is on the node that owns its slot."""

    spread = True
    blocks_sender = False

    def __init__(self, address: ClusterAddress, *, limit: float) -> None:
        """Note the nodes; connects when first used."""
        self._nodes = address.nodes
        self._settings = _own_settings(address.settings, limit)
        self._settings.pop("retry")  # of single nodes; they get it from the cluster client
        tls = self._settings.pop("ssl", False)
        kind = self._settings.get("connection_class", SSLConnection if tls else TcpConnection)
        self._settings["connection_class"] = bounded(kind)
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

    def refresh(self) -> None:
        """Drop idle connections; read the map of slots again before the next command."""
        if self._cluster is not None:
            self._stale = True
            for pool in self._pools(self._cluster):
                self._ready(pool).disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close every connection."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            for pool in {*self._at_hand, *self._pools(cluster)}:
                self._ready(pool).disconnect()

    def _ready(self, pool: Pool) -> ReadyPool:
        return self._at_hand.setdefault(pool, ReadyPool(pool))

    def _connected(self) -> Any:
        with self._connecting:  # two at once would open twice, and one be lost
            return self._connect()

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
        return self._cluster

    @staticmethod
    def _pools(cluster: Any) -> list[Pool]:
        clients = (node.redis_connection for node in cluster.get_nodes())
        return [client.connection_pool for client in clients if client is not None]


def _name_of(settings: Mapping[str, Any]) -> str:
    """Return where a server is, without the credentials."""
    path = settings.get("path")
    return path or f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"


def _own_settings(settings: dict[str, Any], limit: float) -> dict[str, Any]:
    kept = {
        name: value
        for name, value in settings.items()
        if name not in _NOT_TAKEN
        and not name.startswith(_NOT_TAKEN_PREFIXES)
        and (value is not None or name not in _NOT_LEFT_OUT)
    }
    return kept | {
        "max_connections": _NO_LIMIT,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": limit,
        "socket_connect_timeout": limit,
    }


class _Bounded:
    """Mixed into a connection class: it connects, sends and reads within the deadline."""

    socket_timeout: float | None

    @property
    def socket_connect_timeout(self) -> float | None:
        """What is left to the call, asked anew for each address of the host."""
        try:
            return remaining() or self.socket_timeout
        except TimeoutError:
            return 0.001  # raised in here, it would leave a socket open

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, limit: float | None) -> None:
        """Ignore it: ours is the same as the other."""

    def connect(self) -> None:
        """Connect, and leave nothing half done: Ctrl-C may come between AUTH and its answer."""
        try:
            cast("Any", super()).connect()
        except BaseException:
            cast("Any", self).disconnect()
            raise

    def _connect(self) -> DeadlineSocket:
        try:
            remaining()
            return DeadlineSocket(cast("Any", super())._connect())
        except TimeoutError as error:
            # Of a unix socket, redis-py 7 and 8 ask for the port here, and fail.
            raise redis.TimeoutError("Timeout connecting to server") from error

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        """Shake hands in what is left to the call, and not in a whole time-out more."""
        sock.settimeout(self.socket_connect_timeout)
        wrapped = cast("Any", super())._wrap_socket_with_ssl(sock)
        wrapped.settimeout(self.socket_timeout)
        return wrapped


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
