"""Bad input is refused before anything is sent; odd input arrives as it was sent."""

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any, cast

import attrs
import pytest
import redis
import redis.asyncio

from tests.contract.given import FAILED, LONG, ONE, SENDER, WORKER, drain, message, send, take
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    CoordinatorUnavailableError,
    MessageTooLargeError,
    RedisAgentRegistry,
    RedisMessageCoordinator,
    RoutingKey,
)

pytestmark = pytest.mark.guarantee("2.11")

Call = Callable[[RedisMessageCoordinator, Any], object]
TOKEN = "0123456789abcdef:" + "message-id"

EAST, WEST = timezone(timedelta(hours=5)), timezone(timedelta(hours=-5))

NO_DURATION = [
    -1, -0.001, math.nan, math.inf, -math.inf, 1e300, 10**400, 10**5000, "1", b"1", True, False,
    [], {}, object(), 1j, datetime.now(UTC),
]  # fmt: skip
NO_AGENT = [None, "worker", b"worker", 1, ("worker", None), object(), AgentId]
NO_TEXT = [None, b"text", 1, ["text"], object()]
NO_COUNT = [-1, 1.0, 1.5, "1", True, math.nan, [], object()]


@pytest.fixture
def nowhere() -> Iterator[RedisMessageCoordinator]:
    """A coordinator whose server is not there: whatever it tries to send fails otherwise."""
    with (
        redis.Redis(unix_socket_path="/nowhere/server.sock") as client,
        RedisMessageCoordinator(client, call_timeout=0.05) as coordinator,
    ):
        yield coordinator


