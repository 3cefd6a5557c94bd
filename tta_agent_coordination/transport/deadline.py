"""One deadline for all that a call does, on a clock that only goes forward."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Protocol, cast

from tta_agent_coordination import forks


class _Current(threading.local):
    end: float | None = None


_current = _Current()


class until:  # noqa: N801 - read like the words around it: with until(end)
    """Bound every socket operation of this thread by `end`, a time of ``time.monotonic()``.

    For a whole attempt: what is in force already is set aside, because it may be what an earlier
    one left. When Ctrl-C strikes at the end of `__enter__` or the start of `__exit__`, Python does
    not call the latter. A class, because a generator would cost as much as the rest of the gate.
    """

    __slots__ = ("_before", "_end")

    def __init__(self, end: float) -> None:
        """Take the end."""
        self._end = end
        self._before: float | None = None

    def __enter__(self) -> None:
        """Begin."""
        before = _current.end
        # One that has not passed may be of a call that this one, in a signal handler, interrupts.
        if before is not None and before <= time.monotonic():
            before = None
        self._before = before
        _current.end = self._end

    def __exit__(self, *_: object) -> None:
        """Return to what was in force before."""
        _current.end = self._before


class within(until):  # noqa: N801 - as above
    """Bound a part of what `until` bounds; the earlier of the two ends holds."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Begin."""
        before = self._before = _current.end
        if before is None or self._end < before:
            _current.end = self._end


def remaining() -> float | None:
    """Seconds left to the operation in hand, at least 1 ms; None outside of `until`.

    Raises:
        TimeoutError: None are left.
    """
    end = _current.end
    if end is None:
        return None
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline of the call has passed")
    return max(left, 0.001)


class _Socket(Protocol):
    """The part that is used of a socket, plain or TLS."""

    def gettimeout(self) -> float | None: ...
    def settimeout(self, value: float | None, /) -> None: ...
    def recv(self, *args: int) -> bytes: ...
    def recv_into(self, *args: object) -> int: ...
    def sendall(self, data: bytes, /) -> None: ...
    def detach(self) -> int: ...


class DeadlineSocket:
    """A connected socket whose every operation ends by the deadline in force.

    A plain time-out begins anew with each byte that arrives, so that a peer which sends one byte
    a second can hold a caller for ever. Everything else is the wrapped socket's own.
    """

    def __init__(self, sock: object) -> None:
        """Wrap a connected socket, plain or TLS."""
        self._sock = cast("_Socket", sock)
        self._limit = self._sock.gettimeout()
        forks.in_child(self._drop)

    def __getattr__(self, name: str) -> object:
        """Hand everything but the operations below to the wrapped socket."""
        return getattr(self._sock, name)

    def settimeout(self, limit: float | None) -> None:
        """Set the time-out that holds while no deadline is in force; 0 holds always."""
        self._limit = limit
        self._sock.settimeout(limit)

    def recv(self, *args: int) -> bytes:
        """Receive, within the deadline."""
        self._arm()
        return self._sock.recv(*args)

    def recv_into(self, *args: object) -> int:
        """Receive into a buffer, within the deadline."""
        self._arm()
        return self._sock.recv_into(*args)

    def sendall(self, data: bytes) -> None:
        """Send, within the deadline."""
        self._arm()
        self._sock.sendall(data)

    def _arm(self) -> None:
        if self._limit == 0:  # a poll: it does not wait
            return
        left = remaining()
        self._sock.settimeout(self._limit if left is None else left)

    def _drop(self) -> None:
        """Close what a child inherited, and only that: the connection is the parent's.

        A child that kept it would hold the parent's blocked command open on the server when the
        parent is dead.
        """
        with contextlib.suppress(OSError):  # it was closed before
            os.close(self._sock.detach())
