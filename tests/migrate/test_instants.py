"""What the scripts of the migration do, to the microsecond: the clock stands still."""

from typing import Any

import pytest

from tests.migrate.old import OldInbox
from tests.support.raw_inbox import look, places_of
from tests.support.servers import Client
from tests.support.stopped_clock import START, Clock
from tta_agent_coordination import AgentId, RedisMessageCoordinator
from tta_agent_coordination.coordinator.calls import HORIZON
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.migrate.moves import COPY, GONE, HELD, MOVED, TAKEN
from tta_agent_coordination.transport import scripts
from tta_agent_coordination.transport.scripts import Script

pytestmark = pytest.mark.backend("fakeredis")

WORKER = AgentId("worker")
RETENTION, LIFETIME = 60_000, 3_600_000
"""Milliseconds."""


class Bare:
    """The scripts, on the keys of one inbox here and there; each method runs one."""

    def __init__(self, client: Client, prefix: str, old: OldInbox) -> None:
        self.client, self.old, self.prefix, self._calls = client, old, prefix, 0
        keys = Keys(prefix)
        self.names = {
            "old_high": old.scheduled[9],
            "old_normal": old.scheduled[5],
            "old_low": old.scheduled[1],
            "old_reserved": old.taken,
            "old_deadlines": old.deadlines,
            "old_dlq": old.dlq,
            "old_list": old.queue,
            "migrated": keys.migrated(WORKER),
            **keys.inbox(WORKER),
        }

    def move(self, *entries: tuple[Any, ...], final: int = 0, call: str = "") -> list[int]:
        return self._run(scripts.MIGRATE, call, HORIZON, RETENTION, LIFETIME, final, entries)

    def walk(self, steps: int, *entries: tuple[Any, ...], call: str = "") -> list[int]:
        return self._run(scripts.MIGRATE_LIST, call, HORIZON, RETENTION, LIFETIME, steps, entries)

    def back(self, *entries: tuple[Any, ...]) -> list[int]:
        return self._run(scripts.MIGRATE_BACK, "", RETENTION, entries)

    def hash(self, name: str) -> dict[str, str]:
        found = self.client.hgetall(self.names[name])
        return {field.decode(): value.decode() for field, value in found.items()}

    def zset(self, name: str) -> dict[str, int]:
        found = self.client.zrange(self.names[name], 0, -1, withscores=True)
        return {member.decode(): int(score) for member, score in found}

    @property
    def is_awake(self) -> bool:
        return bool(self.client.exists(self.names["wake"]))

    def _run(self, script: Script, call: str, *rest: Any) -> list[int]:
        *options, entries = rest
        self._calls += 1
        keys = [self.names[name] for name in script.keys]
        words = [call or f"call-{self._calls}", *options]
        words += [word for entry in entries for word in entry]
        reply = self.client.eval(script.source, len(keys), *keys, *words)
        return [int(answer) for answer in reply.split()]


@pytest.fixture
def bare(client: Client, key_prefix: str, old: OldInbox, clock: Clock) -> Bare:
    assert clock.now == START
    return Bare(client, key_prefix, old)


def entry(
    kind: str,
    member: str,
    name: str = "message-1",
    *,
    priority: int = 5,
    due: int = 0,
    attempts: int = 0,
    stored: int = 7,
    error: str = "-",
    digest: str = "digest",
) -> tuple[Any, ...]:
    """What the scripts take for one message."""
    return kind, member, name, digest, priority, due, attempts, stored, error, "body"


def schedule(bare: Bare, *members: str, priority: int = 5) -> None:
    bare.client.zadd(bare.old.scheduled[priority], dict.fromkeys(members, 1))


@pytest.mark.parametrize(("kind", "priority"), [("high", 9), ("normal", 5), ("low", 1)])
def test_what_is_ready_is_stored_once_and_taken_from_there(
    bare: Bare, kind: str, priority: int
) -> None:
    schedule(bare, "raw", priority=priority)
    one = entry(kind, "raw", priority=priority)

    assert bare.move(one, one, entry("normal", "other", "message-2")) == [MOVED, GONE, GONE]

    assert bare.hash("messages") == {"message-1": "7 0 - body"}
    assert bare.zset("ready") == {"message-1": (9 - priority) * 2**48 + 1}
    assert bare.hash("states") == {}, "a message that is ready and new has none"
    assert bare.hash("migrated") == {"message-1": "digest"}
    assert bare.client.pttl(bare.names["migrated"]) == LIFETIME
    assert not bare.client.exists(bare.old.scheduled[priority])
    assert bare.is_awake


