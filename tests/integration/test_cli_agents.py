"""The command that shows agents, on real servers."""

import os
import pty
import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.given import OTHER, Ran, Run
from tests.support.waiting import eventually
from tta_agent_coordination import AgentCapability, AgentId, AgentLoad, Liveness, RedisAgentRegistry

pytestmark = pytest.mark.backend("valkey")

SCRIPT = Path(sysconfig.get_path("scripts"), "tta-coordination")


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
    registry.internals.set_load_source(OTHER, lambda: AgentLoad(busy=1, threads=8, depth=3))
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
