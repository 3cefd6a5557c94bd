"""The commands of the console script on real servers."""

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.integration.given import INBOX, OPERATOR, OTHER, Ran, Run, bury, send
from tta_agent_coordination import (
    AgentMessage,
    MessagePriority,
    MessageType,
    RedisMessageCoordinator,
    RoutingKey,
)
from tta_agent_coordination.cli import main, options
from tta_agent_coordination.policy import DEFAULT_QUEUE_SIZE
from tta_agent_coordination.server_process import free_port

pytestmark = pytest.mark.backend("valkey")

SCRIPT = Path(sysconfig.get_path("scripts"), "tta-coordination")


# inbox ----------------------------------------------------------------------------------------


def test_an_inbox_that_was_never_used_is_empty(run: Run) -> None:
    assert run("inbox", "analyst") == Ran(
        0,
        "inbox         analyst\n"
        "ready         0 (0 HIGH, 0 NORMAL, 0 LOW)\n"
        "delayed       0\n"
        "leased        0\n"
        "dead          0\n"
        "oldest ready  -\n",
        "",
    )


def test_an_inbox_is_counted(run: Run, coordinator: RedisMessageCoordinator) -> None:
    coordinator.configure(dead_letter_limit=1)
    bury(coordinator, "dead-1", "dead-2")
    send(coordinator, "urgent-1", priority=MessagePriority.HIGH)
    send(coordinator, "normal-1")

    text, document = run("inbox", "analyst").out, run("inbox", "analyst", "--json").document

    assert "ready         2 (1 HIGH, 1 NORMAL, 0 LOW)" in text
    assert "dead          1 (1 older ones were dropped)" in text
    assert document.pop("oldest_ready_age") >= 0
    assert document == {
        "inbox": "analyst",
        "ready": {"high": 1, "normal": 1, "low": 0},
        "delayed": 0,
        "leased": 0,
        "dead": 1,
        "dead_dropped": 1,
    }


def test_every_inbox_that_is_used_is_counted(
    run: Run, coordinator: RedisMessageCoordinator
) -> None:
    prefix = coordinator.internals.prefix
    nothing = f"no inbox was used of late under the prefix {prefix}\n"
    assert run("inbox") == Ran(0, nothing, "")
    send(coordinator, "one-more")
    coordinator.send_message(OPERATOR, OTHER, AgentMessage(OPERATOR, OTHER), delay=60.0)

    head, *rows = run("inbox").out.splitlines()
    assert head.split() == ["inbox", "ready", "delayed", "leased", "dead", "oldest", "ready"]
    assert [row.split()[:5] for row in rows] == [
        ["analyst", "1", "0", "0", "0"],
        ["analyst:2", "0", "1", "0", "0"],
    ]
    shown = run("inbox", "--json").document["inboxes"]
    assert [(one["inbox"], one["delayed"]) for one in shown] == [("analyst", 0), ("analyst:2", 1)]


# recover --------------------------------------------------------------------------------------


def test_expired_leases_are_recovered_of_one_inbox_or_of_all(
    run: Run, coordinator: RedisMessageCoordinator
) -> None:
    send(coordinator, "lease-1")
    send(coordinator, "lease-2")

    assert len(coordinator.receive_many(INBOX, 2, 0.0)) == 2
    assert run("recover", "analyst:2").out == "analyst:2: 0 leases had expired\n"
    assert run("recover", "analyst", "--json").document == {"inbox": "analyst", "expired": 2}

    assert coordinator.receive(INBOX, 0.0)
    assert run("recover").out == "all inboxes: 1 lease had expired\n"
    assert run("recover", "--json").document == {"inbox": None, "expired": 0}


@pytest.mark.parametrize(("attempts", "dead"), [((), 1), (("--retry-attempts", "4"), 0)])
def test_recovery_gives_up_after_as_many_attempts_as_it_is_told(
    run: Run, coordinator: RedisMessageCoordinator, attempts: tuple[str, ...], dead: int
) -> None:
    coordinator.configure(retry_attempts=4)
    send(coordinator, "lease-1")
    for _ in range(4):
        assert coordinator.receive(INBOX, 0.0)

    run("recover", *attempts)

    assert coordinator.stats(INBOX).dead == dead


# send -----------------------------------------------------------------------------------------


def test_a_message_is_sent_as_asked(run: Run, coordinator: RedisMessageCoordinator) -> None:
    options = ("--type", "request", "--priority", "high", "--topic", "files", "--id", "my-own-id")

    sent = run("send", "operator", "analyst", '{"path": "é"}', *options)

    assert sent == Ran(0, "my-own-id sent to analyst\n", "")
    received = coordinator.receive(INBOX)
    assert received is not None
    message = received.message
    assert (message.sender, message.payload) == (OPERATOR, {"path": "é"})
    assert (message.message_type, message.priority) == (MessageType.REQUEST, MessagePriority.HIGH)
    assert message.routing == RoutingKey("files")


def test_a_message_can_be_sent_for_later_and_is_sent_once(
    run: Run, coordinator: RedisMessageCoordinator
) -> None:
    command = ("send", "operator", "analyst", "{}", "--delay", "60", "--id", "my-own-id")

    first, again = run(*command, "--json"), run(*command)

    assert first.document == {
        "recipient": "analyst",
        "message_id": "my-own-id",
        "delivered": True,
        "error": None,
        "duplicate": False,
        "replicas": None,
    }
    assert again == Ran(0, "my-own-id sent to analyst, which had it before\n", "")
    assert coordinator.stats(INBOX).delayed == 1


def test_a_full_inbox_gives_status_1(run: Run, coordinator: RedisMessageCoordinator) -> None:
    messages = [AgentMessage(OPERATOR, INBOX) for _ in range(DEFAULT_QUEUE_SIZE)]
    assert all(result.delivered for result in coordinator.send_many(OPERATOR, messages))

    refused = run("send", "operator", "analyst", "{}", "--json")

    assert (refused.status, refused.err) == (1, "tta-coordination: analyst: queue full\n")
    assert refused.document["delivered"] is False
    assert run("send", "operator", "analyst", "{}").out == ""


# Errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["agents"],
        ["inbox", "a"],
        ["dead", "list", "a"],
        ["dead", "show", "a"],
        ["dead", "replay", "a"],
        ["dead", "purge", "a"],
        ["recover"],
        ["send", "a", "b", "{}"],
    ],
    ids=" ".join,
)
def test_a_server_that_refuses_ends_every_command_with_one_line_and_status_2(
    command: list[str], run: Run, url: str
) -> None:
    ran = run(*command, "--json", "--url", url.replace("//", "//user:secret@"))

    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("tta-coordination: Redis refuses ")
    assert ran.err.count("\n") == 1
    assert "secret" not in ran.err


def test_an_unreachable_server_ends_a_command_with_one_line_and_status_2(run: Run) -> None:
    ran = run("inbox", "a", "--url", f"redis://user:secret@127.0.0.1:{free_port()}")

    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("tta-coordination: Redis could not be reached within ")
    assert ran.err.count("\n") == 1
    assert "secret" not in ran.err


def test_without_an_address_it_is_the_usual_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(options.URL_VARIABLE, raising=False)
    monkeypatch.setattr(options, "DEFAULT_URL", "nowhere://")
    assert main(["inbox", "a"]) == 2
    assert "not 'nowhere'" in capsys.readouterr().err


def test_a_reader_that_leaves_ends_a_command_quietly(url: str, key_prefix: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [SCRIPT, "inbox", "a", "--url", url, "--prefix", key_prefix]

    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=20, check=False)
    os.close(writing)

    assert (ended.returncode, ended.stderr) == (2, b"")
