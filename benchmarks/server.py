"""The ground that all systems stand on: one embedded server, reached over TCP."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from contextlib import contextmanager

import attrs
import redis

from tta_agent_coordination.embedded import EmbeddedServer

_numbers = itertools.count(1)


@attrs.frozen
class Ground:
    """Where and how much is measured.

    Attributes:
        url: Of the server.
        rounds: How often each system is measured in each row, in turn with the others.
        messages: In one block of one round.
        backlog: Messages of the long queue.
        memory_messages: Stored for the row of memory.
        idle_seconds: For which idle consumers are watched.
    """

    url: str
    rounds: int = 7
    messages: int = 2_000
    backlog: int = 1_000_000
    memory_messages: int = 100_000
    idle_seconds: float = 27.0

    def client(self) -> redis.Redis:
        """Return a client as redis-py makes it when nothing is asked of it."""
        return redis.Redis.from_url(self.url)

    @staticmethod
    def new_name(kind: str) -> str:
        """Return a name for a queue or an inbox that nothing else has."""
        return f"{kind}-{next(_numbers)}"


@contextmanager
def ground(*, quick: bool = False) -> Generator[Ground]:
    """Start a server of our own and say what to measure on it."""
    with EmbeddedServer(port=0) as server:
        if quick:
            yield Ground(server.url, 3, 500, 100_000, 100_000, 20.0)
        else:
            yield Ground(server.url)
