"""A TCP proxy before one or more Redis servers that fails on command.

One named thread owns every socket; the methods that change its behavior are carried out on that
thread and return when they are in force, so a test needs no sleep after them.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from tta_agent_coordination.proxy.faults import Command, Fate, Fault, Which
from tta_agent_coordination.proxy.link import Address, Link, connect

CALL_TIMEOUT = 5.0
"""Seconds a change of behavior may take, and the proxy's thread to end."""


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
        self._record = record
        self._selector = selectors.DefaultSelector()
        self._listeners = [self._listen(server) for server in servers]
        self.ports = tuple(int(listener.getsockname()[1]) for listener in self._listeners)
        self.port = self.ports[0]
        self.url = f"redis://127.0.0.1:{self.port}"
        self._links: list[Link] = []
        self._faults: list[Fault] = []
        self._latency = 0.0
        self._seconds_per_byte = 0.0
        self._silent = False
        self._refusing = False
        self._connections = 0
        self._seen: list[Command] = []
        self._news = threading.Condition()
        self._calls: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, self._on_wake)
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"fault-proxy-{self.port}")
        self._thread.start()

    # What it saw -----------------------------------------------------------------------------

    @property
    def seen(self) -> list[Command]:
        """Every command that arrived, in order, those that open a connection included."""
        with self._news:
            return list(self._seen)

    @property
    def commands(self) -> list[Command]:
        """The commands that arrived, in order, without those that open a connection."""
        return [command for command in self.seen if not command.opens_connection]

    @property
    def connections(self) -> int:
        """How many connections were accepted so far."""
        return self._connections

    def count(self, name: str) -> int:
        """How many times the command ``name`` arrived."""
        return sum(command.name == name.upper() for command in self.seen)

    def wait_for(self, name: str, *, count: int = 1, timeout: float = 5.0) -> None:
        """Return once ``name`` has arrived ``count`` times.

        Raises:
            TimeoutError: It has not within ``timeout`` seconds.
        """
        with self._news:
            arrived = self._news.wait_for(lambda: self._arrivals(name) >= count, timeout)
        if not arrived:
            times = self.count(name)
            raise TimeoutError(f"{name} arrived {times} times in {timeout} s, not {count}")

    def _arrivals(self, name: str) -> int:
        return sum(command.name == name.upper() for command in self._seen)

    def forget(self) -> None:
        """Empty the record of commands."""
        with self._news:
            self._seen.clear()

    # What it does wrong ----------------------------------------------------------------------

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
        self._call(self._start_black_hole)

    def half_open(self) -> None:
        """Close the server's end of every connection without a word to the client.

        The connections swallow what the client sends from then on; new ones work.
        """
        self._call(lambda: self._each(Link.lose_server))

    def reset(self) -> None:
        """Reset (RST) every connection; new ones work."""
        self._call(lambda: self._each(Link.reset))

    def refuse(self) -> None:
        """Reset every connection, and each new one as soon as it is made."""
        self._call(self._start_refusing)

    def delay(self, seconds: float) -> None:
        """Pass replies on only ``seconds`` after they came."""
        self._call(lambda: self._set_pace(seconds, self._seconds_per_byte))

    def drip(self, bytes_per_second: float) -> None:
        """Pass replies on byte by byte, at this rate."""
        self._call(lambda: self._set_pace(self._latency, 1 / bytes_per_second))

    def heal(self) -> None:
        """Behave; connections that lost bytes on the way are reset, delayed replies released."""
        self._call(self._heal)

    # Life cycle ------------------------------------------------------------------------------

    def remap(self, address: tuple[str, int]) -> tuple[str, int]:
        """Return the proxy's address for a server's: the ``address_remap`` of a cluster client."""
        return ("127.0.0.1", self.ports[self.servers.index(address)])

    def close(self) -> None:
        """Reset every connection and end the thread; idempotent."""
        if not self._closing:
            self._call(self._shut)
        self._thread.join(CALL_TIMEOUT)

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

    # On the proxy's thread -------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing:
                for key, events in self._selector.select(self._time_to_next_delivery()):
                    key.data(events)
                self._each(Link.deliver_due)
        finally:
            self._closing = True
            self._each(Link.reset)
            self._selector.close()
            for end in (self._wake, self._woken, *self._listeners):
                end.close()

    def _time_to_next_delivery(self) -> float | None:
        due = [link.next_due for link in self._links if link.next_due is not None]
        return max(min(due) - time.monotonic(), 0.0) if due else None

    def _call(self, change: Callable[[], None]) -> None:
        if self._closing:
            raise RuntimeError("the proxy is closed")
        done = threading.Event()
        self._calls.append((change, done))
        self._wake.send(b"!")
        if not done.wait(CALL_TIMEOUT):
            raise TimeoutError(f"{self._thread.name} does not respond")

    def _on_wake(self, _events: int) -> None:
        self._woken.recv(4096)
        while self._calls:
            change, done = self._calls.popleft()
            change()
            done.set()

    def _listen(self, server: Address) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        self._selector.register(
            listener, selectors.EVENT_READ, partial(self._accept, listener, server)
        )
        return listener

    def _accept(self, listener: socket.socket, server: Address, _events: int) -> None:
        try:
            client, _ = listener.accept()
        except OSError:
            return  # the client went away again
        self._connections += 1
        upstream = None if self._silent or self._refusing else connect(server)
        link = Link(self._selector, client, upstream, self._judge)
        link.set_pace(self._latency, self._seconds_per_byte)
        self._links.append(link)
        if upstream is None and not self._silent:
            link.reset()

    def _judge(self, command: Command) -> Fate:
        if self._record:
            with self._news:
                self._seen.append(command)
                self._news.notify_all()
        hits = [fault for fault in self._faults if fault.hits(command)]
        return hits[0].fate if hits else Fate.DELIVER

    def _add(self, fault: Fault) -> Fault:
        self._call(lambda: self._faults.append(fault))
        return fault

    def _each(self, change: Callable[[Link], None]) -> None:
        for link in self._links:
            change(link)
        self._links = [link for link in self._links if not link.ended]

    def _start_black_hole(self) -> None:
        self._silent = True
        self._each(Link.fall_silent)

    def _start_refusing(self) -> None:
        self._refusing = True
        self._each(Link.reset)

    def _set_pace(self, latency: float, seconds_per_byte: float) -> None:
        self._latency, self._seconds_per_byte = latency, seconds_per_byte
        self._each(lambda link: link.set_pace(latency, seconds_per_byte))

    def _heal(self) -> None:
        self._silent = self._refusing = False
        self._faults.clear()
        self._set_pace(0.0, 0.0)
        self._each(Link.heal)

    def _shut(self) -> None:
        self._closing = True
