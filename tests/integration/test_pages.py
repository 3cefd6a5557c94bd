"""Sessions that the pages show: typed for real, they print what is shown."""

import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import OwnServers
from tests.support.code_blocks import Block, block, blocks, is_shown_by
from tests.support.servers import LocalServer
from tests.support.waiting import eventually
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    FailureType,
    RedisMessageCoordinator,
    RemoteAgentError,
)
from tta_agent_coordination.cli import main
from tta_agent_coordination.cli.options import URL_VARIABLE

TWO_AGENTS = Path(__file__).parents[2] / "examples" / "two_agents.py"
PATIENCE = 30.0
PLANNER, ANALYST = AgentId("planner"), AgentId("analyst")
COUNTER, EDITOR = AgentId("counter"), AgentId("editor")

Type = Callable[[str], str]


@pytest.fixture
def server(own_server: OwnServers) -> LocalServer:
    return own_server()


@pytest.fixture
def type_(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Type:
    """Type a command; return what it prints, errors included."""
    monkeypatch.setenv(URL_VARIABLE, server.url)

    def type_(line: str) -> str:
        first, *words = shlex.split(line)
        assert first == "tta-coordination"
        main(words)
        return "".join(capsys.readouterr())

    return type_


@pytest.fixture
def coordinator(server: LocalServer) -> Iterator[RedisMessageCoordinator]:
    with RedisMessageCoordinator.from_url(server.url, consumer_name="host-a:4711") as coordinator:
        yield coordinator


def test_the_two_agents_are_served_and_looked_at_as_the_readme_shows(
    server: LocalServer, coordinator: RedisMessageCoordinator, type_: Type
) -> None:
    session = block("README.md: $ tta-coordination agents --once").session
    speech = {"text": "to be or not to be that is the question"}
    command = [sys.executable, "-W", "error", TWO_AGENTS, server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as agents:
        assert agents.stdout is not None
        try:
            assert agents.stdout.readline() == "counter and editor are served until Ctrl-C\n"
            eventually(lambda: type_("tta-coordination agents --once").count("alive") == 2)

            for typed, shown in session:
                if "dead list" in typed:
                    eventually(lambda: coordinator.dead_letters(COUNTER), timeout=PATIENCE)
                printed = type_(typed)
                assert is_shown_by(shown, printed), printed

            # and the editor rejects at once what the counter rejects
            with pytest.raises(RemoteAgentError, match="counter failed") as failed:
                coordinator.request(PLANNER, EDITOR, speech, timeout=PATIENCE)
            assert failed.value.attempts == 1
        finally:
            agents.send_signal(signal.SIGINT)
        rest = agents.stdout.read()
        assert agents.wait(PATIENCE) == 0
    assert "Traceback" not in rest
    assert type_("tta-coordination agents --once").count("alive") == 0


def of_inboxes(page: str) -> Iterator[Block]:
    """The sessions of a page with an inbox, an agent that died and a message in hand."""
    mine = ("inbox analyst\n", "inbox\n", "dead ", "recover\n", "send ")
    for one in blocks():
        if one.page == page and one.text.startswith(tuple(f"$ tta-coordination {w}" for w in mine)):
            yield one


def test_the_commands_of_an_inbox_print_what_their_page_shows(
    coordinator: RedisMessageCoordinator, type_: Type
) -> None:
    for number in (0, 2, 1):
        letter = {"file": f"letter-{number}.txt"}
        message = AgentMessage(PLANNER, ANALYST, letter, message_id=f"request-{number}")
        coordinator.send_message(PLANNER, ANALYST, message)
        received = coordinator.receive(ANALYST)
        assert received is not None
        error = "RejectMessage: not Python: invalid syntax (line 1)"
        coordinator.nack(ANALYST, received.token, FailureType.PERMANENT, error)
    coordinator.send_message(PLANNER, ANALYST, AgentMessage(PLANNER, ANALYST))
    assert coordinator.receive(ANALYST, 600.0) is not None

    sessions = list(of_inboxes("docs/cli.md"))
    assert len(sessions) == 8
    for typed, shown in [step for one in sessions for step in one.session]:
        printed = type_(typed)
        assert is_shown_by(shown, printed), printed
