"""The commands of the console script on real servers."""

import json
import os
import pty
import signal
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.support.backends import Backend
from tests.support.waiting import eventually
from tta_agent_coordination import (
    AgentCapability,
    AgentId,
    AgentLoad,
    AgentMessage,
    FailureType,
    Liveness,
    MessagePriority,
    MessageType,
    RedisAgentRegistry,
    RedisMessageCoordinator,
    RoutingKey,
)
from tta_agent_coordination.cli import main, options
from tta_agent_coordination.policy import DEFAULT_QUEUE_SIZE
from tta_agent_coordination.server_process import free_port

pytestmark = pytest.mark.backend("valkey")

SCRIPT = Path(sysconfig.get_path("scripts"), "tta-coordination")
OPERATOR, INBOX, OTHER = AgentId("operator"), AgentId("analyst"), AgentId("analyst", "2")


@attrs.frozen
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def url(backend: Backend) -> str:
    assert backend.url is not None
    return backend.url.replace(
        "redis://", "redis+cluster://" if backend.name == "cluster" else "redis://"
    )


@pytest.fixture
def run(
    url: str,
    key_prefix: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Run a command in this process; the address comes from the environment."""
    monkeypatch.setenv(options.URL_VARIABLE, url)

    def run(*arguments: str) -> Ran:
        status = main([*arguments, "--prefix", key_prefix])
        return Ran(status, *capsys.readouterr())

    return run


@pytest.fixture
def coordinator(url: str, key_prefix: str) -> Iterator[RedisMessageCoordinator]:
    with RedisMessageCoordinator.from_url(url, key_prefix, consumer_name="tester") as coordinator:
        yield coordinator


def send(coordinator: RedisMessageCoordinator, message_id: str, **fields: Any) -> None:
    message = AgentMessage(OPERATOR, INBOX, {"path": "a.py"}, message_id=message_id, **fields)
    assert coordinator.send_message(OPERATOR, INBOX, message).delivered


def bury(
    coordinator: RedisMessageCoordinator, *message_ids: str, error: str | None = "no Python"
) -> None:
    """Make dead letters, one after the other."""
    for message_id in message_ids:
        send(coordinator, message_id)
        received = coordinator.receive(INBOX)
        assert received is not None
        assert coordinator.nack(INBOX, received.token, FailureType.PERMANENT, error)


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
        "tta-coordination: 1 of 2 message ids: not found, or there is no room for them\n",
    )


def test_dead_letters_are_purged(run: Run, coordinator: RedisMessageCoordinator) -> None:
    bury(coordinator, "dead-1", "dead-2", "dead-3")

    named = run("dead", "purge", "analyst", "--id", "dead-2", "--id", "dead-9")
    rest = run("dead", "purge", "analyst", "--json")

    assert named == Ran(
        1,
        "1 dead letter of analyst dropped\n",
        "tta-coordination: 1 of 2 message ids: not found\n",
    )
    assert (rest.status, rest.document) == (0, {"inbox": "analyst", "purged": 2})
    assert coordinator.stats(INBOX).dead == 0


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


# agents ---------------------------------------------------------------------------------------


class Someone:
    """The least that can be registered, with a few things to show."""

    def __init__(self, agent_id: AgentId, name: str) -> None:
        self.agent_id = agent_id
        self.name = name

    def get_capabilities(self) -> tuple[AgentCapability, ...]:
        return (AgentCapability("parse", "1.2.0"),) if self.name == "Anna" else ()


@pytest.fixture
def registry(url: str, key_prefix: str) -> Iterator[RedisAgentRegistry]:
    with RedisAgentRegistry.from_url(url, key_prefix) as registry:
        yield registry


@pytest.fixture
def dying(url: str, key_prefix: str) -> Iterator[RedisAgentRegistry]:
    """A registry whose agents die at once, and are remembered."""
    with RedisAgentRegistry.from_url(
        url, key_prefix, heartbeat_ttl_s=0.02, grace_s=600
    ) as registry:
        yield registry


@pytest.mark.backend("valkey", "cluster")
def test_agents_are_shown(run: Run, registry: RedisAgentRegistry) -> None:
    registry.register(Someone(OTHER, "Anna"))
    registry.set_load_source(OTHER, lambda: AgentLoad(busy=1, threads=8, depth=3))
    registry.heartbeat(OTHER)

    head, line = run("agents").out.splitlines()
    [agent] = run("agents", "--json").document["agents"]

    assert head.split() == [
        "id", "name", "liveness", "status", "busy", "inbox", "last", "beat", "process",
        "capabilities",
    ]  # fmt: skip
    cells = line.split()
    assert cells[:6] == ["analyst:2", "Anna", "alive", "running", "1/8", "3"]
    assert cells[7] == "s"
    assert cells[-2:] == ["parse", "1.2.0"]
    assert 0 <= agent.pop("last_beat_age") < 60
    assert agent["agent_id"] == "analyst:2"
    assert agent["liveness"] == "alive"
    assert agent["load"] == {"busy": 1, "threads": 8, "depth": 3}
    assert [one["name"] for one in agent["capabilities"]] == ["parse"]
    assert agent["process"].endswith(f":{os.getpid()}")


def test_dead_agents_are_shown_until_they_are_forgotten(
    run: Run, dying: RedisAgentRegistry
) -> None:
    dying.register(Someone(OTHER, "Bob"))
    eventually(lambda: dying.get(OTHER).liveness is Liveness.DEAD)

    cells = run("agents").out.splitlines()[1].split()

    assert cells[:6] == ["analyst:2", "Bob", "dead", "running", "-", "0"]
    assert cells[-1] == "-"
    assert dying.get(OTHER) is not None


def test_that_there_are_no_agents_is_said(run: Run) -> None:
    shown = "no agents are registered; a worker registers its agents when it is given a registry"
    assert run("agents", "--once") == Ran(0, f"{shown}\n", "")
    assert run("agents", "--json").document == {"agents": []}


class OnTerminal:
    """A command on a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        environ = {**os.environ, "TERM": "xterm", "COLUMNS": "200", "LINES": "20"}
        self.process = subprocess.Popen(
            [SCRIPT, *arguments], stdout=slave, stderr=subprocess.PIPE, env=environ, text=True
        )
        os.close(slave)
        self.text = ""

    def read_until(self, wanted: str) -> None:
        while wanted not in self.text:
            self.text += self._more() or pytest.fail(f"it ended with {self.text!r}")

    def end(self) -> tuple[int, str]:
        """Wait for its end; return its status and what it said on standard error."""
        while more := self._more():
            self.text += more
        os.close(self._master)
        _, err = self.process.communicate(timeout=20)
        return self.process.returncode, err

    def _more(self) -> str:
        with suppress(OSError):  # the other end is closed
            return os.read(self._master, 4096).decode()
        return ""


def test_on_a_terminal_agents_are_shown_again_and_again_until_ctrl_c(
    url: str, key_prefix: str, registry: RedisAgentRegistry
) -> None:
    registry.register(Someone(OTHER, "Anna"))
    command = OnTerminal("agents", "--url", url, "--prefix", key_prefix)
    command.read_until("Anna")

    registry.register(Someone(AgentId("analyst", "3"), "Bob"))
    command.read_until("Bob")
    command.process.send_signal(signal.SIGINT)

    assert command.end() == (0, "")
    assert "\x1b[2A\r\x1b[J" in command.text


def test_on_a_terminal_agents_can_be_shown_once(
    url: str, key_prefix: str, registry: RedisAgentRegistry
) -> None:
    registry.register(Someone(OTHER, "Anna"))
    command = OnTerminal("agents", "--once", "--url", url, "--prefix", key_prefix)

    assert command.end() == (0, "")
    assert command.text.count("\n") == 2
    assert "\x1b" not in command.text


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
