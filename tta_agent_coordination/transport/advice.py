"""What to look at when nothing has ever answered at an address."""

from __future__ import annotations

import socket

import attrs

_CLEAR = (ConnectionRefusedError, socket.gaierror)
"""Errors that say all there is to say: nobody was there to be spoken to in the wrong way."""
_NO_CLUSTER = "Cluster mode is not enabled"
"""What redis-py says of a server by itself where it looks for a cluster."""


@attrs.define
class Contact:
    """Whether a server has ever answered: if it has, the address is right, and it is just away.

    Attributes:
        made: Whether one has.
    """

    made: bool = False

    def told(self, error: BaseException, *, tls: bool | None) -> str:
        """Return the text of `error`, and what to check because of it if there is anything.

        A server with TLS closes a connection on which it is spoken to without; one without TLS
        waits for more when it is spoken to with it. Neither says why.

        Args:
            error: The last one of a call.
            tls: Whether servers are spoken to with TLS; None where there is no such choice.
        """
        if not self.made and _NO_CLUSTER in str(error):
            return (
                f"{str(error).rstrip('.')}: it is a server by itself, so give redis:// or "
                "rediss:// without +cluster (a client: Redis, not RedisCluster)"
            )
        if self.made or tls is None or _nobody_was_there(error):
            return str(error)
        speaks, scheme = ("has no TLS", "redis://") if tls else ("speaks TLS", "rediss://")
        return (
            f"{str(error).rstrip('.')}; nothing has answered at this address yet: check the host "
            f"and the port, and if that port {speaks}, give {scheme} (a client: ssl={not tls})"
        )


def _nobody_was_there(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, _CLEAR):
            return True
        error = error.__cause__ or error.__context__
    return False
