"""One client's connection through a `FaultProxy`, and its twin to the server."""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from tta_agent_coordination.proxy.faults import Command, Fate
from tta_agent_coordination.proxy.resp import take_frame, words

Address = str | tuple[str, int]
"""The path of a unix socket, or a host and port."""

_CHUNK = 65536
_CONNECT_TIMEOUT = 5.0
_PUB_SUB = frozenset({"SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE"})


def connect(address: Address) -> socket.socket | None:
    """Connect to a server; None if it is not there."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    end = socket.socket(family)
    end.settimeout(_CONNECT_TIMEOUT)
    try:
        end.connect(address)
    except OSError:
        end.close()
        return None
    return end


class End:
    """A non-blocking socket with a buffer of what is still to be written."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        sock: socket.socket,
        on_data: Callable[[bytes], None],
        on_close: Callable[[], None],
    ) -> None:
        """Watch `sock` with `selector`, and tell what comes and when it ends."""
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            # Or a second reply in a row waits until the first is acknowledged, which takes 40 ms.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.is_open = True
        self._selector = selector
        self._socket = sock
        self._on_data = on_data
        self._on_close = on_close
        self._unsent = bytearray()
        selector.register(sock, selectors.EVENT_READ, self._on_event)

    def write(self, data: bytes) -> None:
        """Send as soon as the other side takes it."""
        self._unsent += data
        if self.is_open:
            self._flush()

    def close(self, *, reset: bool = False) -> None:
        """Close the socket; with RST if it is a `reset`."""
        if not self.is_open:
            return
        self.is_open = False
        self._selector.unregister(self._socket)
        if reset and self._socket.family == socket.AF_INET:
            linger_not = struct.pack("ii", 1, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_not)
        self._socket.close()

    def _on_event(self, events: int) -> None:
        if self.is_open and events & selectors.EVENT_WRITE:
            self._flush()
        if self.is_open and events & selectors.EVENT_READ:
            self._read()

    def _read(self) -> None:
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._on_data(data)
        else:
            self._on_close()

    def _flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()  # the reading side will notice
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        self._selector.modify(self._socket, events, self._on_event)


class Link:
    """Passes frames between a client and a server, each reply according to its fate."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        client: socket.socket,
        server: socket.socket | None,
        judge: Callable[[Command], Fate],
    ) -> None:
        """Join `client` to `server` (None: to silence); `judge` decides the fate of replies."""
        self._judge = judge
        self._from_client = bytearray()
        self._from_server = bytearray()
        self._fates: deque[Fate] = deque()
        self._outbox: deque[tuple[float, Callable[[], None]]] = deque()
        self._latency = 0.0
        self._seconds_per_byte = 0.0
        self._silent = server is None
        self._client = End(selector, client, self._on_commands, self._on_client_gone)
        self._server = (
            End(selector, server, self._on_replies, self._on_server_gone) if server else None
        )

    @property
    def ended(self) -> bool:
        """Whether both ends are closed."""
        return not self._client.is_open and (self._server is None or not self._server.is_open)

    @property
    def next_due(self) -> float | None:
        """When the next delivery to the client is due, on the monotonic clock."""
        return self._outbox[0][0] if self._outbox else None

    def set_pace(self, latency: float, seconds_per_byte: float) -> None:
        """Pass replies on so late and so slowly."""
        self._latency, self._seconds_per_byte = latency, seconds_per_byte

    def fall_silent(self) -> None:
        """Swallow all that comes."""
        self._silent = True
        self._outbox.clear()

    def lose_server(self) -> None:
        """Close the server's end and tell the client nothing."""
        self.fall_silent()
        self._close_server()

    def reset(self) -> None:
        """Reset the client's end and close the server's."""
        self._outbox.clear()
        self._client.close(reset=True)
        self._close_server()

    def heal(self) -> None:
        """Pass on what is delayed; reset what lost bytes."""
        if self._silent:
            self.reset()
        self._outbox = deque((0.0, action) for _, action in self._outbox)

    def deliver_due(self) -> None:
        """Pass on what is due by now."""
        now = time.monotonic()
        while self._outbox and self._outbox[0][0] <= now:
            self._outbox.popleft()[1]()
        if not self._client.is_open and not self._fates:
            self._close_server()

    def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()

    def _on_client_gone(self) -> None:
        self._outbox.clear()
        self._client.close()
        self._close_server()

    def _on_server_gone(self) -> None:
        self._close_server()
        if not self._silent:
            self._schedule(self._client.close, time.monotonic() + self._latency)
            self.deliver_due()

    def _on_commands(self, data: bytes) -> None:
        self._from_client += data
        passed_on = bytearray()
        while (frame := take_frame(self._from_client)) is not None:
            name, *args = words(frame) or (b"",)
            command = Command(name.decode().upper(), tuple(args))
            fate = self._judge(command)
            if fate is Fate.LOSE:
                self._lose(bytes(passed_on))
                return
            if command.name not in _PUB_SUB:
                self._fates.append(fate)
            passed_on += frame
        if self._server is not None and not self._silent:
            self._server.write(bytes(passed_on))

    def _lose(self, arrived_before: bytes) -> None:
        if self._server is not None:
            self._server.write(arrived_before)
        self.reset()

    def _on_replies(self, data: bytes) -> None:
        self._from_server += data
        due = time.monotonic() + self._latency
        while (frame := take_frame(self._from_server)) is not None:
            is_push = frame.startswith(b">")
            fate = self._fates.popleft() if self._fates and not is_push else Fate.DELIVER
            if not self._silent:
                self._settle(frame, fate, due)
        self.deliver_due()

    def _settle(self, reply: bytes, fate: Fate, due: float) -> None:
        if fate is Fate.SWALLOW:
            self._schedule(self._client.close, due)
        elif fate is Fate.CUT:
            self._deliver(reply[: len(reply) // 2], due)
            self._schedule(partial(self._client.close, reset=True), due)
        else:
            self._deliver(reply, due)

    def _deliver(self, data: bytes, due: float) -> None:
        if not self._seconds_per_byte:
            self._schedule(partial(self._client.write, data), due)
            return
        start = max(due, self._last_due)
        for index, byte in enumerate(data):
            at = start + index * self._seconds_per_byte
            self._schedule(partial(self._client.write, bytes((byte,))), at)

    @property
    def _last_due(self) -> float:
        return self._outbox[-1][0] if self._outbox else 0.0

    def _schedule(self, action: Callable[[], None], due: float) -> None:
        self._outbox.append((max(due, self._last_due), action))
