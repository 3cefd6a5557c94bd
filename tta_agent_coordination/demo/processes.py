"""The processes of the demo, as their parent holds them: start, hear, kill, end."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO, Any, Self, cast

import attrs

from tta_agent_coordination import AgentId
from tta_agent_coordination.demo.child import MARK
from tta_agent_coordination.demo.settings import DemoError, Settings

END_TIMEOUT = 10.0
"""Seconds that a process which was asked to end may take."""


@attrs.frozen
class Event:
    """What a process told.

    Attributes:
        agent_id: Which one.
        kind: What it did.
        facts: JSON values that go with it.
    """

    agent_id: AgentId
    kind: str
    facts: dict[str, Any]


def event_of(agent_id: AgentId, line: str) -> Event | None:
    """Return what a line tells; None when it is another line, or was cut short by a kill."""
    if line.startswith(MARK) and line.endswith("\n"):
        return Event(agent_id, **json.loads(line[len(MARK) :]))
    return None


class Child:
    """One process, and the thread that hears it."""

    def __init__(self, settings: Settings, heard: queue.SimpleQueue[Event]) -> None:
        """Start it; what it tells is put into `heard`."""
        self.agent_id = AgentId.parse(settings.me)
        self._heard = heard
        self._last_words = "it said nothing"
        # -P: nothing in the user's working directory is taken for a module. The session of its
        # own: Ctrl-C reaches the parent alone, which then ends the others.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tta_agent_coordination.demo.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._input = cast("IO[str]", self._process.stdin)
        self._ears = threading.Thread(
            target=self._hear,
            args=(cast("IO[str]", self._process.stdout),),
            name=f"demo-hears-{settings.me}",
            daemon=True,
        )
        self._ears.start()
        # One that ends at once is found out by `check`, not here.
        with suppress(BrokenPipeError):
            self._input.write(json.dumps(attrs.asdict(settings)) + "\n")
            self._input.flush()

    def ask_to_end(self) -> None:
        """Close its standard input, at which it ends when it has done what it has in hand."""
        with suppress(BrokenPipeError):
            self._input.close()

    def check(self) -> None:
        """Raise a `DemoError` when it has ended by an error."""
        status = self._process.poll()
        if status:
            self._ears.join()
            raise DemoError(f"{self.agent_id} ended with status {status}: {self._last_words}")

    def wait(self, timeout: float) -> None:
        """Wait until it has ended and all it told is heard.

        Raises:
            DemoError: It has not ended in `timeout` seconds, or by an error.
        """
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise DemoError(f"{self.agent_id} did not end within {timeout:g} s") from None
        self._ears.join()
        self.check()

    def kill(self) -> None:
        """End it with SIGKILL, if it has not ended, and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        self.ask_to_end()
        self._ears.join()

    def _hear(self, output: IO[str]) -> None:
        with output:
            for line in output:
                event = event_of(self.agent_id, line)
                if event is not None:
                    self._heard.put(event)
                else:
                    self._last_words = line.strip() or self._last_words


class Processes:
    """All processes of one run; none is left when the ``with`` block is."""

    def __init__(self, settings: Settings) -> None:
        """Start nothing yet; each process will get `settings`."""
        self.heard: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._settings = settings
        self._children: dict[AgentId, Child] = {}

    def start(self, agent_id: AgentId) -> int:
        """Start the process that is `agent_id`; return its process id."""
        settings = attrs.evolve(self._settings, me=str(agent_id))
        child = self._children[agent_id] = Child(settings, self.heard)
        return child.pid

    def runs(self, agent_id: AgentId) -> bool:
        """Whether there is a process that is `agent_id`."""
        return agent_id in self._children

    def kill(self, agent_id: AgentId) -> int:
        """End a process with SIGKILL; return what its id was."""
        child = self._children.pop(agent_id)
        child.kill()
        return child.pid

    def check(self) -> None:
        """Raise a `DemoError` when one has ended by an error."""
        for child in self._children.values():
            child.check()

    def end(self) -> None:
        """Ask all to end, and wait until they have.

        Raises:
            DemoError: One has not, within `END_TIMEOUT`, or by an error.
        """
        for child in self._children.values():
            child.ask_to_end()
        for child in self._children.values():
            child.wait(END_TIMEOUT)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Kill what is left."""
        for child in self._children.values():
            child.kill()
