"""What the tests of the proxy have in common."""

import socket

from tta_agent_coordination.proxy import FaultProxy

SHORT = 0.2
"""Socket time-out, in seconds, of a client that is meant to run into it."""


def names(proxy: FaultProxy) -> list[str]:
    return [command.name for command in proxy.commands]


def received(wire: socket.socket) -> tuple[bytes, bool]:
    """All that comes until the connection ends, and whether it ends with a reset."""
    got = b""
    try:
        while data := wire.recv(4096):
            got += data
    except ConnectionResetError:
        return got, True
    return got, False
