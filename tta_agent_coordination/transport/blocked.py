"""Commands that were sent and are answered later."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from typing import Any, cast

import attrs

from tta_agent_coordination.transport.command import Command
from tta_agent_coordination.transport.wire import Connection, Pool


class Blocked:
    """A blocking command under way, and how to learn that it is answered.

    Attributes:
        reply: The answer, once it was read.
        following: Likewise to the commands sent behind it; errors of the server stand among them.
    """

    def __init__(self, connection: Connection | None = None) -> None:
        """Note where the answer will come; None: nowhere, for it could not be sent."""
        self._connection = connection
        # Of redis-py's connections, but not of those that fakeredis has in their place.
        self._channel: Any = getattr(connection, "channel", None)
        self._keep_closed(keep=True)
        self.reply: Any = None
        self.following: list[Any] = []

    def __call__(self, timeout: float) -> bool:
        """Say whether the answer has come, or never will; wait for it up to `timeout` seconds."""
        if self._connection is None or self._is_closed:
            return True
        return self._connection.can_read(timeout)

    def cut_off(self) -> None:
        """End the wait from another thread, without a word to the server, which may not hear it."""
        if self._channel is not None:
            with contextlib.suppress(OSError):  # it is closed already
                self._channel.shutdown(socket.SHUT_RDWR)

    def over(self) -> None:
        """Note that no answer is waited for any more."""
        self._keep_closed(keep=False)

    def _keep_closed(self, *, keep: bool) -> None:
        # Asked for an answer, redis-py opens a connection again that somebody is just closing, and
        # none would ever come there.
        if self._channel is not None:
            cast("Any", self._connection).keep_closed = keep

    @property
    def _is_closed(self) -> bool:
        # Closed elsewhere: to ask the connection would open it again.
        return self._channel is not None and self._channel.fileno() < 0

    def descriptor(self) -> int | None:
        """Return a file descriptor that can be read once the answer has come; the caller's own.

        It is a duplicate, so that it stays what it is when the connection is closed elsewhere.

        Returns:
            None if there is none to be had: `__call__` has to be asked now and then.
        """
        try:
            return None if self._channel is None else os.dup(self._channel.fileno())
        except OSError:  # closed meanwhile, or the process has too many
            return None


@attrs.frozen
class Sent:
    """Commands that the server carries out while their sender does something else.

    Attributes:
        commands: Which.
        end: Until when their replies are waited for, monotonic seconds.
        way: The pool and its connection on which the replies come; None when nothing was sent.
    """

    commands: Sequence[Command]
    end: float
    way: tuple[Pool, Connection] | None = None
