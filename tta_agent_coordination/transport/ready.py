"""Connections kept at hand above a pool of redis-py."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import deque
from typing import Any

from tta_agent_coordination.transport.wire import Connection, Pool

FRESH = 1.0
"""Seconds for which a connection is not checked again after its last use."""


class ReadyPool:
    """A pool whose connections are at hand at once when they were used a moment ago.

    The pool of redis-py asks the system about a connection each time before it hands it out,
    which takes as long as a fifth of a call. One that was used within the last second is handed
    out without; should the server have closed it since, the call is repeated on another.

    Attributes:
        pool: That of redis-py.
    """

    def __init__(self, pool: Pool) -> None:
        """Keep connections of `pool` at hand; they stay its own."""
        self.pool = pool
        self._at_hand: deque[tuple[Connection, float]] = deque()
        self._retired = False

    def get_connection(self) -> Connection:
        """Return a connection that nobody else uses."""
        try:
            connection, since = self._at_hand.pop()
        except IndexError:
            return self.pool.get_connection()
        if time.monotonic() - since < FRESH:
            return connection
        self.pool.release(connection)
        return self.pool.get_connection()

    def release(self, connection: Connection, /) -> None:
        """Give a connection back."""
        self._at_hand.append((connection, time.monotonic()))
        if self._retired:
            self.disconnect(inuse_connections=False)

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Disconnect the idle connections, or all."""
        with contextlib.suppress(IndexError):
            while True:
                connection, _ = self._at_hand.pop()
                self.pool.release(connection)
        self.pool.disconnect(inuse_connections)

    def retire(self) -> None:
        """Close what is idle, cut off what is in use, and keep nothing that comes back.

        The sockets are shut down under their connections, so that whoever reads there meets the
        end of the connection, as if the server had closed it.
        """
        self._retired = True
        self.disconnect(inuse_connections=False)
        pool: Any = self.pool
        for connection in tuple(pool._in_use_connections):
            sock = connection._sock
            if sock is not None:
                with contextlib.suppress(OSError):  # it is closed already
                    sock.shutdown(socket.SHUT_RDWR)
