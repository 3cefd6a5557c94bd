"""What somebody else wrote under our prefix never stops an inbox."""

import json
import logging
from collections.abc import Callable

import pytest

from tests.contract.conftest import Later, Make, Raw
from tests.contract.given import (
    FAILED,
    LONG,
    ONE,
    SENDER,
    WORKER,
    drain,
    message,
    numbers,
    send,
    take,
)
from tests.support.backends import Backend
from tests.support.servers import Client
from tta_agent_coordination import LeaseOutcome, RedisMessageCoordinator
from tta_agent_coordination.coordinator import inbox
from tta_agent_coordination.keys import INBOX_KEYS, Keys
from tta_agent_coordination.proxy import Command, FaultProxy

pytestmark = pytest.mark.guarantee("2.11")

HEAD = b"1700000000000000 0 0123456789abcdef "


@pytest.fixture
def spoil(client: Client, key_prefix: str) -> Callable[[str, bytes], None]:
    """Overwrite what is stored of a message."""

    def spoil(message_id: str, stored: bytes) -> None:
        client.hset(Keys(key_prefix).inbox(WORKER)["messages"], message_id, stored)

    return spoil


@pytest.fixture
def errors(client: Client, key_prefix: str) -> Callable[[], list[str]]:
    """The records of dead letters, for what a `DeadLetter` without a message does not show."""

    def errors() -> list[str]:
        records = client.hgetall(Keys(key_prefix).inbox(WORKER)["dead_records"]).values()
        return [record.decode("utf-8", "replace") for record in records]

    return errors


