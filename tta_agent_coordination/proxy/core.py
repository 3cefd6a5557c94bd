"""A TCP proxy before one or more Redis servers that fails on command.

One named thread owns every socket; the methods that change its behavior are carried out on that
thread and return when they are in force, so a test needs no sleep after them.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from tta_agent_coordination.proxy.faults import Command, Fate, Fault, Which
from tta_agent_coordination.proxy.link import Address, Link
from tta_agent_coordination.proxy.record import Record
from tta_agent_coordination.proxy.relay import Relay


class FaultProxy:
    """Listens on one loopback port for each server and passes everything on, until told not to.

    Commands are recorded when they arrive from a client, whatever becomes of them; HELLO, AUTH,
    SELECT, CLIENT and READONLY, with which a client opens a connection, are kept apart. Replies
    are matched to commands in order. Pub/sub passes through, but cannot be made to fail by
    command.

    Attributes:
        ports: The proxy's port before each server, in the order of the servers.
        port: The first of them.
        url: ``redis://`` URL of the first.
    """

    def __init__(self, *servers: Address, record: bool = True) -> None:
        """Listen before `servers`; without `record`, what passes is not kept in memory."""
        self.servers = servers
        self._record = Record()
        self._relay = Relay(servers, self._record.note if record else None)
        self.ports = self._relay.ports
        self.port = self.ports[0]
        self.url = f"redis://127.0.0.1:{self.port}"

    @property
    def seen(self) -> list[Command]:
        """Every command that arrived, in order, those that open a connection included."""
        return self._record.seen()

    @property
    def commands(self) -> list[Command]:
        """The commands that arrived, in order, without those that open a connection."""
        return [command for command in self.seen if not command.opens_connection]

    @property
    def connections(self) -> int:
        """How many connections were accepted so far."""
        return self._relay.connections

    def count(self, name: str) -> int:
        """How many times the command ``name`` arrived."""
        return self._record.count(name)

    def wait_for(self, name: str, *, count: int = 1, timeout: float = 5.0) -> None:
        """Return once ``name`` has arrived ``count`` times.

        Raises:
            TimeoutError: It has not within ``timeout`` seconds.
        """
        self._record.wait_for(name, count, timeout)

    def forget(self) -> None:
        """Empty the record of commands."""
        self._record.forget()

    def drop_reply_of(self, which: Which, *, times: int = 1) -> Fault:
        """Swallow the reply of a command that the server executes, and close the connection.

        ``which`` is a command's name, a predicate, or n for the n-th command from now on (from
        1, those that open a connection not counted). Earlier replies of a pipeline are passed
        on; its later commands are executed too, their replies are lost with the connection.
        """
        return self._add(Fault(which, times, Fate.SWALLOW))

    def reset_mid_reply(self, which: Which, *, times: int = 1) -> Fault:
        """Pass on the first half of the reply, then reset the connection."""
        return self._add(Fault(which, times, Fate.CUT))

    def lose_request(self, which: Which, *, times: int = 1) -> Fault:
        """Reset the connection before the command reaches the server."""
        return self._add(Fault(which, times, Fate.LOSE))

    def black_hole(self) -> None:
        """Swallow all that comes from either side, on old and new connections."""
        self._call(self._relay.fall_silent)

    def half_open(self) -> None:
        """Close the server's end of every connection without a word to the client.

        The connections swallow what the client sends from then on; new ones work.
        """
        self._call(lambda: self._relay.each(Link.lose_server))

    def reset(self) -> None:
        """Reset (RST) every connection; new ones work."""
        self._call(lambda: self._relay.each(Link.reset))

    def refuse(self) -> None:
        """Reset every connection, and each new one as soon as it is made."""
        self._call(self._relay.refuse)

    def delay(self, seconds: float) -> None:
        """Pass replies on only ``seconds`` after they came."""
        self._call(lambda: self._relay.set_latency(seconds))

    def drip(self, bytes_per_second: float) -> None:
        """Pass replies on byte by byte, at this rate."""
        self._call(lambda: self._relay.set_rate(bytes_per_second))

    def heal(self) -> None:
        """Behave; connections that lost bytes on the way are reset, delayed replies released."""
        self._call(self._relay.heal)

    def remap(self, address: tuple[str, int]) -> tuple[str, int]:
        """Return the proxy's address for a server's: the ``address_remap`` of a cluster client."""
        return ("127.0.0.1", self.ports[self.servers.index(address)])

    def close(self) -> None:
        """Reset every connection and end the thread; idempotent."""
        self._relay.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _add(self, fault: Fault) -> Fault:
        self._call(lambda: self._relay.add(fault))
        return fault

    def _call(self, change: Callable[[], None]) -> None:
        self._relay.call(change)