@pytest.mark.parametrize(
    ("due", "place", "awake"),
    [(0, "ready", True), (1, "delayed", True), (HORIZON - 1, "delayed", True),
     (HORIZON, "delayed", False)],
)  # fmt: skip
def test_what_is_due_later_is_delayed_and_told_to_who_waits_if_it_is_soon(
    bare: Bare, due: int, place: str, awake: bool
) -> None:
    schedule(bare, "raw")
    assert bare.move(entry("normal", "raw", due=START + due)) == [MOVED]
    assert places_of(look(bare.client, bare.prefix, WORKER), "message-1") == [place]
    assert bare.is_awake == awake
    if due:
        assert bare.zset("delayed") == {"message-1": START + due}
    assert ("message-1" in bare.hash("states")) == bool(due)


@pytest.mark.parametrize(("attempts", "error"), [(1, "-"), (0, "+no"), (2, "+no")])
def test_what_was_tried_keeps_its_attempts_and_its_error(
    bare: Bare, attempts: int, error: str
) -> None:
    schedule(bare, "raw")
    bare.move(entry("normal", "raw", attempts=attempts, error=error))
    assert bare.hash("states") == {"message-1": f"{4 * 2**48 + 1} {attempts} - - - r {error}"}


@pytest.mark.parametrize(("stored", "since"), [(0, START), (1, 1), (START, START), (START + 1, 0)])
def test_what_is_of_no_time_or_of_the_future_came_now(bare: Bare, stored: int, since: int) -> None:
    schedule(bare, "raw")
    bare.move(entry("normal", "raw", stored=stored))
    assert bare.hash("messages") == {"message-1": f"{since or START} 0 - body"}


def test_one_that_was_taken_before_is_a_copy(bare: Bare) -> None:
    schedule(bare, "raw", "again", "changed")
    first = entry("normal", "raw")
    assert bare.move(first, call="first") == [MOVED]
    assert bare.move(first, call="first") == [MOVED], "a repeated call"
    assert bare.move(entry("normal", "again")) == [COPY]
    assert bare.move(entry("normal", "changed", digest="other")) == [TAKEN]
    assert bare.zset("old_normal") == {"changed": 1}


def is_unfinished(bare: Bare, _: Clock) -> None:
    bare.client.hset(bare.names["messages"], "message-1", "1 0 - body")


def was_finished(bare: Bare, clock: Clock) -> None:
    bare.client.hset(bare.names["marks"], "message-1", f"{clock.now + 1} - a nonce")


def is_dead(bare: Bare, _: Clock) -> None:
    bare.client.hset(bare.names["dead_records"], "message-1", "any")


@pytest.mark.parametrize("before", [is_unfinished, was_finished, is_dead])
def test_an_inbox_that_has_one_of_its_id_takes_no_other(
    bare: Bare, clock: Clock, before: Any
) -> None:
    schedule(bare, "raw")
    bare.old.reserve(b"raw", "token", 1, audit=False)
    bare.old.audit(b"raw")
    before(bare, clock)
    assert bare.move(entry("normal", "raw"), entry("reserved", "token")) == [TAKEN, TAKEN]
    assert bare.walk(1, entry("ready", "raw")) == [TAKEN]
    assert bare.client.exists(bare.old.scheduled[5], bare.old.taken, bare.old.queue) == 3
    assert not bare.is_awake


def test_one_that_was_finished_a_window_ago_is_no_hindrance(bare: Bare, clock: Clock) -> None:
    schedule(bare, "raw")
    was_finished(bare, clock)
    clock.now += 1
    assert bare.move(entry("normal", "raw")) == [MOVED]


@pytest.mark.parametrize(
    ("deadline", "final", "answer"),
    [(START, 0, MOVED), (START + 1, 0, HELD), (None, 0, HELD), (START + 1, 1, MOVED),
     (None, 1, MOVED)],
)  # fmt: skip
def test_what_somebody_holds_is_left_to_them_until_the_end(
    bare: Bare, deadline: int | None, final: int, answer: int
) -> None:
    bare.old.reserve(b"raw", "token", deadline, audit=False)
    held = entry("reserved", "token")
    assert bare.move(held, entry("reserved", "other", "message-2"), final=final) == [answer, GONE]
    left = bare.client.exists(bare.old.taken)
    assert left == (answer == HELD)
    assert bare.client.exists(bare.old.deadlines) == (left if deadline else 0)


