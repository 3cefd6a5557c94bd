"""How messages are stored, and what is said of bytes that are no message."""

import json
import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    MessageDecodeError,
    MessagePriority,
    MessageTooLargeError,
    MessageType,
    RoutingKey,
)
from tta_agent_coordination.codec import (
    FORMAT_VERSION,
    MAX_DEPTH,
    decode,
    encode,
    from_microseconds,
    to_microseconds,
)

pytestmark = pytest.mark.guarantee("2.11")

A, B = AgentId("a"), AgentId("b", "1")
NO_LIMIT = 10**9

PARTS = st.from_regex(r"[A-Za-z0-9_.-]{1,128}", fullmatch=True)
AGENTS = st.builds(AgentId, PARTS, st.none() | PARTS)
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)  # surrogates too
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)
IDS = st.text(min_size=6, max_size=128).filter(lambda text: text.isprintable() and " " not in text)
MOMENTS = st.datetimes(
    datetime(2, 1, 1),
    datetime(9998, 1, 1),
    timezones=st.builds(timezone, st.integers(-1400, 1400).map(lambda m: timedelta(minutes=m))),
)
MESSAGES = st.builds(
    AgentMessage,
    AGENTS,
    AGENTS,
    st.dictionaries(ANY_TEXT, JSON, max_size=5),
    message_type=st.sampled_from(MessageType),
    priority=st.sampled_from(MessagePriority),
    routing=st.builds(RoutingKey, st.none() | ANY_TEXT, st.lists(ANY_TEXT, max_size=3).map(tuple)),
    message_id=IDS,
    timestamp=MOMENTS,
    correlation_id=st.none() | ANY_TEXT,
    reply_to=st.none() | AGENTS,
    ttl=st.none() | st.floats(0, 86_400),
    headers=st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=3),
)


def stored(message: AgentMessage, **changes: Any) -> bytes:
    """The stored form with some of its fields changed; ``...`` leaves one out."""
    fields = json.loads(encode(message, message.sender, message.recipient, limit=NO_LIMIT))
    fields.update(changes)
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


@settings(max_examples=200)
@given(MESSAGES)
def test_whatever_is_encoded_decodes_to_itself(message: AgentMessage) -> None:
    raw = encode(message, message.sender, message.recipient, limit=NO_LIMIT)
    again = decode(raw)
    assert again == message
    assert repr(again.payload) == repr(message.payload)
    assert encode(again, again.sender, again.recipient, limit=NO_LIMIT) == raw


@given(st.binary(max_size=200) | ANY_TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_decode_or_say_that_they_do_not(raw: bytes) -> None:
    with pytest.raises(MessageDecodeError) as caught:
        decode(raw)
    assert caught.value.raw == raw


@given(JSON)
def test_any_json_decodes_or_says_that_it_does_not(data: object) -> None:
    raw = json.dumps(data).encode()
    with pytest.raises(MessageDecodeError) as caught:
        decode(raw)
    assert caught.value.raw == raw


def attempt(raw: bytes) -> AgentMessage | MessageDecodeError:
    try:
        return decode(raw)
    except MessageDecodeError as error:
        return error


NAMES = ["v", "id", "from", "to", "payload", "type", "at", "priority", "routing", "ttl", "headers",
         "reply_to", "correlation_id"]  # fmt: skip


@given(st.sampled_from(NAMES), JSON)
def test_any_value_in_any_field_decodes_or_says_that_it_does_not(name: str, value: object) -> None:
    raw = stored(AgentMessage(A, B), **{name: value})
    outcome = attempt(raw)
    if isinstance(outcome, MessageDecodeError):
        assert outcome.raw == raw
    else:
        encode(outcome, outcome.sender, outcome.recipient, limit=NO_LIMIT)


def test_sender_and_recipient_given_win() -> None:
    message = AgentMessage(A, A)
    assert decode(encode(message, B, B, limit=NO_LIMIT)) == attrs.evolve(
        message, sender=B, recipient=B
    )


def test_the_stored_form_has_a_version_and_no_defaults() -> None:
    message = AgentMessage(A, B, {"x": "é"})
    raw = encode(message, A, B, limit=NO_LIMIT)
    assert json.loads(raw) == {
        "v": FORMAT_VERSION,
        "id": message.message_id,
        "from": "a",
        "to": "b:1",
        "payload": {"x": "é"},
        "at": to_microseconds(message.timestamp),
    }
    assert "é".encode() in raw
    assert b" " not in raw


def test_what_a_newer_version_added_is_ignored() -> None:
    message = AgentMessage(A, B, {"x": 1}, routing=RoutingKey("t"))
    newer = stored(message, v=99, mood="good", routing={"topic": "t", "tags": [], "depth": 3})
    assert decode(newer) == message


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"from": ...}, "$.sender"),
    ({"to": ...}, "$.recipient"),
    ({"from": 5}, "not 5 (int) @ $.sender"),
    ({"from": "a b"}, "type of an AgentId"),
    ({"to": "a:b:c"}, "instance of an AgentId"),
    ({"payload": [1]}, "payload"),
    ({"priority": 4}, "priority"),
    ({"priority": True}, "priority"),
    ({"type": "gossip"}, "message_type"),
    ({"id": "short"}, "message_id"),
    ({"at": "noon"}, "timestamp"),
    ({"at": True}, "timestamp"),
    ({"at": 10**40}, "timestamp"),
    ({"ttl": -1}, "ttl"),
    ({"headers": {"a": 1}}, "header"),
    ({"reply_to": 7}, "reply_to"),
    ({"routing": {"topic": 7}}, "topic must be a str, not 7 (int) @ $.routing"),
    ({"routing": {"tags": "abc"}}, "tags"),
    ({"routing": 7}, "routing"),
    ({"correlation_id": 7}, "correlation_id"),
]


