"""How messages are stored: as JSON, through a cattrs converter of our own.

A message is one JSON object. Fields that have their default are left out; fields that a newer
version added are ignored by an older one. ``v`` is the version of the format.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, cast

from cattrs import Converter, transform_error
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.v import format_exception

from tta_agent_coordination.checks import describe
from tta_agent_coordination.errors import MessageDecodeError, MessageTooLargeError
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.message import (
    PLAIN_ID,
    AgentMessage,
    MessagePriority,
    MessageType,
    RoutingKey,
    trusted_message,
)

FORMAT_VERSION = 1
MAX_DEPTH = 500
"""Objects and arrays in each other that a payload may have, itself included.

Python's own limit depends on its version and on where the stack is: what one process could send,
another could not read.
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TOO_DEEP = f"a payload may be nested {MAX_DEPTH} levels deep at most"
_PLAIN_FIELDS = {"v", "id", "from", "to", "payload", "at", "type", "priority"}
_TYPES = {kind.value: kind for kind in MessageType}
_PRIORITIES = {priority.value: priority for priority in MessagePriority}
_NAMES = {
    "message_id": "id",
    "sender": "from",
    "recipient": "to",
    "message_type": "type",
    "timestamp": "at",
}


def to_microseconds(moment: datetime) -> int:
    """Return microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    """Return the moment, in UTC."""
    return _EPOCH + timedelta(0, 0, microseconds)


parse_agent_id = lru_cache(maxsize=4096)(AgentId.parse)


def _agent_id(value: object, _type: object) -> AgentId:
    if not isinstance(value, str):
        raise TypeError(f"an agent is stored as a string, not {describe(value)}")
    return parse_agent_id(value)


def _moment(value: object, _type: object) -> datetime:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"a time is stored as whole microseconds, not {describe(value)}")
    return from_microseconds(value)


def _as_it_is(value: Any, _type: object = None) -> Any:
    return value


def _converter(*, detailed: bool) -> Converter:
    converter = Converter(detailed_validation=detailed)
    converter.register_unstructure_hook(AgentId, str)
    converter.register_structure_hook(AgentId, _agent_id)
    converter.register_unstructure_hook(datetime, to_microseconds)
    converter.register_structure_hook(datetime, _moment)
    _teach_routing(converter)
    _teach_messages(converter)
    return converter


def _teach_routing(converter: Converter) -> None:
    converter.register_unstructure_hook(
        RoutingKey,
        make_dict_unstructure_fn(RoutingKey, converter, _cattrs_omit_if_default=True),
    )
    as_it_is = override(struct_hook=_as_it_is)
    converter.register_structure_hook(
        RoutingKey, make_dict_structure_fn(RoutingKey, converter, topic=as_it_is, tags=as_it_is)
    )


def _teach_messages(converter: Converter) -> None:
    fields: dict[str, Any] = {name: override(rename=stored) for name, stored in _NAMES.items()}
    # The model checks these itself; cattrs would copy or coerce what is in them.
    for name in ("payload", "headers", "ttl", "correlation_id", "priority", "message_type"):
        fields[name] = override(
            rename=_NAMES.get(name),
            omit_if_default=name != "payload",
            struct_hook=_as_it_is,
            unstruct_hook=_as_it_is,
        )
    converter.register_structure_hook(
        AgentMessage, make_dict_structure_fn(AgentMessage, converter, **fields)
    )
    # Always there: comparing with a default would make a new id and ask the clock, for nothing.
    fields |= {name: override(rename=_NAMES[name]) for name in ("message_id", "timestamp")}
    fields |= {name: override(omit=True) for name in ("sender", "recipient")}  # `encode` adds them
    converter.register_unstructure_hook(
        AgentMessage,
        make_dict_unstructure_fn(AgentMessage, converter, _cattrs_omit_if_default=True, **fields),
    )


# Structuring with paths for errors takes twice as long, so it is done only when there is one.
_fast, _careful = _converter(detailed=False), _converter(detailed=True)
_unstructure: Callable[[AgentMessage], dict[str, Any]] = _fast.get_unstructure_hook(AgentMessage)
_structure: Callable[[object, type], AgentMessage] = _fast.get_structure_hook(AgentMessage)
_loads = json.JSONDecoder().raw_decode
_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_dumps_ascii = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def encode(message: AgentMessage, sender: AgentId, recipient: AgentId, *, limit: int) -> bytes:
    """Return the stored form of `message`, with `sender` and `recipient` in place of its own.

    Args:
        message: What to store.
        sender: Wins over the message's own.
        recipient: Likewise.
        limit: Bytes that the stored form may have.

    Raises:
        TypeError: The payload holds something that is no JSON, or a key that is no string.
        ValueError: It holds NaN, an infinity or itself.
        MessageTooLargeError: The stored form is larger than `limit`.
    """
    data = _unstructure(message)
    data["v"], data["from"], data["to"] = FORMAT_VERSION, str(sender), str(recipient)
    try:
        text = _dumps(data)
        _check_nested(message.payload, MAX_DEPTH)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except (TypeError, ValueError) as error:
        place = _place_of_fault(message.payload)
        at = f", at {place}" if place and len(place) <= _LONGEST_PLACE else ""
        raise type(error)(f"the payload cannot be stored as JSON: {error}{at}") from None
    try:
        body = text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can only escape
        body = _dumps_ascii(data).encode()
    if len(body) > limit:
        raise MessageTooLargeError(
            f"message {message.message_id} has {len(body)} bytes in its stored form, and "
            f"max_message_bytes is {limit}; store the content elsewhere and send its address"
        )
    return body


def decode(raw: bytes) -> AgentMessage:
    """Return the message of a stored form.

    Raises:
        MessageDecodeError: The bytes are no message; the text names the path of the bad field.
    """
    try:
        text = raw.decode()
        data, end = _loads(text)
        if end == len(text):
            return _plain(data)
    except Exception:  # noqa: BLE001, S110 - whatever it is, it is met again
        pass
    return _decode_carefully(raw)


def _plain(data: dict[str, Any]) -> AgentMessage:
    """Return the message of fields as `encode` writes them.

    Most messages have no others, and what is checked here needs no validator of the model.

    Raises:
        Exception: They are not, which need not mean that they are no message.
    """
    payload, moment, priority = data["payload"], data["at"], data.get("priority", 5)
    if (
        type(payload) is not dict
        or type(moment) is not int
        or type(priority) is not int
        or not _PLAIN_FIELDS.issuperset(data)
        or PLAIN_ID.fullmatch(data["id"]) is None
    ):
        return _structure(data, AgentMessage)
    return trusted_message(
        parse_agent_id(data["from"]),
        parse_agent_id(data["to"]),
        cast("dict[str, Any]", payload),
        _TYPES[data.get("type", MessageType.EVENT)],
        _PRIORITIES[priority],
        data["id"],
        from_microseconds(moment),
    )


def _decode_carefully(raw: bytes) -> AgentMessage:
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MessageDecodeError(f"stored bytes are no JSON: {error}", raw=raw) from error
    if not isinstance(data, dict):
        raise MessageDecodeError(f"a stored message is an object, not {describe(data)}", raw=raw)
    fields = cast("dict[str, Any]", data)
    try:
        return _careful.structure(fields, AgentMessage)
    except Exception as error:
        faults = "; ".join(transform_error(error, path="$", format_exception=_say))
        raise MessageDecodeError(f"stored bytes are no message: {faults}", raw=raw) from error


def _say(error: BaseException, kind: type | None) -> str:
    # Ours name the field and show the value, which cattrs would leave out.
    return (
        str(error) if isinstance(error, (TypeError, ValueError)) else format_exception(error, kind)
    )


_LONGEST_PLACE = 200
"""Characters. A longer one explains nothing."""


def _place_of_fault(payload: object) -> str | None:
    """Return where a value in a payload is no JSON; None where it is something else that is wrong.

    It visits each object and array once, and does not recurse: a payload may hold itself.
    """
    waiting: list[tuple[str, object]] = [("payload", payload)]
    seen = set[int]()
    while waiting:
        path, value = waiting.pop()
        items = _items(value)
        if items is None:
            if not _is_json(value):
                return path
        elif id(value) not in seen:
            seen.add(id(value))
            waiting += [(f"{path}[{key!r}]", item) for key, item in reversed(items)]
    return None


def _items(value: object) -> Sequence[tuple[str | int, object]] | None:
    """Return what an object or an array holds; None for anything else."""
    if isinstance(value, dict):
        data = cast("dict[object, object]", value)
        return [(key, item) for key, item in data.items() if isinstance(key, str)]
    if isinstance(value, (list, tuple)):
        return list(enumerate(cast("Iterable[object]", value)))
    return None


def _is_json(value: object) -> bool:
    try:
        _dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _check_nested(value: object, depth: int) -> None:
    """Refuse keys that JSON would turn into strings, two into one, and nesting beyond `depth`."""
    if not depth:
        raise ValueError(_TOO_DEEP)
    items = cast("Iterable[object]", value)
    if isinstance(value, dict):
        data = cast("dict[object, object]", value)
        for key in data:
            if not isinstance(key, str):
                raise TypeError(f"keys must be strings, not {describe(key)}")
        items = data.values()
    for item in items:
        if isinstance(item, (dict, list, tuple)):
            _check_nested(cast("object", item), depth - 1)