def refused(call: Callable[[], object]) -> str:
    """The text of the error with which a call refuses what it was given."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    text = str(caught.value)
    assert text
    assert len(text) < 400, "no error repeats all that it was given"
    return text


def test_what_is_good_is_sent_and_meets_no_server(nowhere: RedisMessageCoordinator) -> None:
    with pytest.raises(CoordinatorUnavailableError):
        nowhere.send_message(SENDER, WORKER, message())


# Durations ------------------------------------------------------------------------------------

DURATIONS: dict[str, tuple[str, Call]] = {
    "send_message": ("delay", lambda c, x: c.send_message(SENDER, WORKER, message(), delay=x)),
    "receive": ("visibility_timeout", lambda c, x: c.receive(WORKER, x)),
    "receive, wait": ("wait", lambda c, x: c.receive(WORKER, wait=x)),
    "receive_many": ("visibility_timeout", lambda c, x: c.receive_many(WORKER, 1, x)),
    "receive_many, wait": ("wait", lambda c, x: c.receive_many(WORKER, 1, wait=x)),
    "nack": ("delay", lambda c, x: c.nack(WORKER, TOKEN, delay=x)),
    "extend": ("visibility_timeout", lambda c, x: c.extend(WORKER, TOKEN, x)),
    "backoff_base": ("backoff_base", lambda c, x: c.configure(backoff_base=x)),
    "backoff_max": ("backoff_max", lambda c, x: c.configure(backoff_max=x)),
    "dedup_window": ("dedup_window", lambda c, x: c.configure(dedup_window=x)),
    "ttl": ("ttl", lambda _, x: AgentMessage(SENDER, WORKER, ttl=x)),
    "call_timeout": (
        "call_timeout", lambda _, x: RedisMessageCoordinator(redis.Redis(), call_timeout=x),
    ),
}  # fmt: skip
NONE_HAS_A_MEANING = {"nack", "ttl", "backoff_base", "backoff_max", "dedup_window"}


@pytest.mark.parametrize("where", DURATIONS)
def test_what_is_no_duration_is_refused(nowhere: RedisMessageCoordinator, where: str) -> None:
    name, call = DURATIONS[where]
    wrong = NO_DURATION if where in NONE_HAS_A_MEANING else [None, *NO_DURATION]
    for value in wrong:
        assert name in refused(lambda value=value: call(nowhere, value))


def test_no_call_can_take_no_time() -> None:
    with redis.Redis() as client:
        assert "call_timeout" in refused(lambda: RedisMessageCoordinator(client, call_timeout=0))


@pytest.mark.parametrize("factor", [0, 0.99, -2, math.nan, math.inf, 10**400, "2", True, []])
def test_a_back_off_factor_is_a_finite_number_of_at_least_one(
    nowhere: RedisMessageCoordinator, factor: Any
) -> None:
    assert "backoff_factor" in refused(lambda: nowhere.configure(backoff_factor=factor))


@pytest.mark.parametrize("duration", [0, 0.0, -0.0, 1, 1e-9, 10 * 365 * 86_400])
def test_durations_from_nothing_to_ten_years_will_do(
    coordinator: RedisMessageCoordinator, duration: float
) -> None:
    coordinator.send_message(SENDER, WORKER, message(), delay=duration)
    coordinator.send_message(SENDER, ONE, message(1))
    received = coordinator.receive(ONE, duration)
    assert received is not None
    assert coordinator.extend(ONE, received.token, duration)
    assert coordinator.nack(ONE, received.token, delay=duration)


def test_one_where_many_belong_is_named(nowhere: RedisMessageCoordinator) -> None:
    text = refused(lambda: nowhere.send_many(SENDER, cast("Any", message())))
    assert text.startswith("messages must be an Iterable, not AgentMessage(")
    text = refused(lambda: nowhere.broadcast_message(SENDER, message(), cast("Any", WORKER)))
    assert text.startswith("recipients must be an Iterable, not AgentId(")


def test_what_is_no_client_is_named_before_all_else() -> None:
    makers = (RedisMessageCoordinator, RedisAgentRegistry)
    for make in makers:
        text = refused(lambda make=make: make(cast("Any", "localhost"), cast("Any", 6379)))
        assert text == "redis must be a Redis, not a str; a URL is for from_url"
        text = refused(lambda make=make: make(cast("Any", redis.asyncio.Redis())))
        assert text == (
            "redis must be a Redis, not one of redis.asyncio; with asyncio, use "
            "tta_agent_coordination.aio and its from_url"
        )


def test_an_option_of_the_constructor_that_is_misspelled_is_named() -> None:
    text = refused(lambda: RedisMessageCoordinator.from_url("redis://x", call_timout=1.0))
    assert text == "there is no option 'call_timout'; did you mean call_timeout?"


# Counts and names -----------------------------------------------------------------------------

COUNTS: dict[str, Call] = {
    "max_messages": lambda c, x: c.receive_many(WORKER, x),
    "limit": lambda c, x: c.dead_letters(WORKER, limit=x),
    "offset": lambda c, x: c.dead_letters(WORKER, offset=x),
    "queue_size": lambda c, x: c.configure(queue_size=x),
    "retry_attempts": lambda c, x: c.configure(retry_attempts=x),
    "dead_letter_limit": lambda c, x: c.configure(dead_letter_limit=x),
    "max_message_bytes": lambda c, x: c.configure(max_message_bytes=x),
}
LEAST_ONE = ("max_messages", "queue_size", "dead_letter_limit", "max_message_bytes")


@pytest.mark.parametrize("name", COUNTS)
def test_what_is_no_count_is_refused(nowhere: RedisMessageCoordinator, name: str) -> None:
    for value in [*NO_COUNT, *([0] if name in LEAST_ONE else [])]:
        assert name in refused(lambda value=value: COUNTS[name](nowhere, value))


@pytest.mark.parametrize("value", NO_COUNT)
def test_a_limit_of_replays_is_a_count_or_nothing(
    nowhere: RedisMessageCoordinator, value: Any
) -> None:
    assert "limit" in refused(lambda: nowhere.replay_dead_letters(WORKER, limit=value))


def test_a_count_may_be_as_large_as_anybody_likes(coordinator: RedisMessageCoordinator) -> None:
    for huge in (2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**30):
        coordinator.configure(
            queue_size=huge, retry_attempts=huge, dead_letter_limit=huge, max_message_bytes=huge
        )
        send(coordinator, 1)
        [received] = coordinator.receive_many(WORKER, huge, LONG)
        coordinator.nack(WORKER, received.token, FAILED)
        assert len(coordinator.dead_letters(WORKER, limit=huge)) == 1
        assert coordinator.dead_letters(WORKER, limit=huge, offset=huge) == []
        assert coordinator.replay_dead_letters(WORKER, limit=huge) == 1
        coordinator.purge(WORKER)


AGENTS: dict[str, tuple[str, Call]] = {
    "send_message, sender": ("sender", lambda c, x: c.send_message(x, WORKER, message())),
    "send_message": ("recipient", lambda c, x: c.send_message(SENDER, x, message())),
    "send_many": ("sender", lambda c, x: c.send_many(x, [message()])),
    "broadcast_message, sender": (
        "sender", lambda c, x: c.broadcast_message(x, message(), [WORKER]),
    ),
    "broadcast_message": (
        "recipient", lambda c, x: c.broadcast_message(SENDER, message(), [WORKER, x]),
    ),
    "publish": ("sender", lambda c, x: c.publish(x, message())),
    "subscribe": ("agent_id", lambda c, x: c.subscribe_to_messages(x, ["event"])),
    "receive": ("agent_id", lambda c, x: c.receive(x)),
    "receive_many": ("agent_id", lambda c, x: c.receive_many(x, 1)),
    "ack": ("agent_id", lambda c, x: c.ack(x, TOKEN)),
    "ack_many": ("agent_id", lambda c, x: c.ack_many(x, [TOKEN])),
    "nack": ("agent_id", lambda c, x: c.nack(x, TOKEN)),
    "extend": ("agent_id", lambda c, x: c.extend(x, TOKEN, 1)),
    "release": ("agent_id", lambda c, x: c.release(x, TOKEN)),
    "recover_pending": ("agent_id", lambda c, x: c.recover_pending(x)),
    "stats": ("agent_id", lambda c, x: c.stats(x)),
    "purge": ("agent_id", lambda c, x: c.purge(x)),
    "dead_letters": ("agent_id", lambda c, x: c.dead_letters(x)),
    "replay": ("agent_id", lambda c, x: c.replay_dead_letters(x)),
    "replay, to": ("to", lambda c, x: c.replay_dead_letters(WORKER, to=x)),
    "purge_dead_letters": ("agent_id", lambda c, x: c.purge_dead_letters(x)),
    "message, sender": ("sender", lambda _, x: AgentMessage(x, WORKER)),
    "message, recipient": ("recipient", lambda _, x: AgentMessage(SENDER, x)),
    "message, reply_to": ("reply_to", lambda _, x: AgentMessage(SENDER, WORKER, reply_to=x)),
}  # fmt: skip
NO_AGENT_IS_ALLOWED = {"recover_pending", "replay, to", "message, reply_to"}


@pytest.mark.parametrize("where", AGENTS)
def test_what_is_no_agent_is_refused(nowhere: RedisMessageCoordinator, where: str) -> None:
    name, call = AGENTS[where]
    for value in NO_AGENT:
        if value is not None or where not in NO_AGENT_IS_ALLOWED:
            assert name in refused(lambda value=value: call(nowhere, value))


TEXTS: dict[str, tuple[str, Call]] = {
    "ack": ("token", lambda c, x: c.ack(WORKER, x)),
    "ack_many": ("tokens", lambda c, x: c.ack_many(WORKER, [TOKEN, x])),
    "nack": ("token", lambda c, x: c.nack(WORKER, x)),
    "nack, error": ("error", lambda c, x: c.nack(WORKER, TOKEN, error=x)),
    "extend": ("token", lambda c, x: c.extend(WORKER, x, 1)),
    "release": ("token", lambda c, x: c.release(WORKER, x)),
    "replay": ("message_ids", lambda c, x: c.replay_dead_letters(WORKER, message_ids=[x])),
    "purge": ("message_ids", lambda c, x: c.purge_dead_letters(WORKER, message_ids=[x])),
    "key_prefix": ("key_prefix", lambda _, x: RedisMessageCoordinator(redis.Redis(), x)),
    "message_id": ("message_id", lambda _, x: AgentMessage(SENDER, WORKER, message_id=x)),
}


@pytest.mark.parametrize("where", TEXTS)
def test_what_is_no_text_is_refused(nowhere: RedisMessageCoordinator, where: str) -> None:
    name, call = TEXTS[where]
    for value in NO_TEXT:
        if value is not None or where != "nack, error":
            assert name in refused(lambda value=value: call(nowhere, value))


def test_one_text_where_many_are_asked_for_is_refused(nowhere: RedisMessageCoordinator) -> None:
    for value in (TOKEN, b"bytes", None, 1):
        assert "tokens" in refused(lambda value=value: nowhere.ack_many(WORKER, value))
    for value in ("message-id", b"bytes", 1):
        assert "message_ids" in refused(
            lambda value=value: nowhere.replay_dead_letters(WORKER, message_ids=value)
        )
        assert "message_ids" in refused(
            lambda value=value: nowhere.purge_dead_letters(WORKER, message_ids=value)
        )


@pytest.mark.parametrize("failure", [None, "", "fatal", "TRANSIENT", 1, True, [], object()])
def test_an_unknown_failure_is_refused(nowhere: RedisMessageCoordinator, failure: Any) -> None:
    assert "failure" in refused(lambda: nowhere.nack(WORKER, TOKEN, failure))


@pytest.mark.parametrize("thing", [None, "message", {"payload": {}}, b"bytes", AgentMessage])
def test_what_is_no_message_is_refused(nowhere: RedisMessageCoordinator, thing: Any) -> None:
    assert "message" in refused(lambda: nowhere.send_message(SENDER, WORKER, thing))
    assert "message" in refused(lambda: nowhere.send_many(SENDER, [message(), thing]))
    assert "message" in refused(lambda: nowhere.broadcast_message(SENDER, thing, [WORKER]))
    assert "message" in refused(lambda: nowhere.publish(SENDER, thing))
    assert "subscription" in refused(lambda: nowhere.unsubscribe(thing))


def test_a_wrong_option_leaves_all_options_as_they_were(
    coordinator: RedisMessageCoordinator,
) -> None:
    coordinator.configure(queue_size=1)
    refused(lambda: coordinator.configure(queue_size=5, retry_attempts=-1))
    send(coordinator, 0)
    assert not coordinator.send_message(SENDER, WORKER, message(1)).delivered


def test_an_unknown_option_is_refused(nowhere: RedisMessageCoordinator) -> None:
    with redis.Redis() as client:
        for make in (nowhere.configure, lambda **o: RedisMessageCoordinator(client, **o)):
            assert "que_size" in refused(lambda make=make: make(que_size=5))


@pytest.mark.parametrize(
    "prefix", ["", "a b", "a{b}", "*", "a?", "[ab]", "é", "a\n", "\0", "x" * 129]
)
def test_a_prefix_that_disturbs_keys_is_refused(prefix: str) -> None:
    with redis.Redis() as client:
        assert "key_prefix" in refused(lambda: RedisMessageCoordinator(client, prefix))


@pytest.mark.parametrize("name", ["", "a b", "a\n", "-", "x" * 129, "\ud800", "\0", 1, b"x"])
def test_a_consumer_name_is_printable(name: Any) -> None:
    with redis.Redis() as client:
        assert "consumer_name" in refused(
            lambda: RedisMessageCoordinator(client, consumer_name=name)
        )


@pytest.mark.parametrize("target", [None, "redis://localhost", 1, redis.asyncio.Redis(), object()])
def test_what_is_no_synchronous_client_is_refused(target: Any) -> None:
    assert "redis" in refused(lambda: RedisMessageCoordinator(target))


# Messages -------------------------------------------------------------------------------------


class _NoOffset(tzinfo):
    def utcoffset(self, _moment: datetime | None) -> None:
        return None


WRONG_FIELDS: list[tuple[str, Any]] = [
    *[("payload", x) for x in (None, "{}", b"{}", 1, [], [("a", 1)], {1}, object())],
    *[("priority", x) for x in (0, 2, 10, -1, True, False, "5", "NORMAL", None, 5.0, 1.0, [])],
    *[("message_type", x) for x in ("", "EVENT", "gossip", None, 1, b"event", [])],
    *[("routing", x) for x in (None, "topic", ("topic",), {})],
    *[
        ("message_id", x)
        for x in ("", "five5", "with space", "tab\tbed", "new\nline", "nul\0nul", "x" * 129)
    ],
    *[("message_id", x) for x in ("no-break\u00a0space", "\ud800" * 6, "\u200b" * 6, "\x7f" * 6)],
    *[("timestamp", x) for x in (None, 0, "2024-01-01", datetime(2024, 1, 1))],
    ("timestamp", datetime(2024, 1, 1, tzinfo=_NoOffset())),
    ("timestamp", datetime(1, 1, 1, 4, 59, 59, tzinfo=EAST)),
    ("timestamp", datetime(9999, 12, 31, 19, tzinfo=WEST)),
    *[("correlation_id", x) for x in (1, b"x", [])],
    *[("headers", x) for x in (None, [], "a", {1: "a"}, {"a": 1}, {"a": None}, {None: "a"})],
]


@pytest.mark.parametrize(("field", "value"), WRONG_FIELDS)
def test_a_field_that_is_wrong_is_refused_by_its_name(field: str, value: Any) -> None:
    text = refused(lambda: AgentMessage(SENDER, WORKER, **{field: value}))
    assert field.removesuffix("s") in text


@pytest.mark.parametrize(("topic", "tags"), [(1, ()), (b"x", ()), (None, "tag"), (None, [1])])
def test_a_routing_that_is_wrong_is_refused(topic: Any, tags: Any) -> None:
    refused(lambda: RoutingKey(topic, tags))


def circle() -> dict[str, Any]:
    inner: dict[str, Any] = {}
    inner["again"] = inner
    return inner


def nested(depth: int) -> dict[str, Any]:
    """A payload of so many objects and arrays in each other, itself included."""
    inner: Any = {}
    for level in range(depth - 1):
        inner = {"in": inner} if level % 2 or level == depth - 2 else [inner]
    return inner


NO_JSON: dict[str, Any] = {
    "NaN": {"x": math.nan},
    "infinity": {"x": [1, {"y": math.inf}]},
    "bytes": {"x": b"bytes"},
    "set": {"x": {1}},
    "object": {"x": object()},
    "datetime": {"x": datetime.now(UTC)},
    "key of a number": {1: "x"},
    "key of None": {None: "x"},
    "key of True": {"x": {True: "x"}},
    "key of a float": {"x": [{"y": ({1.5: "x"},)}]},
    "key of bytes": {"x": {b"y": "x"}},
    "key of a tuple": {"x": {("y", "z"): "x"}},
    "a circle": {"x": circle()},
    "a number of 5000 digits": {"x": 10**5000},
    "too deep": nested(501),
    "much too deep": nested(100_000),
}


@pytest.mark.parametrize("what", NO_JSON)
def test_a_payload_that_is_no_json_is_refused(nowhere: RedisMessageCoordinator, what: str) -> None:
    bad = AgentMessage(SENDER, WORKER, NO_JSON[what])
    for call in (
        lambda: nowhere.send_message(SENDER, WORKER, bad),
        lambda: nowhere.send_many(SENDER, [message(), bad]),
        lambda: nowhere.broadcast_message(SENDER, bad, [WORKER]),
        lambda: nowhere.broadcast_message(SENDER, bad, []),
        lambda: nowhere.publish(SENDER, bad),
    ):
        assert "payload" in refused(call)


def test_a_payload_changed_after_the_message_was_made_is_checked_when_it_is_sent(
    nowhere: RedisMessageCoordinator,
) -> None:
    sent = message()
    sent.payload["x"] = math.nan
    assert "payload" in refused(lambda: nowhere.send_message(SENDER, WORKER, sent))


def test_a_message_over_the_limit_is_refused_and_says_both_numbers(
    nowhere: RedisMessageCoordinator,
) -> None:
    big = AgentMessage(SENDER, WORKER, {"x": "x" * 1024 * 1024})
    with pytest.raises(MessageTooLargeError, match=r"10\d{5} bytes.* 1048576") as caught:
        nowhere.send_message(SENDER, WORKER, big)
    assert isinstance(caught.value, ValueError)
    for call in (
        lambda: nowhere.broadcast_message(SENDER, big, []),
        lambda: nowhere.publish(SENDER, big),
    ):
        with pytest.raises(MessageTooLargeError):
            call()


def test_a_message_that_fits_all_who_get_it_is_not_refused_for_its_own_recipients_name(
    coordinator: RedisMessageCoordinator,
) -> None:
    long = AgentId("x" * 128, "y" * 128)
    sent = AgentMessage(SENDER, long, {"x": "x" * 100})
    coordinator.configure(max_message_bytes=64)
    with pytest.raises(MessageTooLargeError) as caught:
        coordinator.send_message(SENDER, long, sent)
    size = int(str(caught.value).split(" has ")[1].split()[0])
    coordinator.configure(max_message_bytes=size - 1)
    coordinator.subscribe_to_messages(WORKER, [sent.message_type])

    assert [result.delivered for result in coordinator.publish(SENDER, sent)] == [True]
    assert coordinator.broadcast_message(SENDER, sent, []) == []


def test_the_limit_is_exact(coordinator: RedisMessageCoordinator) -> None:
    empty = AgentMessage(SENDER, WORKER, {"x": ""}, message_id="the-same")
    coordinator.configure(max_message_bytes=64)
    with pytest.raises(MessageTooLargeError) as caught:
        coordinator.send_message(SENDER, WORKER, empty)
    size = int(str(caught.value).split(" has ")[1].split()[0])
    coordinator.configure(max_message_bytes=2000)
    for text in ("x" * (2000 - size), "é" * ((2000 - size) // 2) + "x" * (size % 2)):
        fits = attrs.evolve(empty, payload={"x": text})
        coordinator.send_message(SENDER, WORKER, fits)
        assert take(coordinator).message == fits
        coordinator.purge(WORKER)
        over = attrs.evolve(empty, payload={"x": text + "x"})
        with pytest.raises(MessageTooLargeError, match="2001 bytes"):
            coordinator.send_message(SENDER, WORKER, over)


# Odd, but good --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 1, 5, tzinfo=EAST),
        datetime(1, 1, 1, tzinfo=WEST),
        datetime.max.replace(tzinfo=EAST),
        datetime(9999, 12, 31, 18, 59, 59, 999_999, tzinfo=WEST),
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ],
    ids=str,
)
def test_the_first_and_the_last_moments_of_utc_arrive(
    coordinator: RedisMessageCoordinator, moment: datetime
) -> None:
    send(coordinator, 1, timestamp=moment)
    assert take(coordinator).message.timestamp == moment


ODD_PAYLOADS: dict[str, dict[str, Any]] = {
    "empty": {},
    "empty keys": {"": {"": [""]}},
    "nul": {"\0": "a\0b\0"},
    "quotes": {"'\"": "\\\"'`${}%s%n"},
    "newlines": {"\n": "\r\n\t\x1b\x7f\u2028\u2029"},
    "unicode": {"žluťoučký": "😀\u202e\ufeff中文"},
    "lone surrogates": {"\ud800": ["\udfff", "a\udc80b"]},
    "large numbers": {"n": [2**53, 2**64 + 1, -(2**200), 10**4000, 1e308, 5e-324, -0.0]},
    "what looks like numbers": {"n": ["1e400", "NaN", "00", "-0"]},
    "lua": {"x": "]] return redis.call('FLUSHALL') --[["},
    "long": {"x": "x" * 900_000},
    "wide": {str(n): [n] for n in range(5000)},
    "deep": nested(500),
    "separators": {"x": '1 2 3 + - : {tag} \\x00 ,":[]'},
}


def test_an_odd_payload_arrives_as_it_was_sent(coordinator: RedisMessageCoordinator) -> None:
    for what, payload in ODD_PAYLOADS.items():
        coordinator.send_message(SENDER, WORKER, AgentMessage(SENDER, WORKER, payload))
        received = take(coordinator)
        assert repr(received.message.payload) == repr(payload), what
        coordinator.nack(WORKER, received.token, FAILED, "odd")
        [letter] = coordinator.dead_letters(WORKER)
        assert letter.queue_message is not None
        assert letter.queue_message.message == received.message, what
        coordinator.purge_dead_letters(WORKER)


def test_a_tuple_arrives_as_a_list(coordinator: RedisMessageCoordinator) -> None:
    coordinator.send_message(SENDER, WORKER, AgentMessage(SENDER, WORKER, {"x": (1, (2,))}))
    assert take(coordinator).message.payload == {"x": [1, [2]]}


ODD_IDS = [
    "123456", "0" * 128, "é" * 128, "😀" * 6, "a:b:c:d", ":::::::", "''\"\"``", "{tag}{}", "%s%n%d",
    "-------", "*?[a-z]", "../../etc", "<script>", "\\x00\\n", "$(true)", "+inf-inf", "1e1000000",
    "nil-true", "KEYS[1]", "٣٣٣٣٣٣", "ﬀﬁﬂﬃﬄﬅ", "ÿþýüûú",
]  # fmt: skip


def test_odd_ids_go_the_whole_way(coordinator: RedisMessageCoordinator) -> None:
    coordinator.configure(backoff_base=0)
    sent = [message(n, message_id=name) for n, name in enumerate(ODD_IDS)]
    assert all(result.delivered for result in coordinator.send_many(SENDER, sent))
    assert all(result.duplicate for result in coordinator.send_many(SENDER, sent))
    first = coordinator.receive_many(WORKER, 100, LONG)
    assert [each.message.message_id for each in first] == ODD_IDS
    for each in first:
        assert coordinator.extend(WORKER, each.token, LONG)
        assert coordinator.nack(WORKER, each.token)
    second = coordinator.receive_many(WORKER, 100, LONG)
    for each in second:
        assert coordinator.release(WORKER, each.token)
    third = coordinator.receive_many(WORKER, 100, LONG)
    for each in third:
        assert coordinator.nack(WORKER, each.token, FAILED)
    assert [letter.message_id for letter in coordinator.dead_letters(WORKER)] == ODD_IDS
    assert coordinator.replay_dead_letters(WORKER, message_ids=ODD_IDS) == len(ODD_IDS)
    last = coordinator.receive_many(WORKER, 100, LONG)
    assert all(coordinator.ack_many(WORKER, [each.token for each in last]))
    assert coordinator.stats(WORKER).leased == 0


@pytest.mark.parametrize("priority", [1, 5, 9])
def test_a_priority_may_be_its_number(coordinator: RedisMessageCoordinator, priority: Any) -> None:
    coordinator.send_message(SENDER, WORKER, message(priority=priority))
    assert take(coordinator).queue_message.priority == priority


def test_ids_that_nothing_has_are_not_found(coordinator: RedisMessageCoordinator) -> None:
    names = ["no-such-message", "", " ", "\ud800", "\udc80", "x" * 10_000, "\0"]
    assert coordinator.purge_dead_letters(WORKER, message_ids=names) == 0
    assert coordinator.replay_dead_letters(WORKER, message_ids=names) == 0
    assert coordinator.replay_dead_letters(WORKER, message_ids=names, to=ONE) == 0
    assert drain(coordinator) == []
