"""The commands for dead letters, on real servers."""

import pytest

from tests.integration.given import INBOX, OTHER, Ran, Run, bury, send
from tests.support.backends import Backend
from tta_agent_coordination import (
    FailureType,
    MessagePriority,
    MessageType,
    RedisMessageCoordinator,
    RoutingKey,
)

pytestmark = pytest.mark.backend("valkey")

# dead list ------------------------------------------------------------------------------------


def test_dead_letters_are_listed_a_page_at_a_time(
    run: Run, coordinator: RedisMessageCoordinator
) -> None:
    bury(coordinator, "dead-1", "dead-2", error="x" * 100)
    bury(coordinator, "dead-3", error=None)

    head, first, *rest = run("dead", "list", "analyst").out.splitlines()
    page = run("dead", "list", "analyst", "--limit", "1", "--offset", "1").out.splitlines()

    assert head.split() == ["id", "reason", "died", "attempts", "last", "holder", "last", "error"]
    assert first.startswith("dead-1  permanent  20")
    assert first.endswith("1  tester       " + "x" * 59 + "…")
    assert rest[1].endswith("  -")
    assert len(rest) == 2
    assert page[1].startswith("dead-2")
    assert page[2:] == ["2 to 2 of 3"]


def test_no_dead_letters_are_no_error(run: Run, coordinator: RedisMessageCoordinator) -> None:
    assert run("dead", "list", "analyst").out == "0 dead letters in analyst\n"
    assert run("dead", "show", "analyst").out == "no dead letters in analyst\n"
    bury(coordinator, "dead-1")
    assert run("dead", "list", "analyst", "--offset", "1").out == "1 dead letter in analyst\n"


def test_dead_letters_are_listed_as_json(run: Run, coordinator: RedisMessageCoordinator) -> None:
    bury(coordinator, "dead-1", "dead-2")

    document = run("dead", "list", "analyst", "--limit", "1", "--json").document

    assert (document["inbox"], document["dead"]) == ("analyst", 2)
    [letter] = document["dead_letters"]
    assert letter["message_id"] == "dead-1"
    assert letter["reason"] == "permanent"
    assert letter["last_holder"] == "tester"
    assert letter["queue_message"]["delivery_attempts"] == 1
    assert letter["queue_message"]["last_error"] == "no Python"
    assert letter["queue_message"]["message"]["payload"] == {"path": "a.py"}


# dead show ------------------------------------------------------------------------------------


def test_a_dead_letter_is_shown_with_all_that_is_known(
    run: Run, coordinator: RedisMessageCoordinator
) -> None:
    send(
        coordinator,
        "dead-1",
        message_type=MessageType.REQUEST,
        priority=MessagePriority.HIGH,
        routing=RoutingKey("files", ("x", "y")),
        headers={"trace": "1"},
        reply_to=OTHER,
        correlation_id="c",
        ttl=300.0,
    )
    received = coordinator.receive(INBOX)
    assert received is not None
    coordinator.nack(INBOX, received.token, FailureType.PERMANENT, "line 1\nline 2\x1b")

    lines = run("dead", "show", "analyst", "--id", "dead-1").out.splitlines()

    for line in (
        "id           dead-1",
        "last holder  tester",
        "last error   line 1",
        r"             line 2\x1b",
        "attempts     1",
        "sender       operator",
        "recipient    analyst",
        "type         request",
        "priority     HIGH",
        "topic        files",
        "tags         x, y",
        "correlation  c",
        "reply to     analyst:2",
        "ttl          5 min",
        '               "trace": "1"',
        '               "path": "a.py"',
    ):
        assert line in lines


def test_all_dead_letters_can_be_shown(run: Run, coordinator: RedisMessageCoordinator) -> None:
    bury(coordinator, "dead-1", "dead-2", "dead-3", error=None)

    lines = run("dead", "show", "analyst", "--limit", "2", "--offset", "1").out.splitlines()
    blank = lines.index("")

    assert lines[0] == "id           dead-2"
    assert lines[blank + 1] == "id           dead-3"
    assert "last error   -" in lines
    assert "headers      -" in lines


