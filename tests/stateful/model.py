"""What an inbox does, as a plain Python program: an executable form of the contract.

Times are whole hours on the model's own clock. Each public method is one step, as it is on the
server; ``tick`` numbers the steps, for whatever is ordered by the instant of its happening.
Answers are those of the coordinator: ``LeaseOutcome`` and ``MessageResult``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tta_agent_coordination import AgentMessage, LeaseOutcome, MessageResult


@dataclass(frozen=True)
class Rules:
    """The policy, in hours."""

    queue_size: int
    deliveries: int
    backoff_base: float
    backoff_factor: float
    backoff_max: float
    dedup_window: int
    dead_letter_limit: int


@dataclass
class Stored:
    """An unfinished message: ready, delayed or leased."""

    message: AgentMessage
    sequence: int
    stored_at: int
    expires_at: int | None
    place: str = "ready"
    due: tuple[int, int] = (0, 0)  # when its delay or lease ends: hour, then tick
    attempts: int = 0
    error: str | None = None
    earlier_error: str | None = None  # of before a replay; for a dead letter only
    holder: str | None = None
    token: str | None = None  # of its latest delivery
    settled: str | None = None  # what was done with that token; None: it is still good

    @property
    def order(self) -> tuple[int, int]:
        return -self.message.priority, self.sequence


@dataclass(frozen=True)
class Dead:
    """A dead letter, and the message that it was."""

    stored: Stored
    reason: str

    @property
    def error(self) -> str | None:
        return self.stored.earlier_error if self.stored.error is None else self.stored.error


@dataclass(frozen=True)
class Finished:
    """What is remembered of a message that came to an end."""

    until: int
    token: str | None
    settled: str


@dataclass
class InboxModel:
    """One inbox."""

    rules: Rules
    now: int = 0
    tick: int = 0
    sequence: int = 0
    unfinished: dict[str, Stored] = field(default_factory=dict)
    dead: dict[str, Dead] = field(default_factory=dict)
    finished: dict[str, Finished] = field(default_factory=dict)
    dropped: int = 0

    # Sending ---------------------------------------------------------------------------------

    def send(self, message: AgentMessage, delay: int = 0) -> MessageResult:
        self.tick += 1
        mark = self.finished.get(message.message_id)
        if message.message_id in self.unfinished or (mark and mark.until > self.now):
            return MessageResult(message.message_id, delivered=True, duplicate=True)
        return self._store(message, delay)

    def _store(self, message: AgentMessage, delay: int = 0) -> MessageResult:
        if len(self.unfinished) >= self.rules.queue_size:
            return MessageResult(message.message_id, delivered=False, error="queue full")
        self.sequence += 1
        expires = None if message.ttl is None else self.now + delay + round(message.ttl / 3600)
        stored = Stored(message, self.sequence, self.now, expires)
        if delay:
            stored.place, stored.due = "delayed", (self.now + delay, self.tick)
        self.unfinished[message.message_id] = stored
        return MessageResult(message.message_id, delivered=True)

    # Receiving -------------------------------------------------------------------------------

    def receive(self, most: int, visibility: int, holder: str) -> list[Stored]:
        """Hand out what is ready; the tokens are told with `delivered`."""
        self.tick += 1
        self._move_due()
        found: list[Stored] = []
        for message_id, stored in self._in_order("ready"):
            if len(found) == most:
                break
            if stored.expires_at is not None and stored.expires_at <= self.now:
                self._bury(message_id, "expired", "expired")
                continue
            stored.place, stored.due = "leased", (self.now + visibility, self.tick)
            stored.attempts += 1
            stored.holder, stored.token, stored.settled = holder, None, None
            found.append(stored)
        return found

    def recover(self) -> int:
        self.tick += 1
        return self._move_due()

    def _move_due(self) -> int:
        for stored in self.unfinished.values():
            if stored.place == "delayed" and stored.due[0] <= self.now:
                stored.place = "ready"
        late = [item for item in self._in_order("leased") if item[1].due[0] <= self.now]
        for message_id, stored in late:
            stored.place = "ready"
            if stored.attempts >= self.rules.deliveries:
                self._bury(message_id, "lease_expired", "expired")
        return len(late)

    def _in_order(self, place: str) -> list[tuple[str, Stored]]:
        items = [item for item in self.unfinished.items() if item[1].place == place]
        return sorted(items, key=lambda item: item[1].order)

    # Settling --------------------------------------------------------------------------------

    def ack(self, message_id: str, token: str) -> LeaseOutcome:
        def finish(stored: Stored) -> None:
            del self.unfinished[message_id]
            self._remember(message_id, stored, "acked")

        return self._settle(message_id, token, "acked", finish)

    def nack(
        self, message_id: str, token: str, *, permanent: bool, error: str | None, delay: int | None
    ) -> LeaseOutcome:
        def give_back(stored: Stored) -> None:
            stored.error = stored.error if error is None else error
            if permanent:
                self._bury(message_id, "permanent", "nacked")
            elif stored.attempts >= self.rules.deliveries:
                self._bury(message_id, "attempts_exhausted", "nacked")
            else:
                wait = self._back_off(stored.attempts) if delay is None else delay
                stored.settled = "nacked"
                stored.place = "delayed" if wait else "ready"
                stored.due = (self.now + wait, self.tick)

        return self._settle(message_id, token, "nacked", give_back)

    def release(self, message_id: str, token: str) -> LeaseOutcome:
        def give_back(stored: Stored) -> None:
            stored.attempts -= 1
            stored.settled, stored.place = "released", "ready"

        return self._settle(message_id, token, "released", give_back)

    def extend(self, message_id: str, token: str, visibility: int) -> LeaseOutcome:
        def lengthen(stored: Stored) -> None:
            stored.place, stored.due = "leased", (self.now + visibility, self.tick)

        return self._settle(message_id, token, "extended", lengthen)

    def _settle(
        self, message_id: str, token: str, how: str, change: Callable[[Stored], None]
    ) -> LeaseOutcome:
        self.tick += 1
        stored, mark = self.unfinished.get(message_id), self.finished.get(message_id)
        if stored and stored.token == token:
            if stored.settled is not None:
                return _done_before(stored.settled, how)
            change(stored)
            return LeaseOutcome.DONE
        if mark and mark.token == token:
            return _done_before(mark.settled, how)
        return LeaseOutcome.STALE if stored or mark else LeaseOutcome.UNKNOWN

    def _back_off(self, attempts: int) -> int:
        """Whole hours until after the retry: up to 10 % of jitter is rounded up with it."""
        wait = self.rules.backoff_base * self.rules.backoff_factor ** (attempts - 1)
        return math.ceil(min(wait, self.rules.backoff_max))

    # Ending ----------------------------------------------------------------------------------

    def purge(self) -> int:
        self.tick += 1
        held = len(self.unfinished)
        self.unfinished.clear()
        return held

    def _bury(self, message_id: str, reason: str, settled: str) -> None:
        stored = self.unfinished.pop(message_id)
        self.dead.pop(message_id, None)
        self.dead[message_id] = Dead(stored, reason)
        self._remember(message_id, stored, settled)
        while len(self.dead) > self.rules.dead_letter_limit:
            del self.dead[self.dead_in_order()[0]]
            self.dropped += 1

    def _remember(self, message_id: str, stored: Stored, settled: str) -> None:
        until = self.now + self.rules.dedup_window
        self.finished[message_id] = Finished(until, stored.token, settled)

    # Dead letters ----------------------------------------------------------------------------

    def dead_in_order(self) -> list[str]:
        return list(self.dead)  # as they died, and in one step in the order of sending

    def replay(self, message_ids: Sequence[str], limit: int | None = None) -> int:
        """Make them ready again here, as if sent anew, and no longer finished.

        Up to `limit` of them: those that stay where they are do not count.
        """
        self.tick += 1
        moved = 0
        for message_id in message_ids:
            if moved == limit:
                break
            dead = self.dead.get(message_id)
            if dead is None or message_id in self.unfinished:
                continue
            if not self._store(dead.stored.message).delivered:
                continue
            self._keep_error(message_id, dead)
            if dead.stored.expires_at is not None:  # as long to live as at first, delay included
                life = dead.stored.expires_at - dead.stored.stored_at
                self.unfinished[message_id].expires_at = self.now + life
            del self.dead[message_id]
            self.finished.pop(message_id, None)
            moved += 1
        return moved

    def replay_to(self, other: "InboxModel", message_ids: Sequence[str]) -> int:
        """Move them to another inbox, which need not have forgotten a copy of its own."""
        self.tick += 1
        other.tick += 1
        moved = 0
        for message_id in message_ids:
            dead = self.dead.get(message_id)
            if dead is None or message_id in other.unfinished:
                continue
            if other.receives(dead.stored.message):
                other._keep_error(message_id, dead)
                del self.dead[message_id]
                moved += 1
        return moved

    def _keep_error(self, message_id: str, dead: Dead) -> None:
        self.unfinished[message_id].earlier_error = dead.error

    def receives(self, message: AgentMessage) -> bool:
        return self._store(message).delivered

    def purge_dead(self, message_ids: Sequence[str] | None) -> int:
        self.tick += 1
        if message_ids is None:
            self.dropped = 0
        gone = [i for i in (self.dead if message_ids is None else message_ids) if i in self.dead]
        for message_id in gone:
            del self.dead[message_id]
        return len(gone)


def _done_before(settled: str, how: str) -> LeaseOutcome:
    return LeaseOutcome.ALREADY_DONE if settled == how else LeaseOutcome.STALE