def body(**changes: object) -> bytes:
    fields = {"v": 1, "id": "123456", "from": "a", "to": "b", "payload": {}, **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


BODIES = {
    "nothing": (b"", ""),
    "no JSON": (b"{", "JSON"),
    "no UTF-8": (b'{"id":"\xff"}', "JSON"),
    "no object": (b"[]", "object"),
    "a number": (b"1", "object"),
    "null": (b"null", "object"),
    "no fields": (b"{}", "$"),
    "no sender": (body(**{"from": ...}), "sender"),
    "a payload that is no object": (body(payload=[]), "payload"),
    "a bad sender": (body(**{"from": "a b"}), "from"),
    "a sender that is no text": (body(**{"from": 5}), "from"),
    "a bad priority": (body(priority=2), "priority"),
    "a bad type": (body(type="gossip"), "type"),
    "a bad time": (body(at="today"), "at"),
    "a time of no year": (body(at=10**30), "at"),
    "a bad id": (body(id="x"), "id"),
    "bad headers": (body(headers={"a": 1}), "header"),
    "a bad time to live": (body(ttl=-1), "ttl"),
    "deep nesting": (b'{"payload":' + b"[" * 100_000, "JSON"),
}


def test_what_does_not_decode_dies_and_those_behind_it_are_delivered(
    coordinator: RedisMessageCoordinator,
    spoil: Callable[..., None],
    errors: Callable[[], list[str]],
) -> None:
    for what, (stored, hint) in BODIES.items():
        results = send(coordinator, 0, 1, 2)
        spoil(results[0].message_id, HEAD + stored)

        assert drain(coordinator) == [1, 2], what

        [letter] = coordinator.dead_letters(WORKER)
        assert letter.reason == "undecodable"
        assert letter.queue_message is None
        assert letter.raw == stored
        assert letter.message_id == results[0].message_id
        [error] = errors()
        assert hint in error, what
        coordinator.purge(WORKER)
        coordinator.purge_dead_letters(WORKER)


def test_a_receive_in_steps_looks_past_what_does_not_decode(
    coordinator: RedisMessageCoordinator, spoil: Callable[..., None]
) -> None:
    [spoiled, good] = send(coordinator, 0, 1)
    spoil(spoiled.message_id, b"garbage")

    found = coordinator.internals.steps.receiving(WORKER, 1, 5.0, wait=0.0).step()

    assert [received.message.message_id for received in found or ()] == [good.message_id]


NO_RECORDS = [b"", b"garbage", b"\0\xff", b"1 2 3"]
# No time: the year 10000, more than a float holds, and more digits than Python takes for a number.
NO_RECORDS += [
    digits + b" 0 x " + body() for digits in (b"253402300800000000", b"9" * 400, b"9" * 5000)
]


@pytest.mark.parametrize("most", [6, 9])
def test_what_does_not_decode_makes_no_receive_in_steps_stop_short(
    coordinator: RedisMessageCoordinator,
    spoil: Callable[[str, bytes], None],
    monkeypatch: pytest.MonkeyPatch,
    most: int,
) -> None:
    monkeypatch.setattr(inbox, "MOST_A_CLAIM", 3)
    sent = send(coordinator, *range(9))
    for bad in (1, 5):
        spoil(sent[bad].message_id, b"garbage")

    received = coordinator.receive_many(WORKER, most, LONG)

    assert numbers(received) == [0, 2, 3, 4, 6, 7, 8][:most]
    assert coordinator.stats(WORKER).dead == 2


def test_what_is_no_record_at_all_dies_with_its_bytes(
    coordinator: RedisMessageCoordinator, spoil: Callable[..., None]
) -> None:
    for stored in NO_RECORDS:
        results = send(coordinator, 0, 1)
        spoil(results[0].message_id, stored)
        assert drain(coordinator) == [1]
        [letter] = coordinator.dead_letters(WORKER)
        assert (letter.reason, letter.queue_message, letter.raw) == ("undecodable", None, stored)
        coordinator.purge(WORKER)
        coordinator.purge_dead_letters(WORKER)


def test_many_bad_ones_in_a_batch_do_not_stop_it(
    coordinator: RedisMessageCoordinator, spoil: Callable[..., None]
) -> None:
    results = send(coordinator, *range(40))
    for result in results[:39:2]:
        spoil(result.message_id, b"garbage")
    assert drain(coordinator) == [*range(1, 39, 2), 39]
    assert coordinator.stats(WORKER).dead == 20


def test_an_inbox_of_nothing_but_bad_ones_is_empty(
    coordinator: RedisMessageCoordinator, spoil: Callable[..., None]
) -> None:
    for result in send(coordinator, *range(20)):
        spoil(result.message_id, b"garbage")
    assert coordinator.receive(WORKER) is None
    assert coordinator.receive(WORKER, wait=0.05) is None
    stats = coordinator.stats(WORKER)
    assert (stats.dead, stats.leased) == (20, 0)


def test_a_bad_one_can_be_dropped_but_replay_only_shows_it_again(
    coordinator: RedisMessageCoordinator, spoil: Callable[..., None]
) -> None:
    [result] = send(coordinator, 0)
    spoil(result.message_id, b"garbage")
    assert coordinator.receive(WORKER) is None
    assert coordinator.replay_dead_letters(WORKER) == 1
    assert coordinator.receive(WORKER) is None
    assert [letter.raw for letter in coordinator.dead_letters(WORKER)] == [b"garbage"]
    assert coordinator.replay_dead_letters(WORKER, to=ONE) == 0, "it is no message to send"
    assert coordinator.purge_dead_letters(WORKER) == 1


def test_what_a_newer_version_added_is_ignored(
    coordinator: RedisMessageCoordinator, spoil: Callable[..., None]
) -> None:
    [result] = send(coordinator, 0)
    newer = body(v=2, id=result.message_id, payload={"n": 5}, mood="good", more={"x": [1]})
    spoil(result.message_id, HEAD + newer)
    assert drain(coordinator) == [5]


@pytest.mark.backend("valkey")
def test_a_bad_one_that_cannot_be_put_away_now_holds_nobody_up(
    backend: Backend,
    proxy: FaultProxy,
    key_prefix: str,
    spoil: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with RedisMessageCoordinator(
        backend.client_through(proxy), key_prefix, call_timeout=0.5
    ) as coordinator:
        results = send(coordinator, 0, 1)
        spoil(results[0].message_id, b"garbage")
        proxy.lose_request(puts_away, times=1000)
        with caplog.at_level(logging.WARNING, logger="tta_agent_coordination"):
            assert drain(coordinator) == [1]
        assert "could not be put away" in caplog.text
        stats = coordinator.stats(WORKER)
        assert (stats.leased, stats.dead) == (2, 0), "it is tried again when its lease has passed"


def puts_away(command: Command) -> bool:
    return b"undecodable" in command.args


# Garbage anywhere -----------------------------------------------------------------------------

STATES = [
    b"",
    b"garbage",
    b"1 2 3",
    b"x 1 - - 0123456789abcdef l -",
    b"10000000000000000 1 - - 0123456789abcdef l -",
    b"1 x - - 0123456789abcdef l -",
    b"1 1 - - 0123456789abcdef l *",
]


@pytest.mark.parametrize("state", [*STATES, None])
def test_a_delayed_message_without_its_state_has_normal_priority_and_was_never_tried(
    coordinator: RedisMessageCoordinator,
    client: Client,
    key_prefix: str,
    later: Later,
    state: bytes | None,
) -> None:
    sent = message(1, priority=9)
    coordinator.send_message(SENDER, WORKER, sent, delay=5)
    states = Keys(key_prefix).inbox(WORKER)["states"]
    if state is None:
        client.hdel(states, sent.message_id)
    else:
        client.hset(states, sent.message_id, state)
    later(6)

    coordinator.recover_pending(WORKER)

    assert coordinator.stats(WORKER).ready == {9: 0, 5: 1, 1: 0}
    received = take(coordinator)
    assert received.queue_message.delivery_attempts == 1
    assert coordinator.ack(WORKER, received.token) is LeaseOutcome.DONE


@pytest.mark.parametrize("attempts", [1, 4])
def test_nothing_stays_of_a_message_whose_record_is_gone_when_its_lease_ends(
    coordinator: RedisMessageCoordinator,
    client: Client,
    key_prefix: str,
    later: Later,
    raw: Raw,
    attempts: int,
) -> None:
    [lost, _] = send(coordinator, 1, 2)
    for _ in range(attempts):
        later(LONG + 1)
        assert len(coordinator.receive_many(WORKER, 2, LONG)) == 2
    client.hdel(Keys(key_prefix).inbox(WORKER)["messages"], lost.message_id)
    later(LONG + 1)

    coordinator.recover_pending(WORKER)

    assert not list(raw().faults())


@pytest.mark.parametrize("state", STATES)
def test_a_message_whose_state_was_spoiled_goes_back_before_others_of_normal_priority(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str, state: bytes
) -> None:
    first = message(1, priority=1)
    coordinator.send_message(SENDER, WORKER, first)
    coordinator.release(WORKER, take(coordinator).token)
    client.hset(Keys(key_prefix).inbox(WORKER)["states"], first.message_id, state)
    received = take(coordinator)
    send(coordinator, 2)

    assert coordinator.release(WORKER, received.token) is LeaseOutcome.DONE

    assert coordinator.stats(WORKER).ready == {9: 0, 5: 2, 1: 0}
    assert [take(coordinator).message.payload["n"] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize(
    ("field", "spoiled"),
    [
        ("messages", None),
        ("states", None),
        ("states", b"garbage"),
        ("states", b"1 1 - - 0123456789abcdef l -"),
        ("states", b"1 1 - - 5555555555555555 n -"),
    ],
)
def test_a_claim_that_is_repeated_leaves_out_what_lost_its_record_or_its_state(
    coordinator: RedisMessageCoordinator,
    client: Client,
    key_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    field: str,
    spoiled: bytes | None,
) -> None:
    monkeypatch.setattr(inbox, "new_call_id", lambda: "5" * 16)
    [lost, _] = send(coordinator, 1, 2)
    assert drain(coordinator) == [1, 2]
    key = Keys(key_prefix).inbox(WORKER)[field]
    if spoiled is None:
        client.hdel(key, lost.message_id)
    else:
        client.hset(key, lost.message_id, spoiled)

    assert drain(coordinator) == [2]


GARBAGE = {
    "empty": b"",
    "bytes": b"\xff\0garbage\n",
    "words": b"1 2 3 4 5 6 7 8 9",
    "huge numbers": b" ".join([b"9" * 400] * 6),
    "almost a state": b"1407374883553281 1 - - - l +",
}
SPOILABLE = [name for name in INBOX_KEYS if name not in {"seq", "dead_dropped"}]


def lived_in(make: Make, later: Later) -> RedisMessageCoordinator:
    """A coordinator with an inbox that holds something under every key."""
    coordinator = make(dead_letter_limit=2, retry_attempts=1)
    send(coordinator, *range(8))
    taken = coordinator.receive_many(WORKER, 6, 10)
    coordinator.ack(WORKER, taken[0].token)
    for received in taken[1:3]:
        coordinator.nack(WORKER, received.token, FAILED, "gone")
    coordinator.nack(WORKER, taken[3].token, delay=5)
    later(8)
    coordinator.receive_many(WORKER, 1, 100)
    return coordinator


def works(coordinator: RedisMessageCoordinator) -> None:
    """Everything can still be asked, and a new message goes through."""
    coordinator.recover_pending(WORKER)
    coordinator.recover_pending()
    coordinator.stats(WORKER)
    coordinator.dead_letters(WORKER)
    coordinator.replay_dead_letters(WORKER, limit=1)
    seen: list[int] = []
    sent = message(99)
    assert coordinator.send_message(SENDER, WORKER, sent).delivered
    assert coordinator.send_message(SENDER, WORKER, sent).duplicate
    for _ in range(30):
        for received in coordinator.receive_many(WORKER, 3, LONG):
            seen.append(received.message.payload["n"])
            coordinator.extend(WORKER, received.token, LONG)
            coordinator.nack(WORKER, received.token, delay=0)
    assert 99 in seen
    coordinator.purge_dead_letters(WORKER)
    coordinator.purge(WORKER)
    send(coordinator, 100)
    received = take(coordinator)
    assert received.message.payload == {"n": 100}
    assert coordinator.ack(WORKER, received.token) is LeaseOutcome.DONE


@pytest.mark.parametrize("garbage", GARBAGE)
def test_no_spoiled_field_or_member_stops_the_inbox(
    make: Make, later: Later, client: Client, key_prefix: str, garbage: str
) -> None:
    spoiled = 0
    names = Keys(key_prefix).inbox(WORKER)
    for name in SPOILABLE:
        key = names[name]
        coordinator = lived_in(make, later)
        if client.type(key) == b"hash":
            for field in client.hkeys(key):
                client.hset(key, field, GARBAGE[garbage])
                spoiled += 1
        elif client.type(key) == b"zset":
            for member, score in client.zrange(key, 0, -1, withscores=True):
                client.zrem(key, member)
                client.zadd(key, {GARBAGE[garbage]: score})
                spoiled += 1
        for due in (names["leased"], names["delayed"]):
            for member in client.zrange(due, 0, -1):
                client.zadd(due, {member: 0})
        works(coordinator)
    assert spoiled >= 10