def test_a_dead_letter_is_found_on_whatever_page(
    run: Run, coordinator: RedisMessageCoordinator
) -> None:
    bury(coordinator, *(f"dead-{number}" for number in range(120)))
    wanted = ("--id", "dead-110", "--id", "dead-5", "--id", "dead-5")

    document = run("dead", "show", "analyst", *wanted, "--json").document

    assert [one["message_id"] for one in document["dead_letters"]] == ["dead-5", "dead-110"]


def test_an_unknown_dead_letter_ends_with_one_line_and_status_1(
    run: Run, coordinator: RedisMessageCoordinator
) -> None:
    bury(coordinator, "dead-1")
    complaint = "tta-coordination: no dead letter of analyst has the id dead-2\n"

    shown = run("dead", "show", "analyst", "--id", "dead-1", "--id", "dead-2")
    as_json = run("dead", "show", "analyst", "--id", "dead-2", "--json")

    assert (shown.status, shown.err) == (1, complaint)
    assert "id           dead-1" in shown.out
    assert (as_json.status, as_json.err) == (1, complaint)
    assert as_json.document == {"inbox": "analyst", "dead_letters": []}


def test_what_does_not_decode_is_shown_as_it_is(
    run: Run, coordinator: RedisMessageCoordinator, backend: Backend, key_prefix: str
) -> None:
    send(coordinator, "broken-1")
    backend.client().hset(f"{key_prefix}:{{analyst}}:messages", "broken-1", b"\xff\x1b?")
    assert coordinator.receive(INBOX) is None

    row = run("dead", "list", "analyst").out.splitlines()[1]
    shown = run("dead", "show", "analyst").out
    [letter] = run("dead", "show", "analyst", "--json").document["dead_letters"]

    assert "undecodable" in row
    assert "-  tester       -" in row
    assert r"raw          \xff\x1b?" in shown
    assert letter["queue_message"] is None
    assert letter["raw"] == "/xs/"


# dead replay and purge ------------------------------------------------------------------------


def test_dead_letters_are_replayed(run: Run, coordinator: RedisMessageCoordinator) -> None:
    bury(coordinator, "dead-1", "dead-2", "dead-3", "dead-4")

    one = run("dead", "replay", "analyst", "--limit", "1")
    other = run("dead", "replay", "analyst", "--id", "dead-3", "--to", "analyst:2", "--json")
    rest = run("dead", "replay", "analyst")

    assert one == Ran(0, "1 dead letter replayed to analyst\n", "")
    assert other.document == {"inbox": "analyst", "to": "analyst:2", "replayed": 1}
    assert rest.out == "2 dead letters replayed to analyst\n"
    assert sum(coordinator.stats(INBOX).ready.values()) == 3
    assert sum(coordinator.stats(OTHER).ready.values()) == 1


def test_a_named_dead_letter_that_is_not_replayed_gives_status_1(
    run: Run, coordinator: RedisMessageCoordinator
) -> None:
    bury(coordinator, "dead-1")
    assert run("dead", "replay", "analyst", "--id", "dead-1", "--id", "dead-9") == Ran(
        1,
        "1 dead letter replayed to analyst\n",
        "tta-coordination: not replayed: 1 of 2 ids: analyst has no such dead letter, or there is "
        "no room for it in analyst\n",
    )
    assert run("dead", "replay", "analyst", "--id", "dead-9", "--to", "analyst:2") == Ran(
        1,
        "0 dead letters replayed to analyst:2\n",
        "tta-coordination: not replayed: dead-9: analyst has no such dead letter, or there is no "
        "room for it in analyst:2\n",
    )


def test_dead_letters_are_purged(run: Run, coordinator: RedisMessageCoordinator) -> None:
    bury(coordinator, "dead-1", "dead-2", "dead-3")

    named = run("dead", "purge", "analyst", "--id", "dead-2", "--id", "dead-9")
    rest = run("dead", "purge", "analyst", "--json")

    assert named == Ran(
        1,
        "1 dead letter of analyst dropped\n",
        "tta-coordination: not dropped: 1 of 2 ids: analyst has no such dead letter\n",
    )
    assert (rest.status, rest.document) == (0, {"inbox": "analyst", "purged": 2})
    assert coordinator.stats(INBOX).dead == 0
