"""The parts that are used of redis-py's connections and pools, whose own types are not complete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Connection(Protocol):
    """The part that is used of a redis-py connection."""

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

    def get_connection(self) -> Connection:
        """Return a connection that nobody else uses, and that has nothing to read."""
        ...

    def release(self, connection: Connection, /) -> None:
        """Give a connection back."""
        ...

    def disconnect(self, inuse_connections: bool = ...) -> None:
        """Disconnect the idle connections, or all."""
        ...
