"""Messages of the old layout, read into ours.

The stored form was one JSON object: the message, and beside it the priority, the time of enqueuing,
the attempts and the last error. In a later relative of it the sender is a string, and there is no
recipient.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, cast

import attrs

from tta_agent_coordination import checks, codec
from tta_agent_coordination.coordinator.records import LONGEST_ERROR
from tta_agent_coordination.errors import CoordinationError
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.message import AgentMessage, MessagePriority, MessageType, RoutingKey
from tta_agent_coordination.migrate.layout import agent

MOST_ATTEMPTS = 1_000_000
"""More deliveries than any message had: a larger number is a mistake."""

LATEST = 2**53 - 1
"""Microseconds since 1970 that a score holds exactly."""


@attrs.frozen(kw_only=True)
class OldMessage:
    """A message of the old layout.

    Attributes:
        message_id: Of the message.
        digest: Of what does not change from copy to copy of it.
        priority: 9, 5 or 1.
        attempts: Deliveries so far.
        error: ``-`` for none, or ``+`` and the text, as the scripts take it.
        enqueued: Microseconds since 1970; 0 when it is not known.
        body: In our stored form.
    """

    message_id: str
    digest: str
    priority: int
    attempts: int
    error: bytes
    enqueued: int
    body: bytes

    @property
    def identity(self) -> tuple[str, str]:
        """What all copies of a message have in common."""
        return self.message_id, self.digest


class UnreadableError(ValueError):
    """Stored bytes are no message that can be taken over; the text says why."""


def read(raw: bytes, recipient: AgentId, *, priority: int | None = None, limit: int) -> OldMessage:
    """Read the stored form of a message.

    Args:
        raw: The JSON.
        recipient: Whose inbox it is in; wins over what it says.
        priority: Of the sorted set it is in; wins over what it says.
        limit: Bytes that our stored form may have.

    Raises:
        UnreadableError: It is none, or breaks a rule of ours.
    """
    try:
        return _read(raw, recipient, priority, limit)
    except UnreadableError:
        raise
    except (CoordinationError, ArithmeticError, TypeError, ValueError, RecursionError) as error:
        raise UnreadableError(str(error) or type(error).__name__) from error


def _read(raw: bytes, recipient: AgentId, priority: int | None, limit: int) -> OldMessage:
    stored = _object("the stored form", json.loads(raw))
    fields = _object("message", stored.get("message"))
    enqueued = stored.get("enqueued_at")
    made = _first(fields.get("timestamp"), enqueued)
    if made is None:
        raise UnreadableError("message has no timestamp")
    message = AgentMessage(
        _sender(fields.get("sender")),
        recipient,
        fields.get("payload"),  # pyright: ignore[reportArgumentType] - the model checks it
        message_type=_type(fields.get("message_type")),
        priority=cast("MessagePriority", priority or _priority(stored, fields)),
        routing=_routing(fields.get("routing")),
        message_id=cast("str", fields.get("message_id")),
        timestamp=_moment("timestamp", made),
        correlation_id=fields.get("correlation_id"),
    )
    return OldMessage(
        message_id=message.message_id,
        digest=_digest(message),
        priority=message.priority.value,
        attempts=_attempts(_first(stored.get("delivery_attempts"), 0)),
        error=_error(stored.get("last_error")),
        enqueued=0 if enqueued is None else codec.to_microseconds(_moment("enqueued_at", enqueued)),
        body=codec.encode(message, message.sender, recipient, limit=limit),
    )


def _object(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnreadableError(f"{name} is no JSON object but {checks.describe(value)}")
    return cast("dict[str, Any]", value)


def _first(*values: object) -> object:
    """Return the first that is not None, or None."""
    return next((value for value in values if value is not None), None)


def _sender(value: object) -> AgentId:
    if isinstance(value, str):
        kind, _, instance = value.partition(":")
        return agent(kind, instance or None)
    fields = _object("sender", value)
    return agent(cast("str", fields.get("type")), fields.get("instance"))


def _type(value: object) -> MessageType:
    return MessageType(value.lower() if isinstance(value, str) else value)


def _priority(stored: dict[str, Any], fields: dict[str, Any]) -> object:
    return _first(stored.get("priority"), fields.get("priority"), MessagePriority.NORMAL)


def _routing(value: object) -> RoutingKey:
    fields = {} if value is None else _object("routing", value)
    return RoutingKey(fields.get("topic"), fields.get("tags") or ())


def _moment(name: str, value: object) -> datetime:
    """Read a time: ISO 8601, without a zone in UTC; or seconds, ms or µs since 1970."""
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
        return moment if moment.utcoffset() is not None else moment.replace(tzinfo=UTC)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < LATEST:
        raise UnreadableError(f"{name} is no time but {checks.describe(value)}")
    unit = 1 if value >= 1e14 else 1_000 if value >= 1e11 else 1_000_000
    return codec.from_microseconds(round(value * unit))


def _attempts(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_ATTEMPTS:
        raise UnreadableError(
            f"delivery_attempts is no number of deliveries but {checks.describe(value)}"
        )
    return value


def _error(value: object) -> bytes:
    if value is None:
        return b"-"
    text = value if isinstance(value, str) else json.dumps(value)
    return f"+{text[:LONGEST_ERROR]}".encode("utf-8", "backslashreplace")


def _digest(message: AgentMessage) -> str:
    """Name what was said, without the priority, which a copy may have changed."""
    said = [
        str(message.sender),
        message.message_type,
        message.payload,
        message.routing.topic,
        codec.to_microseconds(message.timestamp),
    ]
    text = json.dumps(said, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def due_of(score: float) -> int:
    """Return the score of a sorted set as microseconds since 1970, as far as ours can hold it."""
    return round(min(max(score, 0), LATEST))
