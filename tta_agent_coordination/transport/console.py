"""Single commands to one server, for tools that look after it or break it on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tta_agent_coordination.errors import CoordinatorUnavailableError
from tta_agent_coordination.transport.command import Command
from tta_agent_coordination.transport.faults import Fault, fault_of, translate
from tta_agent_coordination.transport.wire import Pool

DEFAULT_TIMEOUT = 5.0
"""Seconds that the server may take to connect, and for each reply."""


class Console:
    """Sends each command once, on a connection that is opened when it is first needed.

    Replies are what the protocol has: bytes, numbers, None and lists of them. For one thread.
    """

    def __init__(self, url: str, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Talk to the server at `url`: ``redis://``, ``rediss://`` or ``unix://``."""
        # redis-py's own types are not complete.
        pool = cast("Any", redis.ConnectionPool).from_url(
            url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
        )
        self._pool = cast("Pool", pool)

    def __call__(self, *words: str | int) -> Any:
        """Send one command and return its reply.

        Raises:
            CoordinatorUnavailableError: The server cannot be reached.
            CoordinationError: It answered with an error.
        """
        return self.many([words])[0]

    def many(self, commands: Sequence[Sequence[str | int]]) -> list[Any]:
        """Send commands in one round trip and return their replies; raises as for one."""
        try:
            return self._exchange(commands)
        except (redis.RedisError, OSError) as error:
            fault = fault_of(error)
            if fault is Fault.LOST:
                raise CoordinatorUnavailableError(
                    f"the server cannot be reached: {error}"
                ) from error
            raise translate(error, fault) from error

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._pool.disconnect()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _exchange(self, commands: Sequence[Sequence[str | int]]) -> list[Any]:
        connection = self._pool.get_connection()
        try:
            connection.send_packed_command([Command(tuple(words)).packed() for words in commands])
            return [connection.read_response() for _ in commands]
        except BaseException:
            # A reply may still be under way: nobody must take it for the answer to another.
            connection.disconnect()
            raise
        finally:
            self._pool.release(connection)
