"""The tutorial goes as its page says: each step is taken, and prints what is shown."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest

from tests.support.code_blocks import block, blocks, commands_in, is_shown_by
from tests.support.waiting import eventually
from tta_agent_coordination.cli import main
from tta_agent_coordination.cli.options import URL_VARIABLE

PAGE = "docs/tutorial.md"
TUTORIAL = Path(__file__).parents[2] / "examples" / "tutorial"
PATIENCE = 60.0
"""Seconds that each step may take at most; it is taken as soon as what it waits for is there."""
SERVE = {"server.py", "staff.py", "editor.py"}
"""Programs that run until they are ended."""

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


class Reader:
    """Takes the steps of the page, and compares what is shown with what is to be seen."""

    def __init__(self, terminal: Terminal, folder: Path, capsys: pytest.CaptureFixture[str]):
        self._terminal = terminal
        self._folder = folder
        self._capsys = capsys
        self._programs: dict[str, Program] = {}
        self._url = ""

    def takes(self, typed: str, shown: list[str]) -> None:
        """Type a command until it shows the same."""
        ((first, *words),) = commands_in(typed)
        if first == "echo":
            (self._folder / typed.rpartition(" > ")[2]).write_text(f"{words[0]}\n", "utf-8")
        elif first == "kill":
            # The terminal said as much of an earlier request: is this one in its hands?
            self._sees(["leased        1"], lambda: self._tell("inbox", "counter"))
            # The table of the page has what the last heartbeat said: one of four was busy.
            self._sees(["1/4"], lambda: "\n".join(self._tell("agents", "--once").split()))
            self._programs["staff.py 1"].kill()
        elif first == "tta-coordination":
            self._sees(shown, lambda: self._tell(*words))
        elif words[0] in SERVE or typed.endswith("&"):
            self._starts(*words)
            self.sees(shown)
        else:
            self._sees(shown, lambda: self._runs(*words))

    def sees(self, shown: list[str]) -> None:
        """Wait until one of the terminals shows these lines."""
        self._sees(shown, lambda: "\n".join(one.text for one in self._programs.values()))

    def ends(self) -> None:
        """Press Ctrl-C in each terminal but that of the server."""
        for name in ("staff.py 2", "editor.py"):
            process = self._programs[name].process
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0
        assert "alive" not in self._tell("agents", "--once")

    def _sees(self, shown: list[str], look: Callable[[], str]) -> None:
        lines = [line for line in shown if line != "…"]  # where the page leaves lines out
        eventually(lambda: is_shown_by(lines, look()), timeout=PATIENCE, what=f"no {lines}")

    def _starts(self, *words: str) -> None:
        is_server = words[0] == "server.py"
        program = self._terminal(self._url, *(["server.py", "0"] if is_server else words))
        self._programs[" ".join(words)] = program
        if is_server:  # at a free port, not at that of the page
            eventually(lambda: program.text.count("\n"), timeout=PATIENCE)
            self._url = os.environ[URL_VARIABLE] = program.text.splitlines()[0].partition("=")[2]

    def _runs(self, *words: str) -> str:
        program = self._terminal(self._url, *words)
        program.process.wait(PATIENCE)
        return program.text

    def _tell(self, *words: str) -> str:
        main(words)
        return self._capsys.readouterr().out


def test_the_first_message_is_handed_out_again_and_only_the_new_token_counts(
    terminal: Terminal,
) -> None:
    program = terminal("", "first.py")
    assert program.process.wait(PATIENCE) == 0

    lines = program.text.splitlines()
    again = lines.pop(2)

    shown = block(f"{PAGE}: $ python first.py").output
    assert is_shown_by([line for line in shown if not line.startswith("later")], program.text)
    assert again.startswith("later: {'text': 'to be or not to be'} ")
    assert int(again.rpartition(" ")[2]) >= 2  # 3 if the machine stood still for a second


def test_three_agents_talk_fail_and_die_as_the_page_shows(
    terminal: Terminal,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(URL_VARIABLE, "")
    reader = Reader(terminal, tmp_path, capsys)
    steps = [one for one in blocks() if one.page == PAGE and one.language == "console"]

    # The last look comes when the registry has forgotten the killed, after half a minute.
    for step in steps[1:-1]:
        if step.commands:
            for typed, shown in step.session:
                reader.takes(typed, shown)
        else:
            reader.sees(step.output)

    reader.ends()