@pytest.mark.parametrize(("changes", "path"), WRONG)
def test_an_error_names_the_field_that_is_wrong(changes: dict[str, Any], path: str) -> None:
    raw = stored(AgentMessage(A, B), **changes)
    with pytest.raises(MessageDecodeError) as caught:
        decode(raw)
    assert path in str(caught.value)
    assert caught.value.__cause__ is not None


def test_several_wrong_fields_are_all_named() -> None:
    raw = stored(AgentMessage(A, B), **{"from": 5, "at": "noon"})
    with pytest.raises(MessageDecodeError, match=r"(?s)(?=.*from)(?=.*timestamp)|(?=.*sender)"):
        decode(raw)


def test_the_limit_is_of_bytes_and_exact() -> None:
    message = AgentMessage(A, B, {"x": "é" * 100})
    size = len(encode(message, A, B, limit=NO_LIMIT))
    assert len(encode(message, A, B, limit=size)) == size
    with pytest.raises(MessageTooLargeError, match=f"{size} bytes.*is {size - 1}"):
        encode(message, A, B, limit=size - 1)


def nested(depth: int) -> dict[str, Any]:
    inner: Any = {}
    for _ in range(depth - 2):
        inner = [inner]
    return {"in": inner} if depth > 1 else inner


def deeper(levels: int, call: Callable[[], object]) -> object:
    """Call from so many levels further down the stack."""
    return call() if levels == 0 else deeper(levels - 1, call)


def test_what_one_thread_encodes_another_can_decode_deep_in_its_stack() -> None:
    raw = encode(AgentMessage(A, B, nested(MAX_DEPTH)), A, B, limit=NO_LIMIT)
    found: list[object] = []
    thread = threading.Thread(
        target=lambda: found.append(deeper(300, lambda: decode(raw))), name="deep"
    )
    thread.start()
    thread.join()
    assert isinstance(found[0], AgentMessage)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 5_000, 100_000])
def test_a_payload_nested_too_deep_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=f"nested {MAX_DEPTH} levels deep at most"):
        encode(AgentMessage(A, B, nested(depth)), A, B, limit=NO_LIMIT)


def test_two_keys_are_never_made_one() -> None:
    for payload in ({1: "a", "1": "b"}, {"x": [({"y": {None: 1}},)]}, {True: 1}):
        bad: Any = payload
        with pytest.raises(TypeError, match="the payload cannot be stored as JSON: keys must"):
            encode(AgentMessage(A, B, bad), A, B, limit=NO_LIMIT)


@pytest.mark.parametrize(
    ("payload", "place"),
    [
        ({"a": 1, "at": datetime.now(UTC)}, "payload['at']"),
        ({"a": [{}, {"b": ({1, 2},)}], "c": b"later"}, "payload['a'][1]['b'][0]"),
        ({"a": math.nan}, "payload['a']"),
    ],
)
def test_where_a_payload_is_no_json_is_said(payload: Any, place: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        encode(AgentMessage(A, B, payload), A, B, limit=NO_LIMIT)
    assert str(caught.value).startswith("the payload cannot be stored as JSON: ")
    assert str(caught.value).endswith(f", at {place}")


def test_a_payload_that_holds_itself_or_a_fault_far_inside_has_no_place() -> None:
    round_about: Any = {}
    round_about.update(a=round_about, b=[round_about])
    deep: Any = object()
    for _ in range(100):
        deep = {"deeper": deep}
    for payload in (round_about, deep):
        with pytest.raises((TypeError, ValueError), match="cannot be stored as JSON") as caught:
            encode(AgentMessage(A, B, payload), A, B, limit=NO_LIMIT)
        assert ", at " not in str(caught.value)


@given(st.integers(-(10**16), 10**17))
def test_microseconds_are_exact(microseconds: int) -> None:
    assert to_microseconds(from_microseconds(microseconds)) == microseconds
    assert from_microseconds(0) == datetime(1970, 1, 1, tzinfo=UTC)
