"""Connection classes of redis-py, made to keep to the deadline of the call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tta_agent_coordination.transport.deadline import DeadlineSocket, remaining

T = TypeVar("T")

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


def own_settings(settings: dict[str, Any], limit: float) -> dict[str, Any]:
    """Return the settings of connections of our own: who and where from a client's, no more."""
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
    """Mixed into a connection class: it connects, sends and reads within the deadline.

    Attributes:
        channel: The socket of the current connection; None before the first.
        keep_closed: Whether it is not to be opened again: an answer is waited for on this one.
    """

    socket_timeout: float | None
    channel: DeadlineSocket | None = None
    keep_closed = False

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
        if self.keep_closed:
            raise redis.ConnectionError("Connection closed while an answer was waited for")
        try:
            cast("Any", super()).connect()
        except BaseException:
            cast("Any", self).disconnect()
            raise

    def _connect(self) -> DeadlineSocket:
        try:
            remaining()
            self.channel = DeadlineSocket(cast("Any", super())._connect())
        except TimeoutError as error:
            # Of a unix socket, redis-py 7 and 8 ask for the port here, and fail.
            raise redis.TimeoutError("Timeout connecting to server") from error
        return self.channel

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
    if issubclass(kind, _Bounded) or is_fake(kind):
        return kind
    return type(f"Bounded{kind.__name__}", (_Bounded, kind), {})


def is_fake(kind: type[Any]) -> bool:
    """Whether a connection class is one of fakeredis."""
    return any(base.__module__.startswith("fakeredis") for base in kind.__mro__)


def speaks_tls(kind: type[Any]) -> bool | None:
    """Whether connections of a class are with TLS; None of those that are over no network."""
    if issubclass(kind, redis.SSLConnection):
        return True
    return False if issubclass(kind, redis.Connection) and not is_fake(kind) else None


def alone(lock: threading.Lock, action: Callable[[], T]) -> T:
    """Do something under a lock, waiting for it no longer than the deadline of the call allows.

    No context manager: Ctrl-C at the start of an ``__exit__`` would leave the lock held for ever.
    Python runs signal handlers between two calls, so one call takes the lock and notes it.
    """
    left = remaining()
    held: list[bool] = []
    try:
        held.extend(map(lock.acquire, (True,), (-1 if left is None else left,)))
        if not held[0]:
            raise redis.TimeoutError("Timeout waiting for another thread to connect")
        return action()
    finally:
        if held and held[0]:
            lock.release()
