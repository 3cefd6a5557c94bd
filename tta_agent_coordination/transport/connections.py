"""Connections of the library's own, to the server that a client of the user's points at.

A coordinator takes the address, the credentials and the TLS settings from the client it is given
and nothing else: its connections have no retries and no time-outs of their own (the gate has
both), answer in bytes, and are not shared with the user or, after a fork, with the parent.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Protocol, cast

import redis
from redis.cluster import RedisCluster
from redis.sentinel import SentinelConnectionPool

from tta_agent_coordination.transport.bounded import bounded, is_fake, own_settings, speaks_tls
from tta_agent_coordination.transport.cluster import ClusterAddress, ClusterRoute
from tta_agent_coordination.transport.ready import ReadyPool
from tta_agent_coordination.transport.sentinel import SentinelAddress, SentinelRoute
from tta_agent_coordination.transport.wire import Pool


class Route(Protocol):
    """Where the commands for a key go.

    Attributes:
        spread: Whether keys without a common hash tag may be on different servers.
        blocks_sender: Whether a blocking command holds its sender up already, as in fakeredis,
            which keeps its time-out to the millisecond.
        tls: Whether servers are spoken to with TLS; None where there is no such choice, or where
            sentinels say which servers those are.
    """

    spread: bool
    blocks_sender: bool
    tls: bool | None

    def pool(self, key: str) -> Pool:
        """Return the pool of connections to the server that holds `key`."""
        ...

    def servers(self) -> dict[str, Pool]:
        """Return the pools of all servers that hold keys, by the names of the servers."""
        ...

    def importing(self, host: str, port: int) -> Pool | None:
        """Return the pool of a node that a slot is being moved to; None if it is not known."""
        ...

    def refresh(self) -> None:
        """Drop idle connections and what is known of the servers: something failed."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


def route_to(target: object, *, limit: float) -> Route:
    """Return a route of our own to where `target` points; it connects when first used.

    Args:
        target: ``redis.Redis``, ``redis.cluster.RedisCluster``, a ``FakeRedis`` or the address
            of a cluster or of sentinels.
        limit: Seconds that opening a connection, or one attempt, may take at most.

    Raises:
        TypeError: It is none of them; an asyncio client, for example.
        ConfigurationError: It is a client that a ``Sentinel`` made for replicas.
    """
    if isinstance(target, RedisCluster):
        target = ClusterAddress.of(target)
    if isinstance(target, ClusterAddress):
        return ClusterRoute(target, limit=limit)
    if isinstance(target, SentinelAddress):
        return SentinelRoute(target, limit=limit)
    if not isinstance(target, redis.Redis):
        # What was given is not shown: it may be a URL, and clients show their passwords, too.
        raise TypeError(f"redis must be a Redis, not {_kind_of(target)}")
    pool = cast("Any", target.connection_pool)
    if isinstance(pool, SentinelConnectionPool):
        return SentinelRoute(SentinelAddress.of(pool), limit=limit)
    return ServerRoute(pool, limit=limit)


def _kind_of(target: object) -> str:
    kind = type(target)
    if kind.__module__.startswith("redis.asyncio"):
        return "one of redis.asyncio; with asyncio, use tta_agent_coordination.aio and its from_url"
    return f"a {kind.__name__}; a URL is for from_url"


def place_of(target: object) -> Hashable:
    """Return what two targets have in common only if they lead to the same data.

    Should they be written differently (a name and its address, say), they count as two.
    """
    if isinstance(target, RedisCluster):
        target = ClusterAddress.of(target)
    if isinstance(target, ClusterAddress):
        return tuple(sorted(target.nodes))
    pool: Any = getattr(target, "connection_pool", None)
    if isinstance(pool, SentinelConnectionPool):
        target = SentinelAddress.of(pool)
    if isinstance(target, SentinelAddress):
        return target.name, *sorted(target.sentinels), target.settings.get("db", 0)
    if pool is None:
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
        self.blocks_sender = is_fake(pool.connection_class)
        self.tls = speaks_tls(pool.connection_class)
        own = redis.ConnectionPool(
            connection_class=bounded(pool.connection_class),
            **own_settings(pool.connection_kwargs, limit),
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

    def importing(self, host: str, port: int) -> None:
        """Return None: one server is all there is."""

    def refresh(self) -> None:
        """Drop idle connections: the server may have closed them all."""
        self._pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close every connection."""
        # In fakeredis, a connection in use is a call in progress that cannot be cut off.
        self._pool.disconnect(inuse_connections=not self.blocks_sender)


def _name_of(settings: Mapping[str, Any]) -> str:
    """Return where a server is, without the credentials."""
    path = settings.get("path")
    return path or f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"
