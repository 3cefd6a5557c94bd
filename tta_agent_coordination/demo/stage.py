"""What the parent process does: start the others, show the inboxes, kill one, end them all."""

from __future__ import annotations

import queue
import time
from typing import Any

import attrs

from tta_agent_coordination import AgentId, DeadLetter, MessageCoordinator
from tta_agent_coordination.demo.processes import Event, Processes
from tta_agent_coordination.demo.settings import (
    ANALYST,
    INBOXES,
    LEASE,
    PLANNER,
    REPORTER,
    DemoError,
)
from tta_agent_coordination.demo.table import Display, Rate, Row

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
        planned: Whether these are all.
        handled: Messages that were handled, by inbox.
        killed: Who was killed, as text; None as long as nobody was.
        killed_at: When, on the monotonic clock.
        held: Ids of the messages it held.
        redelivered: Seconds after the kill at which one of these was handed out again, by its id.
        duplicates: How many of these had their result sent already.
        late: Deliveries again because another lease passed, on a machine that is too busy.
        results: What the reporter has, by file.
        repeated: Results that the reporter had already.
        dead: The dead letters.
        seconds: How long it all took.
    """

    sent: int = 0
    planned: bool = False
    handled: dict[str, int] = attrs.field(factory=lambda: {str(inbox): 0 for inbox in INBOXES})
    killed: str | None = None
    killed_at: float = 0.0
    held: tuple[str, ...] = ()
    redelivered: dict[str, float] = attrs.field(factory=dict[str, float])
    duplicates: int = 0
    late: int = 0
    results: dict[str, dict[str, Any]] = attrs.field(factory=dict[str, dict[str, Any]])
    repeated: int = 0
    dead: list[DeadLetter] = attrs.field(factory=list[DeadLetter])
    seconds: float = 0.0

    def note_redelivery(self, message_id: str, *, duplicate: bool, after: float) -> bool:
        """Note that a message was handed out again, `after` seconds after the kill.

        Returns:
            Whether it is the first of those that the killed analyst held.
        """
        if message_id not in self.held or message_id in self.redelivered:
            self.late += 1
            return False
        self.redelivered[message_id] = after
        self.duplicates += duplicate
        return len(self.redelivered) == 1


class Stage:
    """One run of the processes, from the first start to the last end."""

    def __init__(
        self, coordinator: MessageCoordinator, processes: Processes, display: Display
    ) -> None:
        """Prepare a run; nothing is started yet."""
        self._coordinator = coordinator
        self._processes = processes
        self._display = display
        self._tally = Tally()
        self._analysts = 0
        self._rates = {inbox: Rate() for inbox in INBOXES}
        self._last_word = time.monotonic()
        self._answers = {
            "sent": self._on_sent,
            "planned": self._on_planned,
            "handled": self._on_handled,
            "holding": self._on_holding,
            "redelivered": self._on_redelivered,
            "results": self._on_results,
        }

    def play(self, analysts: int) -> Tally:
        """Run all processes until every request is handled.

        Raises:
            DemoError: A process failed, or nothing moves any more.
            CoordinatorUnavailableError: Redis is gone.
        """
        begin = time.monotonic()
        self._processes.start(PLANNER)
        self._processes.start(REPORTER)
        for _ in range(analysts):
            self._start_analyst()
        while not self._is_over():
            self._listen(TICK)
            self._processes.check()
            self._check_progress()
        self._display.keep()
        self._processes.end()
        self._listen(0)
        self._tally.dead = self._dead_letters()
        self._tally.seconds = time.monotonic() - begin
        return self._tally

    def _start_analyst(self) -> AgentId:
        self._analysts += 1
        agent_id = AgentId(ANALYST.type, str(self._analysts))
        self._processes.start(agent_id)
        return agent_id

    def _is_over(self) -> bool:
        """Show the inboxes, and say whether nothing is left to do."""
        # In this order: an analyst sends its result before it finishes the request, so once there
        # is no unfinished request, every result is in the reporter's inbox or behind it.
        rows = [self._row(inbox) for inbox in (ANALYST, REPORTER)]
        self._display.show(rows)
        return self._tally.planned and not any(
            row.ready or row.stats.leased or row.stats.delayed for row in rows
        )

    def _row(self, inbox: AgentId) -> Row:
        handled = self._tally.handled[str(inbox)]
        rate = self._rates[inbox].read(handled, time.monotonic())
        return Row(inbox, self._coordinator.stats(inbox), rate)

    def _listen(self, seconds: float) -> None:
        """Act on all that is heard within so many seconds, and on what was heard before."""
        end = time.monotonic() + seconds
        while True:
            try:
                event = self._processes.heard.get(timeout=max(end - time.monotonic(), 0))
            except queue.Empty:
                return
            self._last_word = time.monotonic()
            self._answers[event.kind](event)

    def _check_progress(self) -> None:
        if time.monotonic() - self._last_word > STALL_LIMIT:
            raise DemoError(f"nothing has moved for {STALL_LIMIT:g} s")

    def _on_sent(self, event: Event) -> None:
        self._tally.sent += event.facts["count"]

    def _on_planned(self, event: Event) -> None:
        del event
        self._tally.planned = True

    def _on_handled(self, event: Event) -> None:
        self._tally.handled[event.facts["inbox"]] += event.facts["count"]

    def _on_holding(self, event: Event) -> None:
        """Kill the analyst that says it holds messages: it stands still, so it holds them yet."""
        pid = self._processes.kill(event.agent_id)
        self._tally.killed_at = time.monotonic()
        self._tally.killed = str(event.agent_id)
        self._tally.held = tuple(event.facts["message_ids"])
        self._display.say(
            f"killed {event.agent_id} (process {pid}) with SIGKILL: it held "
            f"{len(self._tally.held)} requests, on leases of {LEASE:g} s; "
            f"{self._start_analyst()} takes its place"
        )

    def _on_redelivered(self, event: Event) -> None:
        after = time.monotonic() - self._tally.killed_at
        if self._tally.note_redelivery(**event.facts, after=after):
            self._display.say(
                f"its leases have passed after {after:.1f} s: what it held is handed out again, "
                f"first to {event.agent_id}"
            )

    def _on_results(self, event: Event) -> None:
        self._tally.results = event.facts["results"]
        self._tally.repeated = event.facts["repeated"]

    def _dead_letters(self) -> list[DeadLetter]:
        letters: list[DeadLetter] = []
        while page := self._coordinator.dead_letters(ANALYST, limit=_A_PAGE, offset=len(letters)):
            letters += page
        return letters
