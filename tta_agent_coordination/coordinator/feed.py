"""What a worker fetches from: a group of inboxes, acknowledged and claimed in one round trip."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from tta_agent_coordination import policy
from tta_agent_coordination.coordinator.calls import (
    SHORTEST_WAIT,
    Calls,
    milliseconds,
    new_call_id,
)
from tta_agent_coordination.coordinator.claims import asked_again
from tta_agent_coordination.coordinator.inbox import Inbox
from tta_agent_coordination.coordinator.leases import OUTCOMES
from tta_agent_coordination.coordinator.records import Delivery
from tta_agent_coordination.delivery import LeaseOutcome
from tta_agent_coordination.events import held
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.transport.blocked import Blocked, Sent
from tta_agent_coordination.transport.gate import Command

Fetched = tuple[AgentId, Delivery]
Acks = Mapping[AgentId, Sequence[Delivery]]
Refused = list[tuple[Delivery, LeaseOutcome]]
"""What could not be acknowledged, and why."""

_LOOK_ELSEWHERE = 8


@attrs.frozen
class Asked:
    """What an exchange asks for.

    Attributes:
        acks: What it acknowledges, of the inboxes that it claims from.
        apart: Likewise, of other inboxes.
        calls: The id of each claim, and for how many.
        visibility: Seconds of the leases.
        commands: What is sent: one for each inbox of `apart`, then one for each claim.
    """

    acks: Acks
    apart: Acks
    calls: Mapping[AgentId, tuple[str, int]]
    visibility: float
    commands: Sequence[Command]


class Feed:
    """Inboxes whose wake-ups can be waited for with one command; for one thread at a time."""

    def __init__(self, calls: Calls, inbox: Inbox, agent_ids: Sequence[AgentId]) -> None:
        """Fetch from the inboxes of `agent_ids`, which are on one server."""
        self.agent_ids = list(agent_ids)
        self.inbox = inbox
        self._calls = calls
        self._gate = calls.link.commands
        self._anchor = self.agent_ids[0]
        self._interrupt = calls.keys.interrupt(self._anchor, new_call_id())
        self._unanswered: dict[AgentId, list[tuple[str, int]]] = {}
        self._due: dict[AgentId, float] = {}
        self._first = self._anchor
        self._looked = 0
        self._turns = 0
        self._dropped: set[AgentId] = set()
        self._waiting: Blocked | None = None
        self._is_cut_off = False

    def exchange(self, acks: Acks, most: int, visibility: float) -> tuple[list[Fetched], Refused]:
        """Acknowledge what is done and claim up to `most` messages, in one round trip if there are.

        The inbox that gave messages last is asked first, the others one by one if it has none.

        Returns:
            The messages with their inboxes, and what was not there to be acknowledged any more.
        """
        self._drop()
        shares = self._shares(most)
        found, refused = self._claim(shares, acks, visibility)
        for agent_id in self._others(shares):
            if found:
                break
            found, _ = self._claim({agent_id: most}, {}, visibility)
        return found, refused

    def begin(self, acks: Acks, most: int, visibility: float) -> tuple[Asked, Sent]:
        """Send what `exchange` sends first, for `finish` to read what comes of it."""
        self._drop()
        asked = self._ask(self._shares(most), acks, visibility)
        try:
            return asked, self._gate.begin(self._calls.key(self._anchor), *asked.commands)
        except BaseException:
            self._note_unanswered(asked)
            raise

    def finish(self, asked: Asked, sent: Sent) -> tuple[list[Fetched], Refused] | None:
        """Return as `exchange` what came of `begin`; None if no answer came: `exchange` again."""
        replies: list[Any] | None = None
        try:
            replies = self._gate.finish(sent)
        finally:
            if replies is None:
                self._note_unanswered(asked)
        return None if replies is None else self._heard(asked, replies)

    def take_up(self, visibility: float) -> list[Fetched]:
        """Return what answers brought that got lost; the most of it is given back by asking."""
        found: list[Fetched] = []
        while self._unanswered:
            found += self._claim({next(iter(self._unanswered)): 1}, {}, visibility)[0]
        return found

    @property
    def has_more(self) -> bool:
        """Whether an inbox had more when it was asked last, or something is due by now."""
        now = time.monotonic()
        return any(due <= now for due in self._due.values())

    def ack(self, acks: Acks) -> Refused:
        """Acknowledge without claiming; from any thread."""
        commands = self._ack_commands(acks)
        return self._refused(acks, self._calls.link.leases.run(self._interrupt, *commands))

    def wait(self) -> None:
        """Block until a message may be there, one is due, `interrupt` is called, or a while.

        When one is due this feed looks for itself: a wake-up may go to a process that waits
        longer and is suspended.
        """
        seconds = policy.WAIT_SLICE
        alarm = self._alarm(seconds)
        if alarm is not None and self._calls.link.route().blocks_sender:
            seconds = alarm
        keys = [self._calls.keys.inbox(agent_id)["wake"] for agent_id in self.agent_ids]
        command = Command(("BZPOPMIN", *keys, self._interrupt, f"{seconds:.6f}"))
        try:
            with held(), self._gate.blocking(self._interrupt, command, seconds) as answered:
                self._waiting = answered
                if self._is_cut_off:  # just now
                    answered.cut_off()
                if alarm is not None and not answered(alarm):
                    self.interrupt()
        finally:
            self._waiting = None

    def interrupt(self) -> None:
        """End a `wait` under way, or the next one; from any thread."""
        key = self._interrupt
        life = milliseconds(policy.REPLY_LIFETIME)
        self._gate.run(key, Command(("ZADD", key, 0, "w")), Command(("PEXPIRE", key, life)))

    def cut_off(self) -> None:
        """End a `wait` under way, and each later one, though the server does not answer."""
        self._is_cut_off = True
        waiting = self._waiting
        if waiting is not None:
            waiting.cut_off()

    def drop(self, agent_id: AgentId) -> bool:
        """Fetch from an inbox no more; from any thread. Whether it was fetched from.

        `interrupt` a wait under way: until then it may take the wake-ups of that inbox.
        """
        served = agent_id in self.agent_ids
        if served:
            self._dropped.add(agent_id)
        return served

    def pass_on(self) -> None:
        """Wake others who wait, in place of this one."""
        for agent_id in self.agent_ids:
            self.inbox.recover_some(agent_id)

    def leave(self) -> None:
        """Wake others who wait, in place of this one, and leave nothing behind."""
        self.pass_on()
        self._gate.run(self._interrupt, Command(("DEL", self._interrupt)))

    def _shares(self, most: int) -> dict[AgentId, int]:
        """Return whom to ask, and for how many.

        The inbox that gave messages last; now and then another one as well, so that none starves,
        and one that was asked without answer, whose messages may be on lease to nobody.
        """
        if self._first not in self.agent_ids:
            self._first = next(iter(self.agent_ids), self._first)
        self._turns += 1
        another = next((one for one in self._unanswered if one != self._first), None)
        if another is None:
            if len(self.agent_ids) < 2 or self._turns % _LOOK_ELSEWHERE:
                return {self._first: most} if self.agent_ids else {}
            another = self._another()
        return {self._first: most - 1, another: 1} if most > 1 else {another: 1}

    def _another(self) -> AgentId:
        """Return each inbox in turn, but for the one that is asked anyway."""
        while True:
            self._looked = (self._looked + 1) % len(self.agent_ids)
            if self.agent_ids[self._looked] != self._first:
                return self.agent_ids[self._looked]

    def _others(self, shares: Mapping[AgentId, int]) -> Iterator[AgentId]:
        """Yield whom to ask if `shares` bring nothing: first for what was asked without answer."""
        while self._unanswered:
            yield next(iter(self._unanswered))
        yield from [agent_id for agent_id in self.agent_ids if agent_id not in shares]

    def _claim(
        self, shares: Mapping[AgentId, int], acks: Acks, visibility: float
    ) -> tuple[list[Fetched], Refused]:
        asked = self._ask(shares, acks, visibility)
        try:
            replies = self._gate.run(self._calls.key(self._anchor), *asked.commands)
        except BaseException:
            self._note_unanswered(asked)
            raise
        return self._heard(asked, replies)

    def _ask(self, shares: Mapping[AgentId, int], acks: Acks, visibility: float) -> Asked:
        apart = {agent_id: done for agent_id, done in acks.items() if agent_id not in shares}
        joined = {agent_id: done for agent_id, done in acks.items() if agent_id in shares}
        calls = {agent_id: self._next_call(agent_id, most) for agent_id, most in shares.items()}
        commands = self._ack_commands(apart)
        for agent_id, (call, most) in calls.items():
            done = joined.get(agent_id, ())
            commands.append(
                self.inbox.claim_command(agent_id, call, most, visibility, staying=True, done=done)
            )
        return Asked(joined, apart, calls, visibility, commands)

    def _heard(self, asked: Asked, replies: Sequence[Any]) -> tuple[list[Fetched], Refused]:
        several = len(asked.apart)
        refused = self._refused(asked.apart, replies[:several])
        found: list[Fetched] = []
        for (agent_id, (call, _)), brought in zip(
            asked.calls.items(), replies[several:], strict=True
        ):
            reply = brought
            if agent_id in asked.acks:
                answers, *reply = brought
                refused += self._refused({agent_id: asked.acks[agent_id]}, [answers])
            found += self._read(agent_id, call, reply, asked.visibility)
        return found, refused

    def _next_call(self, agent_id: AgentId, most: int) -> tuple[str, int]:
        # As in Inbox: a claim without an answer is made again under its old id.
        calls = self._unanswered.get(agent_id)
        if calls is None:
            return new_call_id(), most
        call, before = calls.pop()
        if not calls:
            del self._unanswered[agent_id]
        return call, asked_again(most, before)

    def _note_unanswered(self, asked: Asked) -> None:
        for agent_id, call in asked.calls.items():
            if agent_id in self.agent_ids:  # it may have been dropped since
                self._unanswered.setdefault(agent_id, []).append(call)

    def _read(
        self, agent_id: AgentId, call: str, reply: Sequence[Any], visibility: float
    ) -> list[Fetched]:
        deliveries, due = self.inbox.read_claim(agent_id, call, reply, visibility)
        self._due.pop(agent_id, None)
        if due is not None and agent_id in self.agent_ids:  # it may have been dropped since
            self._due[agent_id] = time.monotonic() + due
        if deliveries:
            self._first = agent_id
        return [(agent_id, delivery) for delivery in deliveries]

    def _ack_commands(self, acks: Acks) -> list[Command]:
        return [self.inbox.ack_command(agent_id, several) for agent_id, several in acks.items()]

    def _refused(self, acks: Acks, replies: Sequence[Sequence[int]]) -> Refused:
        refused: Refused = []
        for (agent_id, several), answers in zip(acks.items(), replies, strict=True):
            outcomes = [OUTCOMES[answer] for answer in answers]
            self.inbox.news.acked(agent_id, (one.raw_id for one in several), outcomes)
            if min(answers) < 0:
                refused += [pair for pair in zip(several, outcomes, strict=True) if not pair[1]]
        return refused

    def _drop(self) -> None:
        while self._dropped:
            agent_id = self._dropped.pop()
            self.agent_ids = [kept for kept in self.agent_ids if kept != agent_id]
            self._due.pop(agent_id, None)
            self._unanswered.pop(agent_id, None)
            self.inbox.recover_some(agent_id)  # a wake-up that came here is for somebody else

    def _alarm(self, within: float) -> float | None:
        """Return the seconds until something is due, None if that is not `within` so many."""
        first = min(self._due.values(), default=None)
        due = within if first is None else max(first - time.monotonic(), SHORTEST_WAIT)
        return due if due < within else None


def feeds(calls: Calls, inbox: Inbox, agent_ids: Sequence[AgentId]) -> list[Feed]:
    """Divide inboxes into as few groups as the servers allow."""
    ids = list(dict.fromkeys(agent_ids))
    if calls.link.route().spread:
        return [Feed(calls, inbox, [agent_id]) for agent_id in ids]
    return [Feed(calls, inbox, ids)]
