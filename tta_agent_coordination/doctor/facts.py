"""What is read of a server before anything is judged. Nothing is changed on it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import cast

import attrs

from tta_agent_coordination.transport import access
from tta_agent_coordination.transport.faults import Fault, fault_of
from tta_agent_coordination.transport.gate import Command, Gate
from tta_agent_coordination.transport.speech import Reply
from tta_agent_coordination.transport.wire import Pool

ROUNDS = 5
"""Round trips of which the median is taken."""

PARAMETERS = (
    "appendfsync", "busy-reply-threshold", "lua-time-limit", "maxclients",
    "min-replicas-to-write", "save", "tcp-keepalive", "timeout",
)  # fmt: skip
"""Of the server's configuration; INFO does not show them, or not on every server."""


@attrs.frozen
class Facts:
    """What one server says of itself.

    Attributes:
        info: The fields of INFO; empty if it was refused.
        config: The parameters of CONFIG GET; empty if it was refused.
        unseen: Why something is missing, by what it would have come from.
        user: Its name; empty if the server does not say.
        refused: The commands that are needed and that the user may not call, in order.
        keys_refused: Whether the user may not touch keys under the prefix.
        round_trip: Seconds, the median of several.
        clock_ahead: Seconds by which the server's clock is ahead of this machine's.
    """

    info: Mapping[str, str] = attrs.field(factory=dict[str, str])
    config: Mapping[str, str] = attrs.field(factory=dict[str, str])
    unseen: Mapping[str, str] = attrs.field(factory=dict[str, str])
    user: str = ""
    refused: tuple[str, ...] = ()
    keys_refused: bool = False
    round_trip: float = 0.0
    clock_ahead: float = 0.0


def read(gate: Gate, pool: Pool, prefix: str) -> Facts:
    """Read what can be read; what is refused is noted in `Facts.unseen`.

    Raises:
        CoordinatorUnavailableError: The server cannot be reached.
    """
    round_trip, ahead = _times(gate, pool)
    info, user, *parameters = gate.ask(
        pool,
        Command(("INFO",)),
        Command(("ACL", "WHOAMI")),
        # One by one: only Redis 7 takes several, and "*" would bring passwords as well.
        *(Command(("CONFIG", "GET", name)) for name in PARAMETERS),
    )
    refused, keys_refused = _refusals(gate, pool, prefix)
    unseen = {
        name: str(reply)
        for name, reply in (("INFO", info), ("CONFIG GET", parameters[0]))
        if isinstance(reply, Exception)
    }
    return Facts(
        info=_fields(info),
        config=dict(pair for reply in parameters for pair in _pairs(reply)),
        unseen=unseen,
        user=user.decode() if isinstance(user, bytes) else "",
        refused=refused,
        keys_refused=keys_refused,
        round_trip=round_trip,
        clock_ahead=ahead,
    )


def read_memory(gate: Gate, pool: Pool) -> Facts:
    """Read in one round trip what a server says of its memory; empty if it was refused.

    Raises:
        CoordinatorUnavailableError: The server cannot be reached.
    """
    [info] = gate.ask(pool, Command(("INFO", "memory")))
    return Facts(info=_fields(info))


def _times(gate: Gate, pool: Pool) -> tuple[float, float]:
    """Return the round trip and how far the server's clock is ahead, both in seconds."""
    gate.ask(pool, Command(("TIME",)))  # connects
    trips: list[float] = []
    ahead: list[float] = []
    for _ in range(ROUNDS):
        sent, began = time.time(), time.monotonic()
        [reply] = gate.ask(pool, Command(("TIME",)))
        trips.append(time.monotonic() - began)
        if not isinstance(reply, Exception):
            ahead.append(int(reply[0]) + int(reply[1]) / 1e6 - sent - trips[-1] / 2)
    return statistics.median(trips), statistics.median(ahead) if ahead else 0.0


def _fields(reply: Reply) -> dict[str, str]:
    if not isinstance(reply, bytes):
        return {}
    lines = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _pairs(reply: Reply) -> list[tuple[str, str]]:
    if not isinstance(reply, list):
        return []
    texts = [word.decode(errors="replace") for word in cast("list[bytes]", reply)]
    return list(zip(texts[::2], texts[1::2], strict=True))


def _refusals(gate: Gate, pool: Pool, prefix: str) -> tuple[tuple[str, ...], bool]:
    """Call every command that is needed, in vain, and see which are refused."""
    grants = [grant for grant in access.GRANTS if grant.probe]
    replies = gate.ask(pool, *(Command(grant.words(prefix)) for grant in grants))
    refused = [grant.command for grant, reply in zip(grants, replies, strict=True) if _no(reply)]
    keys = any(_no(reply) and " key" in str(reply) for reply in replies)
    if not keys and "unlink" not in refused:
        # This one cannot be called in vain: what it makes is gone before anybody sees it.
        key = access.probe_key(prefix)
        reply, _ = gate.ask(pool, Command(("INCR", key)), Command(("UNLINK", key)))
        refused += [access.INCR.command] * _no(reply)
    return tuple(refused), keys


def _no(reply: Reply) -> bool:
    """Whether a reply says that the user may not."""
    return isinstance(reply, Exception) and fault_of(reply) is Fault.REFUSED
