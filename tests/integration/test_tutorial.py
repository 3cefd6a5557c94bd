"""The files of the tutorial do what its page says, in processes as a reader starts them."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest

from tests.support.waiting import eventually
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    RedisAgentRegistry,
    RedisMessageCoordinator,
)

TUTORIAL = Path(__file__).parents[2] / "examples" / "tutorial"
PATIENCE = 60.0
"""Seconds that each step may take at most; it is taken as soon as what it waits for is there."""
YOU, EDITOR, COUNTER = AgentId("you"), AgentId("editor"), AgentId("counter")

Terminal = Callable[..., "Program"]


class Program:
    """A file of the tutorial that runs until it is ended; what it writes is in a file."""

    def __init__(self, written: IO[bytes], url: str, *command: str, cwd: Path) -> None:
        self._written = Path(written.name)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(TUTORIAL / command[0]), *command[1:]],
            cwd=cwd,
            env={**os.environ, "TTA_COORDINATION_URL": url},
            stdin=subprocess.PIPE,
            stdout=written,
            stderr=subprocess.STDOUT,
        )

    @property
    def text(self) -> str:
        return self._written.read_text("utf-8")

    def says(self, words: str) -> None:
        """Wait until it has written these words."""
        eventually(lambda: words in self.text, timeout=PATIENCE, what=f"no {words!r}")

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """Start programs in the reader's folder; whoever is left at the end of the test is killed."""
    with ExitStack() as opened:

        def start(url: str, *command: str) -> Program:
            name = "-".join(command).replace("/", "-")
            written = opened.enter_context((tmp_path / f"{name}.log").open("wb"))
            program = Program(written, url, *command, cwd=tmp_path)
            opened.callback(program.kill)
            return program

        yield start


@pytest.fixture
def url(terminal: Terminal) -> str:
    server = terminal("", "server.py", "0")
    server.says("Enter stops")
    return server.text.splitlines()[0].partition("=")[2]


@pytest.fixture
def coordinator(url: str) -> Iterator[RedisMessageCoordinator]:
    with RedisMessageCoordinator.from_url(url) as coordinator:
        yield coordinator


def written_by(terminal: Terminal, url: str, *command: str, until: str) -> str:
    """Run a program until what it writes begins with something; return that."""
    written: list[str] = []

    def begins_so() -> bool:
        program = terminal(url, *command)
        program.process.wait(PATIENCE)
        written.append(program.text.strip())
        return written[-1].startswith(until)

    eventually(begins_so, timeout=PATIENCE, what=f"{command} never wrote {until!r}")
    return written[-1]


def send(coordinator: RedisMessageCoordinator, whom: AgentId, **payload: object) -> None:
    coordinator.send_message(YOU, whom, AgentMessage(YOU, whom, payload))


def test_the_first_message_is_handed_out_again_and_only_the_new_token_counts(
    terminal: Terminal,
) -> None:
    lines = written_by(terminal, "", "first.py", until="MessageResult").splitlines()

    assert [line.partition(":")[0] for line in lines[1:3]] == ["now", "later"]
    assert int(lines[2].rpartition(" ")[2]) >= 2  # 3 if the machine stood still for a second
    assert lines[3:] == ["LeaseOutcome.STALE", "LeaseOutcome.DONE"]


def test_three_agents_talk_and_what_fails_is_tried_again_or_kept(
    terminal: Terminal, url: str, coordinator: RedisMessageCoordinator, tmp_path: Path
) -> None:
    # given the agents of the tutorial, and a file
    terminal(url, "staff.py", "1")
    editor = terminal(url, "editor.py")
    with RedisAgentRegistry.from_url(url) as registry:
        eventually(lambda: len(registry.list_registered()) == 3, timeout=PATIENCE)
    (tmp_path / "ship.txt").write_text("Ship arrives early. It brought tea and rice.")

    # then they answer together, and the one with a headline is found
    # (on a machine that stands still for seconds, heartbeats are late, and the editor finds nobody)
    question = ("ask.py", "editor", '{"path": "ship.txt"}')
    answered = written_by(terminal, url, *question, until="{")
    found = {"words": 8, "by": "counter:1", "headline": "Ship arrives early"}
    assert ast.literal_eval(answered) == found
    assert written_by(terminal, url, "who.py", until="headliner:1 alive")

    # when a file comes late, then the retry finds it
    send(coordinator, EDITOR, path="late.txt")
    editor.says("attempt 1")
    (tmp_path / "late.txt").write_text("Better late than never.")

    def is_summarized() -> bool:
        coordinator.replay_dead_letters(EDITOR)  # there is one if heartbeats were late for long
        return "late.txt: 'Better late than never', 4 words" in editor.text

    eventually(is_summarized, timeout=PATIENCE)

    # when a message is hopeless, then it is a dead letter, and can be replayed
    send(coordinator, EDITOR, file="ship.txt")
    eventually(
        lambda: "permanent" in [letter.reason for letter in coordinator.dead_letters(EDITOR)],
        timeout=PATIENCE,
    )
    assert coordinator.replay_dead_letters(EDITOR) >= 1


def test_what_a_killed_process_had_in_hand_goes_to_another(
    terminal: Terminal, url: str, coordinator: RedisMessageCoordinator
) -> None:
    first = terminal(url, "staff.py", "1")
    send(coordinator, COUNTER, text="to be or not to be", seconds=3_600)
    first.says("counts, attempt 1")

    first.kill()

    second = terminal(url, "staff.py", "2")
    second.says(f"counter:2 in process {second.process.pid} counts, attempt 2")
