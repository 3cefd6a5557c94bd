"""Any mixture of what the old keys may hold, against a model of what must become of it."""

import secrets
from collections import Counter

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.migrate.migrator import as_migrator
from tests.migrate.old import SECOND, OldInbox, stored
from tests.support.backends import Backend
from tests.support.raw_inbox import look
from tests.support.time_machine import let_pass
from tta_agent_coordination import AgentId, RedisMessageCoordinator
from tta_agent_coordination.migrate import Migration

pytestmark = pytest.mark.backend("valkey")

WORKER = AgentId("worker")
AHEAD = 1000
"""Seconds until what is not due becomes due, and leases in force end."""

PLACES = ("due", "later", "passed", "leased", "dead", "audit")


@attrs.frozen
class Copy:
    """One copy of a message."""

    number: int
    place: str
    attempts: int
    position: int

    @property
    def message_id(self) -> str:
        return f"message-{self.number}"

    @property
    def priority(self) -> int:
        return (9, 5, 1)[self.number % 3]

    @property
    def raw(self) -> bytes:
        return stored(
            self.message_id,
            priority=self.priority,
            attempts=self.attempts,
            error=f"error {self.attempts}" if self.attempts else None,
            enqueued=1_600_000_000 + self.position,
        )


COPIES = st.lists(
    st.builds(
        Copy,
        st.integers(0, 8),
        st.sampled_from(PLACES),
        st.integers(0, 2),
        st.integers(1, 40),
    ),
    max_size=24,
    unique_by=lambda copy: (copy.number, copy.place, copy.attempts),
)


def write(old: OldInbox, copies: list[Copy]) -> None:
    ahead = old.now() + AHEAD * SECOND
    for number, copy in enumerate(copies):
        if copy.place in ("due", "later"):
            due = copy.position + (ahead if copy.place == "later" else 0)
            old.schedule(copy.raw, priority=copy.priority, due=due)
        elif copy.place in ("passed", "leased"):
            due = ahead if copy.place == "leased" else copy.position
            old.reserve(copy.raw, f"token-{number}", due)
        elif copy.place == "dead":
            old.bury(copy.raw)
        else:
            old.audit(copy.raw)


def expected_place(places: set[str], *, final: bool) -> str:
    """Where the message with copies in these places goes; ``old`` if it is left."""
    if "due" in places or "later" in places:
        return "scheduled"
    if "dead" in places:
        return "dead"
    if "passed" in places or (final and places):
        return "ready"
    return "old"


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(copies=COPIES, runs=st.sampled_from([[False], [True], [False, True], [False, False]]))
def test_each_message_is_moved_once_and_nothing_is_lost(
    backend: Backend, key_prefix: str, copies: list[Copy], runs: list[bool]
) -> None:
    prefix = f"{key_prefix}-{secrets.token_hex(4)}"
    client = backend.client()
    old = OldInbox(client, f"{prefix}-old")
    write(old, copies)

    reports = []
    for final in runs:
        with Migration(as_migrator(client), f"{prefix}-old", prefix) as migration:
            reports.append(migration.run(final=final))

    ended = any(runs)
    by_id: dict[str, list[Copy]] = {}
    for copy in copies:
        by_id.setdefault(copy.message_id, []).append(copy)
    raw = look(client, prefix, WORKER)
    assert not list(raw.faults())
    waiting = raw.ready | raw.delayed
    for message_id, mine in by_id.items():
        place = expected_place({copy.place for copy in mine}, final=ended)
        assert (message_id in raw.dead) == (place == "dead")
        assert (message_id in waiting) == (place in ("ready", "scheduled"))
    assert waiting | raw.dead <= set(by_id)
    moved = Counter[str]()
    for report in reports:
        for inbox in report.inboxes:
            moved["all"] += inbox.moved
            assert not inbox.unreadable
    assert moved["all"] == len(waiting) + len(raw.dead)
    if ended:
        assert reports[-1].complete
        assert not client.exists(*old.message_keys)
    check_attempts(client, prefix, by_id)
    backend.delete_keys(f"{prefix}*")


def check_attempts(client: object, prefix: str, by_id: dict[str, list[Copy]]) -> None:
    """The newest copy counts, of those that are no mere copies in the audit list."""
    let_pass(client, prefix, WORKER, AHEAD + 10.0)
    with RedisMessageCoordinator(client, prefix, retry_attempts=10) as coordinator:
        received = coordinator.receive_many(WORKER, 100)
        letters = coordinator.dead_letters(WORKER)
    order = [one.message.priority for one in received]
    assert order == sorted(order, reverse=True)
    for one in received:
        copies = by_id[one.message.message_id]
        counted = [copy for copy in copies if copy.place != "audit"] or copies
        most = max(copy.attempts for copy in counted)
        assert one.queue_message.delivery_attempts == most + 1
        assert one.queue_message.last_error == (f"error {most}" if most else None)
    for letter in letters:
        assert letter.queue_message is not None
        counted = [copy for copy in by_id[letter.message_id] if copy.place != "audit"]
        assert letter.queue_message.delivery_attempts == max(copy.attempts for copy in counted)
