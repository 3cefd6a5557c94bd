"""What agents say to each other: the message and the values it is made of."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Any, cast

import attrs

from tta_agent_coordination import checks
from tta_agent_coordination.identity import AgentId


class MessageType(StrEnum):
    """What a message asks of the one who gets it."""

    REQUEST = "request"
    """Do something and answer."""
    RESPONSE = "response"
    """The answer to a request."""
    EVENT = "event"
    """Something happened; no answer is expected."""


class MessagePriority(IntEnum):
    """Which of the waiting messages goes first: all HIGH, then all NORMAL, then all LOW."""

    LOW = 1
    NORMAL = 5
    HIGH = 9

    @classmethod
    def _missing_(cls, value: object) -> MessagePriority | None:
        """Read a number of which JSON made a string, as it does with the keys of `InboxStats`."""
        return next((each for each in cls if value == str(each.value)), None)


class FailureType(StrEnum):
    """Why a message could not be handled, as its consumer says with ``nack``."""

    TRANSIENT = "transient"
    """It may work later: retried after a back-off."""
    PERMANENT = "permanent"
    """It never will: moved to the dead letters at once."""
    TIMEOUT = "timeout"
    """It took too long: retried like a transient failure."""


def _text_or_none(_owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        checks.instance_of(attribute.name, value, str)


@attrs.frozen
class RoutingKey:
    """What a published message is about.

    Attributes:
        topic: Compared with the topics of subscriptions; None matches those that name no topic.
        tags: Free labels, carried along.
    """

    topic: str | None = attrs.field(default=None, validator=_text_or_none)
    tags: tuple[str, ...] = attrs.field(
        default=(), converter=lambda value: checks.strings("tags", value)
    )


def _message_type(value: object) -> MessageType:
    if type(value) is MessageType:  # the usual case, in a tenth of the time
        return value
    try:
        return MessageType(value)
    except ValueError:
        raise ValueError(
            f"message_type must be one of {', '.join(MessageType)}, not {checks.describe(value)}"
        ) from None


def _priority(value: object) -> MessagePriority:
    if type(value) is MessagePriority:
        return value
    # True equals 1 and would pass for LOW.
    if isinstance(value, int) and not isinstance(value, bool) and value in (1, 5, 9):
        return MessagePriority(value)
    named = value.upper() if isinstance(value, str) else ""
    meant = named if named in MessagePriority.__members__ else "NORMAL"
    raise ValueError(
        f"priority must be LOW (1), NORMAL (5) or HIGH (9), not {checks.describe(value)}: "
        f"write MessagePriority.{meant}"
    )


def _object(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, (dict, Mapping)):  # dict first: asking an ABC takes longer
        raise TypeError(f"{name} must be a JSON object (a dict), not {checks.describe(value)}")
    return dict(cast("Mapping[Any, Any]", value))


def _payload(value: object) -> dict[str, Any]:
    return _object("payload", value)


def _headers(value: object) -> dict[str, str]:
    headers = _object("headers", value)
    for name, text in headers.items():
        checks.instance_of("each name in headers", name, str)
        checks.instance_of(f"header {name!r}", text, str)
    return headers


PLAIN_ID = re.compile("[!-~]{6,128}")
"""Most ids; others may have any printable characters."""


def _check_message_id(_owner: object, _attribute: object, value: object) -> None:
    checks.instance_of("message_id", value, str)
    if PLAIN_ID.fullmatch(str(value)):
        return
    text = str(value)
    if not 6 <= len(text) <= 128 or not text.isprintable() or " " in text or not _encodes(text):
        raise ValueError(
            "message_id must be 6 to 128 printable characters without spaces, "
            f"not {checks.describe(value)}"
        )


def _encodes(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _check_timestamp(_owner: object, _attribute: object, value: object) -> None:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise ValueError(
            f"timestamp must be a datetime with a time zone, not {checks.describe(value)}"
        )
    if not 1 < value.year < 9999:
        _check_has_utc_form(value)


def _check_has_utc_form(moment: datetime) -> None:
    try:
        moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(
            f"timestamp must be in the years 1 to 9999 of UTC, not {checks.describe(moment)}"
        ) from None


def _agent(_owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    checks.instance_of(attribute.name, value, AgentId)


def _agent_or_none(_owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        checks.instance_of(attribute.name, value, AgentId)


def _routing(_owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    checks.instance_of(attribute.name, value, RoutingKey)


def _ttl(value: object) -> float | None:
    return None if value is None else checks.duration("ttl", value)


def _new_message_id() -> str:
    return os.urandom(16).hex()


def _now() -> datetime:
    return datetime.now(UTC)


_NO_ROUTING = RoutingKey()


@attrs.frozen
class AgentMessage:
    """One message from one agent to another.

    Messages are compared by value. The `payload` and `headers` given are copied one level deep.

    Attributes:
        sender: Who sends it.
        recipient: Whose inbox it goes to.
        payload: A JSON object; nested values are checked when it is sent.
        message_type: REQUEST, RESPONSE or EVENT.
        priority: HIGH goes before NORMAL before LOW.
        routing: Topic and tags, for subscribers.
        message_id: 6 to 128 printable characters without spaces; a second message of the same id
            to the same inbox is taken for a repetition and not stored.
        timestamp: When it was made, with a time zone. For people: no decision depends on it.
        correlation_id: What ties a response to its request.
        reply_to: Where the answer is to go; None for the sender's inbox.
        ttl: Seconds, by the server's clock from the moment it was stored or its delay was over, in
            which it must be handed out, retries included; afterwards it goes to the dead letters
            as ``expired`` when its turn comes. None: no limit.
        headers: Strings that travel along, such as a trace context.

    Raises:
        TypeError: A field is of the wrong type.
        ValueError: A field has a value that is not allowed.
    """

    sender: AgentId = attrs.field(validator=_agent)
    recipient: AgentId = attrs.field(validator=_agent)
    payload: dict[str, Any] = attrs.field(factory=dict[str, Any], converter=_payload, hash=False)
    message_type: MessageType = attrs.field(
        default=MessageType.EVENT, converter=_message_type, kw_only=True
    )
    priority: MessagePriority = attrs.field(
        default=MessagePriority.NORMAL, converter=_priority, kw_only=True
    )
    routing: RoutingKey = attrs.field(default=_NO_ROUTING, validator=_routing, kw_only=True)
    message_id: str = attrs.field(
        factory=_new_message_id, validator=_check_message_id, kw_only=True
    )
    timestamp: datetime = attrs.field(factory=_now, validator=_check_timestamp, kw_only=True)
    correlation_id: str | None = attrs.field(default=None, validator=_text_or_none, kw_only=True)
    reply_to: AgentId | None = attrs.field(default=None, validator=_agent_or_none, kw_only=True)
    ttl: float | None = attrs.field(default=None, converter=_ttl, kw_only=True)
    headers: dict[str, str] = attrs.field(
        factory=dict[str, str], converter=_headers, hash=False, kw_only=True
    )


_Set = Callable[[AgentMessage, object], None]


def _setter(name: str) -> _Set:
    # Of the slot: the message itself refuses to be changed, and `object.__setattr__` looks it up.
    return vars(AgentMessage)[name].__set__


(
    _set_sender, _set_recipient, _set_payload, _set_message_type, _set_priority, _set_routing,
    _set_message_id, _set_timestamp, _set_correlation_id, _set_reply_to, _set_ttl, _set_headers,
) = (_setter(field.name) for field in attrs.fields(AgentMessage))  # fmt: skip


def trusted_message(
    sender: AgentId,
    recipient: AgentId,
    payload: dict[str, Any],
    message_type: MessageType,
    priority: MessagePriority,
    message_id: str,
    timestamp: datetime,
) -> AgentMessage:
    """Make a message of values that were checked, in a third of the time.

    It is not copied, nor checked again: for the codec, which has just read the values.
    """
    message = object.__new__(AgentMessage)
    _set_sender(message, sender)
    _set_recipient(message, recipient)
    _set_payload(message, payload)
    _set_message_type(message, message_type)
    _set_priority(message, priority)
    _set_routing(message, _NO_ROUTING)
    _set_message_id(message, message_id)
    _set_timestamp(message, timestamp)
    _set_correlation_id(message, None)
    _set_reply_to(message, None)
    _set_ttl(message, None)
    _set_headers(message, {})
    return message


def types_of(value: Iterable[MessageType]) -> tuple[MessageType, ...]:
    """Return message types in the order given, each once; at least one is needed."""
    if isinstance(value, str):
        raise TypeError(f"message_types must be a sequence of types, not {value!r}")
    found = tuple(dict.fromkeys(_message_type(item) for item in value))
    if not found:
        raise ValueError("message_types must name at least one MessageType")
    return found


def failure_type(value: object) -> FailureType:
    """Return a failure type, also of its name."""
    try:
        return FailureType(value)
    except ValueError:
        raise ValueError(
            f"failure must be one of {', '.join(FailureType)}, not {checks.describe(value)}"
        ) from None
