"""fakeredis with a clock that can be moved and connections that can fail."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any, cast

import fakeredis
import redis

from tta_agent_coordination import policy
from tta_agent_coordination.circuit.known import known_circuits
from tta_agent_coordination.testing.clock import Clock
from tta_agent_coordination.testing.trouble import SCRIPTS, Fault, Kind, Trouble
from tta_agent_coordination.transport.connections import place_of
from tta_agent_coordination.transport.deadline import remaining

_TYPES: Any = fakeredis
"""Its own types are not complete."""


_Server: Any = _TYPES.FakeServer
_Connection: Any = _TYPES.FakeRedisConnection


class MovableServer(_Server):
    """An in-memory server that goes by a `Clock`.

    fakeredis notes the time of this machine in its databases before each command, and compares
    times to live with it; ``TIME`` reads the machine's clock by itself, see `MovableConnection`.
    """

    def __init__(self) -> None:
        """Begin empty, with the scripts loaded: else the first reply to each is NOSCRIPT."""
        base: Any = super()
        base.__init__()
        self.clock = Clock(self._move)
        self.trouble = Trouble(self.interrupt)
        kind = _movable(type(self.dbs[0]), self.clock)
        self.dbs: Any = defaultdict(lambda: kind(self.lock))
        self._admin: Any = client_of(self, connection_class=_Connection)
        for script in SCRIPTS.values():
            self._admin.script_load(script.source)

    def interrupt(self) -> None:
        """End every wait, with an error."""
        for client in self._admin.client_list():
            self._admin.client_unblock(client["id"], error=True)

    def wake(self) -> None:
        """Let those who wait look again: what they wait for may be due."""
        for key in self._keys():
            inbox, _, name = key.rpartition(b":")
            if name in {b"delayed", b"leased"}:
                self._admin.zadd(inbox + b":wake", {"w": 0})

    def close(self) -> None:
        """Forget everything, and the client that commands it."""
        self.interrupt()
        self._admin.flushall()
        self._admin.close()

    def _move(self, set_ahead: Callable[[], None], seconds: float) -> None:
        # Senders note by their own clocks, once a minute, that an inbox is in use: so what they
        # noted is kept as fresh as it was.
        indexes = [key for key in self._keys() if key.endswith(b":inboxes")]
        noted = {key: self._admin.zrange(key, 0, -1, withscores=True) for key in indexes}
        set_ahead()
        for key, entries in noted.items():
            self._admin.zadd(key, {name: at + seconds * 1_000_000 for name, at in entries})
            self._admin.expire(key, round(policy.INDEX_LIFETIME))
        for circuit in known_circuits(place_of(self._admin)):
            circuit.let_pass(seconds)
        self.wake()

    def _keys(self) -> list[bytes]:
        return list(self._admin.scan_iter())


def _movable(kind: Any, clock: Clock) -> Any:
    """Return a class of databases like `kind` whose time is that of `clock`."""

    def read(self: Any) -> float:
        return self.machine_time + clock.ahead

    def write(self: Any, seconds: float) -> None:
        self.machine_time = seconds

    return type(f"Movable{kind.__name__}", (kind,), {"time": property(read, write)})


class MovableConnection(_Connection):
    """A connection to a `MovableServer`, on which faults happen.

    The library opens its own connections of the class that a client has, so that what is tested
    is its own gate, with its retries, its deadline and its circuit breaker.
    """

    _server: MovableServer
    _fault: Fault | None = None

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send, unless it is refused; fakeredis carries it out meanwhile."""
        trouble = self._check()
        packet = b"".join([command] if isinstance(command, bytes) else command)
        fault = self._fault = trouble.next(packet)
        if fault is not None and fault.kind is Kind.REFUSED:
            self._end("the command was refused")
        base: Any = super()
        base.send_packed_command(command, check_health=check_health)

    def read_response(self, **options: Any) -> Any:
        """Read the next reply, unless it is lost."""
        fault, self._fault = self._fault, None
        self._check()
        if fault is not None and fault.kind is Kind.LOST:
            self._end("the reply was lost")
        if fault is not None and fault.kind is Kind.SLOW:
            self._linger(fault.seconds)
        base: Any = super()
        return base.read_response(**options)

    def _connect(self) -> Any:
        self._check()
        base: Any = super()
        sock = base._connect()
        sock.time = self._time
        return sock

    def _time(self) -> list[bytes]:
        """Answer ``TIME``."""
        seconds, microseconds = divmod(round(self._server.clock.time() * 1_000_000), 1_000_000)
        return [b"%d" % seconds, b"%d" % microseconds]

    def _check(self) -> Trouble:
        trouble = self._server.trouble
        trouble.check_alive()
        if trouble.is_down:
            self._end("the server is down")
        return trouble

    def _linger(self, seconds: float) -> None:
        left = remaining()
        waited = seconds if left is None else min(seconds, left)
        threading.Event().wait(waited)
        if waited < seconds:
            self.disconnect()
            raise redis.TimeoutError("a fault of the test: the reply came too late")

    def _end(self, why: str) -> None:
        self.disconnect()
        raise redis.ConnectionError(f"a fault of the test: {why}")


def client_of(server: MovableServer, **options: Any) -> redis.Redis:
    """Return a client on whose connections, and on those made after them, faults happen."""
    options.setdefault("connection_class", MovableConnection)
    return cast("redis.Redis", _TYPES.FakeRedis(server=server, **options))
