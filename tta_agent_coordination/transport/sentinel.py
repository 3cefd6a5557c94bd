"""The way to a primary that sentinels watch: they are asked who it is, and again after a failure.

It goes as Redis describes for clients of Sentinel: ask one sentinel after the other, connect to
the server that it names, and use it only if it says itself that it is the primary.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, cast

import attrs
import redis

from tta_agent_coordination.errors import ConfigurationError
from tta_agent_coordination.transport.bounded import alone, bounded, own_settings
from tta_agent_coordination.transport.command import Command, Word
from tta_agent_coordination.transport.deadline import remaining, within
from tta_agent_coordination.transport.faults import Fault, UnknownPrimaryError, fault_of
from tta_agent_coordination.transport.ready import ReadyPool
from tta_agent_coordination.transport.wire import Connection, Pool

logger = logging.getLogger("tta_agent_coordination")

DEFAULT_SENTINEL_PORT = 26379
"""Where sentinels listen, unless their address says otherwise."""

_Host = tuple[str, int]
_PRIMARY_ROLES = (b"master", b"primary")


@attrs.frozen
class SentinelAddress:
    """Some sentinels, the name they know a primary by, and how to connect to them and to it.

    Attributes:
        name: Of the primary, as in ``sentinel monitor <name> …``.
        sentinels: Host and port of each.
        settings: Keyword arguments of connections to the primary, credentials among them.
        sentinel_settings: The same for the sentinels, which have credentials of their own.
        force_ip: A host that replaces the one that sentinels name, as redis-py has it.
    """

    name: str
    sentinels: tuple[_Host, ...]
    settings: dict[str, Any] = attrs.field(factory=dict[str, Any], repr=False)
    sentinel_settings: dict[str, Any] = attrs.field(factory=dict[str, Any], repr=False)
    force_ip: str | None = None

    @classmethod
    def of(cls, pool: Any) -> SentinelAddress:
        """Read it off the pool of a client that ``redis.sentinel.Sentinel`` made.

        Raises:
            ConfigurationError: The client is for reading from replicas.
        """
        if not pool.is_master:
            raise ConfigurationError(
                f"the client reads from replicas of {pool.service_name!r}: "
                "give one that was made with Sentinel(…).master_for(…)"
            )
        known = [client.connection_pool for client in pool.sentinel_manager.sentinels]
        return cls(
            pool.service_name,
            tuple((each.connection_kwargs["host"], each.connection_kwargs["port"])
                  for each in known),
            {**pool.connection_kwargs, "connection_class": _plain(pool.connection_class)},
            {**known[0].connection_kwargs, "connection_class": known[0].connection_class},
            getattr(pool.sentinel_manager, "_force_master_ip", None),  # redis-py 6.4 has it too
        )  # fmt: skip


def _plain(kind: type[Any]) -> type[Any]:
    """Return the class of connections that do not look for the primary themselves."""
    return redis.SSLConnection if issubclass(kind, redis.SSLConnection) else redis.Connection


class SentinelRoute:
    """All keys are on the one server that is the primary at the moment."""

    spread = False
    blocks_sender = False
    tls: bool | None = None

    def __init__(self, address: SentinelAddress, *, limit: float) -> None:
        """Note the sentinels; connects when first used."""
        self._name = address.name
        self._force_ip = address.force_ip
        self._limit = limit
        self._sentinels = list(address.sentinels)
        self._to_sentinels = _connecting(address.sentinel_settings, limit)
        self._to_sentinels.pop("max_connections")
        self._to_primary = _connecting(address.settings, limit)
        self._primary: tuple[_Host, ReadyPool] | None = None
        self._stale = False
        self._closed = False
        self._asking = threading.Lock()

    def pool(self, key: str) -> Pool:
        """Return the pool of the primary; the first one after a failure asks who it is.

        Raises:
            redis.ConnectionError: No sentinel answers, or none names a server that is a primary.
            UnknownPrimaryError: They all answer, and know no primary of that name.
        """
        del key
        primary = self._primary
        if primary is None or self._stale:
            primary = alone(self._asking, self._found)  # one asks for all
        return primary[1]

    def servers(self) -> dict[str, Pool]:
        """Return the primary."""
        pool = self.pool("")
        host, _ = cast("tuple[_Host, ReadyPool]", self._primary)
        return {_text(host): pool}

    def importing(self, host: str, port: int) -> None:
        """Return None: there is one primary."""

    def refresh(self) -> None:
        """Drop idle connections; ask the sentinels before the next command."""
        self._stale = True
        if self._primary is not None:
            self._primary[1].disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close every connection."""
        self._closed = True
        if self._primary is not None:
            self._primary[1].disconnect()

    def _found(self) -> tuple[_Host, ReadyPool]:
        if self._primary is None or self._stale:
            self._stale = False  # what fails from now on may be of the new primary
            try:
                self._take(*self._ask())
            except BaseException:
                self._stale = True
                raise
        return cast("tuple[_Host, ReadyPool]", self._primary)

    def _take(self, host: _Host, pool: ReadyPool) -> None:
        before, self._primary = self._primary, (host, pool)
        if self._closed:
            pool.disconnect()
        if before is None:
            logger.debug(
                "the primary of %s is %s", self._name, _text(host),
                extra={"event": "primary_found", "primary": _text(host)},
            )  # fmt: skip
        elif before[1] is not pool:
            logger.warning(
                "the primary of %s is now %s; it was %s",
                self._name, _text(host), _text(before[0]),
                extra={"event": "primary_changed", "primary": _text(host)},
            )  # fmt: skip
            before[1].retire()  # who waits there would wait for nothing

    def _ask(self) -> tuple[_Host, ReadyPool]:
        """Ask the sentinels one after the other, each for its share of the time that is left."""
        errors: dict[_Host, Exception] = {}
        named: dict[_Host, Exception] = {}
        for position, sentinel in enumerate(tuple(self._sentinels)):
            try:
                left = remaining() or self._limit
                with within(time.monotonic() + left / (len(self._sentinels) - position)):
                    found = self._primary_by(sentinel, named)
            except (redis.RedisError, OSError) as error:
                errors[sentinel] = error
            else:
                self._sentinels.remove(sentinel)
                self._sentinels.insert(0, sentinel)
                return found
        raise _verdict(self._name, errors)

    def _primary_by(
        self, sentinel: _Host, named: dict[_Host, Exception]
    ) -> tuple[_Host, ReadyPool]:
        """Return the primary by the account of one sentinel, if the server says so too."""
        host = self._named_by(sentinel)
        if host in named:
            raise named[host]
        try:
            return host, self._checked(host)
        except (redis.RedisError, OSError) as error:
            named[host] = error
            raise

    def _named_by(self, sentinel: _Host) -> _Host:
        kind = self._to_sentinels["connection_class"]
        settings = {name: self._to_sentinels[name] for name in self._to_sentinels
                    if name != "connection_class"}  # fmt: skip
        connection = kind(host=sentinel[0], port=sentinel[1], **settings)
        try:
            answer = _ask(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
        finally:
            connection.disconnect()
        if answer is None:
            raise UnknownPrimaryError("does not know it")
        host, port = answer
        return self._force_ip or host.decode(), int(port)

    def _checked(self, host: _Host) -> ReadyPool:
        """Return a pool of connections to a server that says of itself that it is a primary."""
        if self._primary is not None and self._primary[0] == host:
            pool = self._primary[1]
        else:
            own = redis.ConnectionPool(**self._to_primary, host=host[0], port=host[1])
            pool = ReadyPool(cast("Pool", own))
        connection = pool.get_connection()
        try:
            # Unlike ROLE, every user may say HELLO.
            answer = _ask(connection, "HELLO", 2)
        except BaseException:
            connection.disconnect()
            raise
        finally:
            pool.release(connection)
        role = dict(zip(answer[::2], answer[1::2], strict=True)).get(b"role")
        if role not in _PRIMARY_ROLES:
            pool.disconnect(inuse_connections=False)
            raise redis.ConnectionError(f"{_text(host)}, which it names, is a replica at present")
        return pool


def _connecting(settings: dict[str, Any], limit: float) -> dict[str, Any]:
    """Return what connections need to know but for their host and port."""
    own = own_settings(settings, limit)
    own["connection_class"] = bounded(own.get("connection_class", redis.Connection))
    return {name: value for name, value in own.items() if name not in ("host", "port")}


def _ask(connection: Connection, *words: Word) -> Any:
    connection.send_packed_command([Command(words).packed()])
    return connection.read_response()


def _verdict(name: str, errors: dict[_Host, Exception]) -> Exception:
    """Return the one error that says what came of asking every sentinel."""
    told = "; ".join(f"{_text(sentinel)}: {error}" for sentinel, error in errors.items())
    if all(isinstance(error, UnknownPrimaryError) for error in errors.values()):
        return UnknownPrimaryError(
            f"none of the sentinels {_texts(list(errors))} knows a primary named {name!r}: "
            "give the name that follows 'sentinel monitor' in their configuration"
        )
    if any(fault_of(error) is Fault.REFUSED for error in errors.values()):
        return redis.AuthenticationError(
            f"{told} (what follows // in the URL is for the servers; sentinels have "
            "sentinel_username and sentinel_password)"
        )
    return redis.ConnectionError(f"no primary of {name!r} by its sentinels: {told}")


def _text(host: _Host) -> str:
    return f"[{host[0]}]:{host[1]}" if ":" in host[0] else f"{host[0]}:{host[1]}"


def _texts(hosts: Sequence[_Host]) -> str:
    return ", ".join(map(_text, hosts))
