"""The way back: what waits in our inboxes, given to the old layout again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

import attrs

from tta_agent_coordination.coordinator import records
from tta_agent_coordination.delivery import QueueMessage
from tta_agent_coordination.errors import MessageDecodeError
from tta_agent_coordination.identity import REPLY_TYPE, AgentId
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.migrate.layout import name_of
from tta_agent_coordination.migrate.report import Fault
from tta_agent_coordination.migrate.server import Server
from tta_agent_coordination.migrate.snapshot import fault

# score attempts origin holder nonce standing error
_STATE = re.compile(rb"\d+ (\d+) \S+ \S+ \S+ \w ([-+].*)", re.ASCII | re.DOTALL)
_TAG = re.compile(r":\{([^@}]+)\}:\w+")
_A_LOOK = 200


@attrs.frozen
class Return:
    """One message that is to go back.

    Attributes:
        kind: ``high``, ``normal``, ``low`` or ``dead``.
        message_id: As it is stored.
        attempts: Deliveries so far.
        due: Microseconds since 1970; its score there.
        body: The old stored form.
        delayed: Whether it is not due yet.
    """

    kind: str
    message_id: bytes
    attempts: int
    due: int
    body: bytes
    delayed: bool = False

    def words(self) -> tuple[str | bytes | int, ...]:
        """Return what the script takes for it."""
        return self.kind, self.message_id, self.attempts, self.due, self.body

    @property
    def weight(self) -> int:
        """How many bytes it takes, nearly."""
        return len(self.body)


def inboxes(server: Server, keys: Keys) -> list[AgentId]:
    """Return the inboxes that have keys under a prefix, but for those of replies."""
    tags = (_TAG.fullmatch(key[len(keys.prefix) :]) for key in server.keys(keys.prefix))
    found = {AgentId.parse(match[1]) for match in tags if match is not None}
    return sorted((one for one in found if one.type != REPLY_TYPE), key=str)


class Holdings:
    """What one of our inboxes holds that nobody has in hand."""

    def __init__(self, server: Server, keys: Keys, inbox: AgentId) -> None:
        """Read through `server`."""
        self._server = server
        self._keys = keys.inbox(inbox)
        self.faults: list[Fault] = []
        self.held = 0

    def all(self, now: int) -> list[Return]:
        """Return it in the order in which it would be received, the dead letters last."""
        leased = self._in_order("leased")
        over = [name for name, deadline in leased if deadline <= now]
        self.held = len(leased) - len(over)
        ready = [*over, *(name for name, _ in self._in_order("ready"))]
        dues = range(now - len(ready), now)  # one after the other, and all of them due
        places = list(zip(ready, dues, strict=True))
        later = [(name, round(due)) for name, due in self._in_order("delayed")]
        return [
            *self._unfinished(places, delayed=False),
            *self._unfinished(later, delayed=True),
            *self._dead(),
        ]

    def _in_order(self, name: str) -> list[tuple[bytes, float]]:
        return sorted(self._server.scores(self._keys[name]).items(), key=lambda one: one[1])

    def _unfinished(
        self, places: Sequence[tuple[bytes, int]], *, delayed: bool
    ) -> Iterator[Return]:
        for start in range(0, len(places), _A_LOOK):
            some = places[start : start + _A_LOOK]
            names = [name for name, _ in some]
            stored = self._server.run("HMGET", self._keys["messages"], *names)
            states = self._server.run("HMGET", self._keys["states"], *names)
            for (name, due), record, state in zip(some, stored, states, strict=True):
                if record is not None:
                    yield from self._return(name, due, record, state, delayed=delayed)

    def _return(
        self, name: bytes, due: int, record: bytes, state: bytes | None, *, delayed: bool
    ) -> Iterator[Return]:
        match = _STATE.fullmatch(state or b"")
        attempts, error = (int(match[1]), match[2]) if match else (0, b"-")
        try:
            queued = records.queue_message(record, attempts, error)
        except MessageDecodeError as problem:
            self.faults.append(fault(self._keys["messages"], record, str(problem)))
            return
        kind = name_of(queued.priority)
        yield Return(kind, name, attempts, due, encode(queued), delayed)

    def _dead(self) -> Iterator[Return]:
        key = self._keys["dead_records"]
        for name, _ in self._in_order("dead"):
            record = self._server.run("HGET", key, name)
            letter = records.dead_letter(name, record) if record else None
            if letter is None or letter.queue_message is None:
                self.faults.append(fault(key, record or name, "no message of ours"))
            else:
                queued = letter.queue_message
                yield Return("dead", name, queued.delivery_attempts, 0, encode(queued))


def encode(queued: QueueMessage) -> bytes:
    """Return the old stored form of a message."""
    message = queued.message
    return json.dumps({
        "message": {
            "message_id": message.message_id,
            "sender": _agent(message.sender),
            "recipient": _agent(message.recipient),
            "message_type": message.message_type.value,
            "payload": message.payload,
            "priority": message.priority.value,
            "routing": {"topic": message.routing.topic, "tags": list(message.routing.tags)},
            "timestamp": message.timestamp.isoformat(),
        },
        "priority": queued.priority.value,
        "enqueued_at": queued.enqueued_at.isoformat(),
        "delivery_attempts": queued.delivery_attempts,
        "last_error": queued.last_error,
    }).encode()  # fmt: skip


def _agent(agent_id: AgentId) -> dict[str, str | None]:
    return {"type": agent_id.type, "instance": agent_id.instance}