def test_a_walk_takes_what_is_wanted_and_keeps_the_order_of_the_rest(bare: Bare) -> None:
    for raw in (b"one", b"two", b"copy", b"three", b"two", b"four"):
        bare.old.audit(raw)
    bare.client.hset(bare.names["migrated"], "message-3", "digest")
    wanted = (
        entry("ready", "two", "message-2"),
        entry("copy", "copy", "message-3"),
        entry("copy", "three", "message-4"),
        entry("ready", "four", "message-5"),
    )

    assert bare.walk(5, *wanted, call="first") == [MOVED, COPY, HELD, GONE]
    assert bare.walk(5, *wanted, call="first") == [MOVED, COPY, HELD, GONE], "a repeated call"

    assert bare.client.lrange(bare.old.queue, 0, -1) == [b"four", b"one", b"three"]
    assert bare.zset("ready") == {"message-2": 4 * 2**48 + 1}
    assert bare.walk(9, entry("ready", "four", "message-5")) == [MOVED]


def test_dead_letters_keep_their_order_a_microsecond_apart(
    bare: Bare, coordinator: RedisMessageCoordinator
) -> None:
    bare.client.rpush(bare.old.dlq, "one", "two")
    bare.names["old_list"] = bare.old.dlq
    dead = [
        entry("dead", raw, f"message-{raw}", priority=9, attempts=3, error="+it broke")
        for raw in ("one", "two")
    ]
    assert bare.walk(2, *dead) == [MOVED, MOVED]
    assert bare.zset("dead") == {"message-one": START, "message-two": START + 1}
    assert bare.hash("dead_records") == {
        f"message-{raw}": f"permanent {START + place} 0 3 - 9 +it broke7 0 - body"
        for place, raw in enumerate(("one", "two"))
    }
    assert not bare.is_awake
    assert bare.client.exists(bare.names["messages"], bare.names["seq"]) == 0
    assert coordinator.stats(WORKER).dead == 2


# Back -----------------------------------------------------------------------------------------


def back(kind: str, name: str = "message-1", attempts: int = 0, due: int = 5) -> tuple[Any, ...]:
    """What the script takes for a message that is to go back."""
    return kind, name, attempts, due, f"old-{name}"


def hold(bare: Bare, place: str, attempts: int, score: int) -> None:
    """Have a message in the inbox."""
    bare.client.hset(bare.names["messages"], "message-1", "1 0 - body")
    bare.client.zadd(bare.names[place], {"message-1": score})
    bare.client.hset(bare.names["claims"], "nonce", "message-1")
    bare.client.hset(bare.names["states"], "message-1", f"{4 * 2**48 + 1} {attempts} - - nonce l -")


@pytest.mark.parametrize(
    ("place", "score"), [("ready", 1), ("delayed", START + 9), ("leased", START), ("leased", 1)]
)
@pytest.mark.parametrize(("kind", "priority"), [("high", 9), ("normal", 5), ("low", 1)])
def test_what_nobody_holds_goes_back_and_nothing_of_it_stays(
    bare: Bare, place: str, score: int, kind: str, priority: int
) -> None:
    hold(bare, place, 2, score)
    bare.client.hset(bare.names["migrated"], "message-1", "digest")
    bare.client.incr(bare.names["seq"])

    assert bare.back(back(kind, attempts=2), back(kind, "message-2")) == [MOVED, GONE]

    assert bare.client.zrange(bare.old.scheduled[priority], 0, -1, withscores=True) == [
        (b"old-message-1", 5.0)
    ]
    assert bare.client.lrange(bare.old.queue, 0, -1) == [b"old-message-1"]
    assert look(bare.client, bare.prefix, WORKER).keys == {"marks"}
    assert bare.hash("migrated") == {}


@pytest.mark.parametrize(
    ("place", "attempts", "score"), [("leased", 0, START + 1), ("ready", 1, 1), ("delayed", 1, 1)]
)
def test_what_is_in_somebodys_hands_or_was_since_stays(
    bare: Bare, place: str, attempts: int, score: int
) -> None:
    hold(bare, place, attempts, score)
    assert bare.back(back("normal")) == [GONE]
    assert places_of(look(bare.client, bare.prefix, WORKER), "message-1") == [place]
    assert not bare.client.exists(*bare.old.message_keys)


def test_dead_letters_go_back_to_their_list(bare: Bare) -> None:
    bare.client.hset(bare.names["dead_records"], "message-1", "any")
    bare.client.zadd(bare.names["dead"], {"message-1": 1})
    assert bare.back(back("dead"), back("dead")) == [MOVED, GONE]
    assert bare.client.lrange(bare.old.dlq, 0, -1) == [b"old-message-1"]
    assert look(bare.client, bare.prefix, WORKER).keys == {"marks"}
