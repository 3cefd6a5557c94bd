"""What is said on a connection: commands, and their replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from tta_agent_coordination.transport.command import Command
from tta_agent_coordination.transport.wire import Connection

Reply = Any
"""What a server answers: bytes, a number, None or a list of them."""


def exchange(connection: Connection, commands: Sequence[Command]) -> list[Reply]:
    """Send commands and read their replies; errors of the server stand among the replies."""
    send(connection, commands)
    return replies(connection, commands)


def replies(connection: Connection, commands: Sequence[Command]) -> list[Reply]:
    """Read the replies to commands; of those that call an unknown script, after telling it."""
    came = [read(connection) for _ in commands]
    unknown = [i for i, reply in enumerate(came) if isinstance(reply, NoScriptError)]
    if unknown:
        unknown += [i for i, command in enumerate(commands) if command.trailing]
        again = _teach(connection, [commands[i] for i in unknown])
        for i, reply in zip(unknown, again, strict=True):
            came[i] = reply
    return came


def _teach(connection: Connection, commands: Sequence[Command]) -> list[Reply]:
    """Load the scripts of `commands` and send them again, all in one round trip."""
    scripts = {command.script for command in commands if command.script is not None}
    loads = [Command(("SCRIPT", "LOAD", script.source)) for script in scripts]
    send(connection, [*loads, *commands])
    came = [read(connection) for _ in range(len(loads) + len(commands))]
    return came[len(loads) :]


def send(connection: Connection, commands: Sequence[Command]) -> None:
    """Send commands, all at once."""
    connection.send_packed_command([b"".join([command.packed() for command in commands])])


def read(connection: Connection) -> Reply:
    """Read the next reply, or return the error that it is."""
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
