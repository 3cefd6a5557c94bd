"""The thread of a `FaultProxy`, which owns every socket."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from tta_agent_coordination.proxy.faults import Command, Fate, Fault
from tta_agent_coordination.proxy.link import Address, Link, connect

CALL_TIMEOUT = 5.0
"""Seconds a change of behavior may take, and the thread to end."""


class Relay:
    """Passes everything on between clients and servers, but for what is to go wrong.

    What changes it is carried out on its thread: hand it to `call`.

    Attributes:
        ports: Where it listens for clients of each server.
        connections: How many connections were accepted so far.
    """

    def __init__(self, servers: Sequence[Address], note: Callable[[Command], None] | None) -> None:
        """Listen before `servers`, and tell `note` of every command that arrives."""
        self._note = note
        self._selector = selectors.DefaultSelector()
        self._listeners = [self._listen(server) for server in servers]
        self.ports = tuple(int(listener.getsockname()[1]) for listener in self._listeners)
        self.connections = 0
        self._links: list[Link] = []
        self._faults: list[Fault] = []
        self._latency = 0.0
        self._seconds_per_byte = 0.0
        self._silent = False
        self._refusing = False
        self._calls: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, self._on_wake)
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"fault-proxy-{self.ports[0]}")
        self._thread.start()

    def call(self, change: Callable[[], None]) -> None:
        """Carry out a change on the thread; return when it is in force.

        Raises:
            RuntimeError: It is closed.
            TimeoutError: The thread does not respond.
        """
        if self._closing:
            raise RuntimeError("the proxy is closed")
        done = threading.Event()
        self._calls.append((change, done))
        self._wake.send(b"!")
        if not done.wait(CALL_TIMEOUT):
            raise TimeoutError(f"{self._thread.name} does not respond")

    def close(self) -> None:
        """Reset every connection and end the thread; idempotent."""
        if not self._closing:
            self.call(self._shut)
        self._thread.join(CALL_TIMEOUT)

    def add(self, fault: Fault) -> None:
        """Let a fault befall commands."""
        self._faults.append(fault)

    def each(self, change: Callable[[Link], None]) -> None:
        """Change every connection there is."""
        for link in self._links:
            change(link)
        self._links = [link for link in self._links if not link.ended]

    def fall_silent(self) -> None:
        """Swallow what comes, on old and new connections."""
        self._silent = True
        self.each(Link.fall_silent)

    def refuse(self) -> None:
        """Reset old and new connections."""
        self._refusing = True
        self.each(Link.reset)

    def set_latency(self, seconds: float) -> None:
        """Pass replies on so many seconds after they came."""
        self._set_pace(seconds, self._seconds_per_byte)

    def set_rate(self, bytes_per_second: float) -> None:
        """Pass replies on byte by byte."""
        self._set_pace(self._latency, 1 / bytes_per_second)

    def heal(self) -> None:
        """Do nothing wrong any more."""
        self._silent = self._refusing = False
        self._faults.clear()
        self._set_pace(0.0, 0.0)
        self.each(Link.heal)

    def _run(self) -> None:
        try:
            while not self._closing:
                for key, events in self._selector.select(self._time_to_next_delivery()):
                    key.data(events)
                self.each(Link.deliver_due)
        finally:
            self._closing = True
            self.each(Link.reset)
            self._selector.close()
            for end in (self._wake, self._woken, *self._listeners):
                end.close()

    def _time_to_next_delivery(self) -> float | None:
        due = [link.next_due for link in self._links if link.next_due is not None]
        return max(min(due) - time.monotonic(), 0.0) if due else None

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
        self.connections += 1
        upstream = None if self._silent or self._refusing else connect(server)
        link = Link(self._selector, client, upstream, self._judge)
        link.set_pace(self._latency, self._seconds_per_byte)
        self._links.append(link)
        if upstream is None and not self._silent:
            link.reset()

    def _judge(self, command: Command) -> Fate:
        if self._note is not None:
            self._note(command)
        hits = [fault for fault in self._faults if fault.hits(command)]
        return hits[0].fate if hits else Fate.DELIVER

    def _set_pace(self, latency: float, seconds_per_byte: float) -> None:
        self._latency, self._seconds_per_byte = latency, seconds_per_byte
        self.each(lambda link: link.set_pace(latency, seconds_per_byte))

    def _shut(self) -> None:
        self._closing = True
