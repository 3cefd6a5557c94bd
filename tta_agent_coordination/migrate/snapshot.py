"""One look at the old keys of an inbox."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import attrs

from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.migrate.layout import SCHEDULED, priority_of, type_of
from tta_agent_coordination.migrate.legacy import LATEST, OldMessage, UnreadableError, due_of, read
from tta_agent_coordination.migrate.report import Fault
from tta_agent_coordination.migrate.server import Server

_EXCERPT = 120


@attrs.frozen
class Entry:
    """One entry of an old key.

    Attributes:
        source: Name of the key: ``high``, ``normal``, ``low``, ``reserved``, ``dlq`` or ``queue``.
        member: What it is called there: the JSON itself, or a token.
        message: What it says.
        due: Microseconds since 1970: when it can be received; of a reserved one, its deadline.
    """

    source: str
    member: bytes
    message: OldMessage
    due: int = 0


@attrs.frozen
class Snapshot:
    """What the old keys of an inbox hold.

    Attributes:
        scheduled: In the order in which they would be received, for each priority.
        reserved: The oldest first.
        dead: In the order of the list.
        audit: The audit list: its raw entries and what they say; None for what is unreadable.
        types: Members of the set of subscriptions.
        faults: What could not be read.
    """

    scheduled: list[Entry] = attrs.field(factory=list[Entry])
    reserved: list[Entry] = attrs.field(factory=list[Entry])
    dead: list[Entry] = attrs.field(factory=list[Entry])
    audit: list[tuple[bytes, OldMessage | None]] = attrs.field(
        factory=list[tuple[bytes, OldMessage | None]]
    )
    dead_raw: list[bytes] = attrs.field(factory=list[bytes])
    types: list[bytes] = attrs.field(factory=list[bytes])
    faults: list[Fault] = attrs.field(factory=list[Fault])


class Look:
    """Reads the old keys of one inbox.

    The audit list is read first, then in the order in which a message moves on, so that one that
    moves meanwhile is met where it goes.
    """

    def __init__(
        self, server: Server, keys: Mapping[str, str], inbox: AgentId, *, limit: int
    ) -> None:
        """Read through `server`; `limit` is how many bytes a message of ours may have."""
        self._server = server
        self._inbox = inbox
        self._limit = limit
        self._known: dict[bytes, OldMessage | None] = {}
        self._found = Snapshot()
        self._keys = dict(keys)
        self._keep_only_right_types(keys)
        if "deadlines" not in self._keys:  # nobody knows whose leases are over
            self._keys.pop("reserved", None)

    @property
    def sound(self) -> Mapping[str, str]:
        """The keys, by their names, that have the right type or are not there."""
        return self._keys

    def take(self) -> Snapshot:
        """Return what is there."""
        found = self._found
        audit = list(self._list("queue"))
        for name in SCHEDULED:
            found.scheduled.extend(sorted(self._scheduled(name), key=_order))
        found.reserved.extend(sorted(self._reserved(), key=_age))
        found.dead_raw.extend(self._list("dlq"))
        found.dead.extend(self._entries("dlq", ((raw, raw, 0.0) for raw in found.dead_raw)))
        found.audit.extend((raw, self._read("queue", raw)) for raw in audit)
        if "subs" in self._keys:
            found.types.extend(self._server.members(self._keys["subs"]))
        return found

    def _keep_only_right_types(self, keys: Mapping[str, str]) -> None:
        for name, kind in zip(keys, self._server.types(keys.values()), strict=True):
            if kind not in (b"none", type_of(name)):
                del self._keys[name]
                reason = f"the key is a {kind.decode()}, not a {type_of(name).decode()}"
                self._found.faults.append(Fault(keys[name], "", reason))

    def _list(self, name: str) -> Iterator[bytes]:
        return self._server.items(self._keys[name]) if name in self._keys else iter(())

    def _scheduled(self, name: str) -> Iterator[Entry]:
        if name in self._keys:
            scores = self._server.scores(self._keys[name])
            rows = ((raw, raw, score) for raw, score in scores.items())
            yield from self._entries(name, rows)

    def _reserved(self) -> Iterator[Entry]:
        if "reserved" in self._keys:
            taken = self._server.fields(self._keys["reserved"])
            deadlines = self._server.scores(self._keys["deadlines"])
            # Without a deadline, its consumer may be about to write one.
            rows = ((token, raw, deadlines.get(token, LATEST)) for token, raw in taken.items())
            yield from self._entries("reserved", rows)

    def _entries(self, source: str, rows: Iterable[tuple[bytes, bytes, float]]) -> Iterator[Entry]:
        for member, raw, score in rows:
            message = self._read(source, raw)
            if message is not None:
                yield Entry(source, member, message, due_of(score))

    def _read(self, source: str, raw: bytes) -> OldMessage | None:
        """Return what an entry says; a copy that says the same is read, and complained of, once."""
        if raw not in self._known:
            priority = priority_of(source) if source in SCHEDULED else None
            try:
                self._known[raw] = read(raw, self._inbox, priority=priority, limit=self._limit)
            except UnreadableError as error:
                self._known[raw] = None
                self._fault(source, raw, str(error))
        return self._known[raw]

    def _fault(self, source: str, raw: bytes, reason: str) -> None:
        self._found.faults.append(fault(self._keys[source], raw, reason))


def fault(key: str, raw: bytes, reason: str) -> Fault:
    """Return what is listed of an entry that is left."""
    excerpt = raw[:_EXCERPT].decode("utf-8", "backslashreplace")
    return Fault(key, excerpt + ("…" if len(raw) > _EXCERPT else ""), reason)


def _order(entry: Entry) -> tuple[int, bytes]:
    return entry.due, entry.member


def _age(entry: Entry) -> tuple[int, str]:
    return entry.message.enqueued, entry.message.message_id
