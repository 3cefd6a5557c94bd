"""What is to be moved, in which order, and what is left: decided without the server.

A message may be in several places: the audit list has a copy of everything unfinished, and a crash
of the old application between two commands leaves it in two others, or in none. Copies are known by
their id and by what they say; the one with the most attempts counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from tta_agent_coordination.migrate.legacy import OldMessage
from tta_agent_coordination.migrate.snapshot import Entry, Snapshot

Identity = tuple[str, str]


@attrs.frozen
class Move:
    """One entry that is to be taken over.

    Attributes:
        kind: What the script does with it: the source, or ``ready``, ``dead`` or ``copy`` for
            entries of lists.
        member: What it is called there.
        message: The newest copy of what it says.
        due: Microseconds since 1970; 0 for what is due at once.
        source: Where it is.
    """

    kind: str
    member: bytes
    message: OldMessage
    due: int
    source: str


@attrs.frozen
class Plan:
    """What is to be done with one inbox, step by step.

    Attributes:
        first: Entries of sorted sets and of the hash, in the order in which they are received.
        dead: Entries of the list of dead letters.
        last: Reservations of messages that are among the dead letters as well.
        held: How many reservations are left to their holders.
        stranded: Entries of the audit list that are nowhere else.
    """

    first: list[Move]
    dead: list[Move]
    last: list[Move]
    held: int
    stranded: list[OldMessage]


def plan(found: Snapshot, taken: Mapping[str, str], *, now: int, final: bool) -> Plan:
    """Decide what becomes of an inbox.

    Args:
        found: What its old keys hold.
        taken: Digests of messages that were taken over before, by their ids.
        now: The server's clock in microseconds.
        final: Whether the old application is stopped: then nobody holds a lease.
    """
    newest = _newest([*found.scheduled, *found.reserved, *found.dead])
    free = [one for one in found.reserved if final or one.due <= now]
    buried = {one.message.identity for one in found.dead}
    twins = [one for one in free if one.message.identity in buried]
    others = [one for one in free if one.message.identity not in buried]

    def move(entry: Entry) -> Move:
        due = 0 if entry.source == "reserved" else entry.due
        kind = "dead" if entry.source == "dlq" else entry.source
        message = newest[entry.message.identity]
        return Move(kind, entry.member, message, due, entry.source)

    return Plan(
        first=[move(one) for one in (*others, *found.scheduled)],
        dead=[move(one) for one in found.dead],
        last=[move(one) for one in twins],
        held=len(found.reserved) - len(free),
        stranded=_stranded(found, newest, taken),
    )


def audit_moves(
    found: Snapshot, taken: Mapping[str, str], stranded: Iterable[OldMessage]
) -> dict[bytes, Move]:
    """Return what is to be done with entries of the audit list, by their raw bytes.

    Args:
        found: What the old keys held.
        taken: Digests of messages that have been taken over, by their ids.
        stranded: What is to be taken over from the list itself.
    """
    strays = {message.identity: message for message in stranded}
    moves: dict[bytes, Move] = {}
    for raw, message in found.audit:
        if message is not None and message.identity in strays:
            moves[raw] = Move("ready", raw, strays[message.identity], 0, "queue")
        elif message is not None and taken.get(message.message_id) == message.digest:
            moves[raw] = Move("copy", raw, message, 0, "queue")
    return moves


def _newest(entries: Iterable[Entry]) -> dict[Identity, OldMessage]:
    """Return the copy with the most attempts of each message, with the priority of the first."""
    newest: dict[Identity, OldMessage] = {}
    for entry in entries:
        held = newest.setdefault(entry.message.identity, entry.message)
        if entry.message.attempts > held.attempts:
            newest[entry.message.identity] = attrs.evolve(
                held, attempts=entry.message.attempts, error=entry.message.error
            )
    return newest


def _stranded(
    found: Snapshot, elsewhere: Iterable[Identity], taken: Mapping[str, str]
) -> list[OldMessage]:
    """Return what only the audit list has, the oldest first, each once."""
    seen = set(elsewhere)
    strays: dict[Identity, OldMessage] = {}
    for _, message in found.audit:
        if message is None or message.identity in seen:
            continue
        if taken.get(message.message_id) == message.digest:
            continue
        held = strays.setdefault(message.identity, message)
        if message.attempts > held.attempts:
            strays[message.identity] = message
    return sorted(strays.values(), key=lambda one: (one.enqueued, one.message_id))
