"""What the parent process does: start the others, show the inboxes, kill one, end them all."""

from __future__ import annotations

import queue
import time
from typing import Any

import attrs

from tta_agent_coordination import (
    AgentId,
    AgentRecord,
    AgentRegistry,
    DeadLetter,
    MessageCoordinator,
)
from tta_agent_coordination.demo.processes import Event, Processes
from tta_agent_coordination.demo.settings import ANALYST, INBOXES, PLANNER, REPORTER, DemoError
from tta_agent_coordination.demo.table import Rate, Reading, sentence, table
from tta_agent_coordination.terminal import Display

TICK = 0.1
"""Seconds between two looks at the inboxes."""
STALL_LIMIT = 30.0
"""Seconds without a word from any process after which the demo gives up."""

_A_PAGE = 100


@attrs.define
class Tally:
    """What was heard of the work.

    Attributes:
        sent: Requests that the planner sent.
        planned: How many it is to send; None before it said so.
        answered: How many of them were answered.
        errors: How many of the answers are errors.
        handled: Messages that were handled, by inbox.
        held: The message at which somebody held still, to be killed over it; None before.
        holder: Who holds it and is not killed yet.
        killed: Who was killed, as text; None as long as nobody was.
        killed_at: When, on the monotonic clock.
        found_dead: Seconds after the kill at which the registry had it dead; None before.
        redelivered: Seconds after the kill at which what it held was handed out again; None before.
        duplicate: Whether the result of that was sent already.
        late: Other deliveries again: a lease passed, on a machine that is too busy.
        results: What the reporter has, by file.
        repeated: Results that the reporter had already.
        dead: The dead letters.
        seconds: How long it all took.
    """

    sent: int = 0
    planned: int | None = None
    answered: int = 0
    errors: int = 0
    handled: dict[str, int] = attrs.field(factory=lambda: {str(inbox): 0 for inbox in INBOXES})
    held: str | None = None
    holder: AgentId | None = None
    killed: str | None = None
    killed_at: float = 0.0
    found_dead: float | None = None
    redelivered: float | None = None
    duplicate: bool = False
    late: int = 0
    results: dict[str, dict[str, Any]] = attrs.field(factory=dict[str, dict[str, Any]])
    repeated: int = 0
    dead: list[DeadLetter] = attrs.field(factory=list[DeadLetter])
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether every request is answered, and who was killed is replaced."""
        replaced = self.held is None or self.found_dead is not None
        return self.answered == self.planned and replaced

    def note(self, event: Event, now: float) -> str | None:
        """Note what a process told at `now`, monotonic seconds; return what is worth saying."""
        facts = event.facts
        match event.kind:
            case "sent":
                self.sent, self.planned = self.sent + facts["count"], facts["of"]
            case "answered":
                self.answered, self.errors = self.answered + 1, self.errors + facts["failed"]
            case "handled":
                self.handled[facts["inbox"]] += 1
            case "holding":
                self.held, self.holder = facts["message_id"], event.agent_id
            case "redelivered" if facts["message_id"] != self.held or self.redelivered is not None:
                self.late += 1
            case "redelivered":
                self.redelivered, self.duplicate = now - self.killed_at, facts["duplicate"]
                return (
                    f"its lease has passed after {self.redelivered:.1f} s: the request that it "
                    f"held is handed out again, to {event.agent_id}"
                )
            case _:
                self.results, self.repeated = facts["results"], facts["repeated"]
        return None


class Stage:
    """One run of the processes, from the first start to the last end."""

    def __init__(
        self,
        coordinator: MessageCoordinator,
        registry: AgentRegistry,
        processes: Processes,
        display: Display,
    ) -> None:
        """Prepare a run; nothing is started yet."""
        self._coordinator = coordinator
        self._registry = registry
        self._processes = processes
        self._display = display
        self._tally = Tally()
        self._rates = {inbox: Rate() for inbox in INBOXES}
        self._last_word = time.monotonic()
        registry.on_unhealthy(self._replace)

    def play(self, analysts: int) -> Tally:
        """Run all processes until every request is handled.

        Raises:
            DemoError: A process failed, or nothing moves any more.
            CoordinatorUnavailableError: Redis is gone.
        """
        begin = time.monotonic()
        for agent_id in (PLANNER, REPORTER):
            self._processes.start(agent_id)
        for number in range(analysts):
            self._processes.start(AgentId(ANALYST.type, str(number + 1)))
        while not self._is_over():
            self._listen(TICK)
            self._processes.check()
            self._kill_holder()
            self._registry.detect_and_recover()
            self._check_progress()
        self._display.keep()
        self._processes.end()
        self._listen(0)
        self._tally.dead = self._dead_letters()
        self._tally.seconds = time.monotonic() - begin
        return self._tally

    def _is_over(self) -> bool:
        """Show the inboxes, and say whether nothing is left to do."""
        # In the order of INBOXES: an analyst sends its result before it finishes the request, so
        # once there is no unfinished request, every result is in the reporter's inbox or behind it.
        readings = [self._reading(inbox) for inbox in INBOXES]
        self._display.show(table(readings), sentence(readings))
        return self._tally.complete and not any(one.unfinished for one in readings)

    def _reading(self, inbox: AgentId) -> Reading:
        handled = self._tally.handled[str(inbox)]
        rate = self._rates[inbox].read(handled, time.monotonic())
        return Reading(inbox, self._coordinator.stats(inbox), rate)

    def _listen(self, seconds: float) -> None:
        """Act on all that is heard within so many seconds, and on what was heard before."""
        end = time.monotonic() + seconds
        while True:
            try:
                event = self._processes.heard.get(timeout=max(end - time.monotonic(), 0))
            except queue.Empty:
                return
            self._last_word = time.monotonic()
            said = self._tally.note(event, self._last_word)
            if said is not None:
                self._display.say(said)

    def _check_progress(self) -> None:
        if time.monotonic() - self._last_word > STALL_LIMIT:
            raise DemoError(f"nothing has moved for {STALL_LIMIT:g} s")

    def _kill_holder(self) -> None:
        """Kill the analyst that said it holds a message: it stands still, so it holds it yet."""
        # One that is not registered yet could not be found dead.
        killed = self._tally.holder
        if killed is None or self._registry.get(killed) is None:
            return
        pid = self._processes.kill(killed)
        self._tally.killed, self._tally.killed_at = str(killed), time.monotonic()
        self._tally.holder = None
        self._display.say(
            f"killed {killed} (process {pid}) with SIGKILL: the request that it held was answered, "
            "and not finished"
        )

    def _replace(self, dead: AgentRecord) -> None:
        """Start an agent again that the registry finds dead, unless it is only slow."""
        if self._processes.runs(dead.agent_id):
            return
        self._tally.found_dead = time.monotonic() - self._tally.killed_at
        pid = self._processes.start(dead.agent_id)
        self._display.say(
            f"its heartbeats are missing: the registry finds it dead after "
            f"{self._tally.found_dead:.1f} s, and process {pid} takes its place"
        )

    def _dead_letters(self) -> list[DeadLetter]:
        letters: list[DeadLetter] = []
        while page := self._coordinator.dead_letters(ANALYST, limit=_A_PAGE, offset=len(letters)):
            letters += page
        return letters
