"""Receiving: claim messages on lease, and wait for them."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Sequence
from typing import Any, cast

import attrs

from tta_agent_coordination import codec, policy
from tta_agent_coordination.coordinator import records
from tta_agent_coordination.coordinator.calls import (
    HORIZON,
    SHORTEST_WAIT,
    Calls,
    lifetime,
    microseconds,
    milliseconds,
    new_call_id,
    wait_times,
)
from tta_agent_coordination.coordinator.claims import (
    FEWER,
    MOST_A_CLAIM,
    Claim,
    asked_again,
    settings,
)
from tta_agent_coordination.coordinator.clocks import ServerClocks
from tta_agent_coordination.coordinator.leases import Failure, Leases, words_of
from tta_agent_coordination.coordinator.records import Delivery, Opened
from tta_agent_coordination.coordinator.unanswered import Unanswered
from tta_agent_coordination.delivery import InboxStats, ReceivedMessage
from tta_agent_coordination.errors import CoordinationError, MessageDecodeError
from tta_agent_coordination.events import Events, held
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.message import AgentMessage, FailureType
from tta_agent_coordination.transport import scripts
from tta_agent_coordination.transport.gate import Command

logger = logging.getLogger("tta_agent_coordination")


class Inbox(Leases):
    """Hands out the messages of inboxes and takes them back."""

    def __init__(self, calls: Calls, events: Events) -> None:
        """Receive through `calls`; tell `events` what happens."""
        super().__init__(calls, events)
        self._clocks = ServerClocks()
        self._unanswered: dict[tuple[int, AgentId], list[tuple[str, int]]] = {}
        self._interrupts = set[str]()
        self._closing = False

    @property
    def waits_to_the_end(self) -> bool:
        """Whether closing the connections does not end a wait, as with fakeredis."""
        return self._calls.link.route().blocks_sender

    def receive(
        self, agent_id: AgentId, most: int, visibility: float, wait: float
    ) -> list[ReceivedMessage]:
        """Claim up to `most` messages; wait up to `wait` seconds for the first."""
        end = time.monotonic() + wait
        step = min(most, MOST_A_CLAIM)
        staying = wait > 0
        claim = self._claim(agent_id, step, visibility, staying=staying)
        while not claim.messages:
            left = end - time.monotonic()
            if left > 0 and claim.due != 0:
                claim = self._wait(agent_id, step, visibility, left, claim.due)
            elif claim.due == 0 or (staying and claim.is_due_soon):
                staying = left > 0  # who leaves wakes another for what is due soon
                claim = self._claim(agent_id, step, visibility, staying=staying)
            else:
                return []
        return self._filled(agent_id, claim, most, visibility)

    def look(
        self, agent_id: AgentId, most: int, visibility: float, end: float
    ) -> tuple[Claim, float]:
        """Claim up to `most` messages, and wait for none.

        Args:
            agent_id: Whose inbox.
            most: How many.
            visibility: Seconds of the leases.
            end: Until when the caller will wait if there are none, monotonic seconds; it passes
                wake-ups on if it does not, after all.

        Returns:
            What there is, and the seconds left to wait.
        """
        while True:
            left = end - time.monotonic()
            claim = self._claim(agent_id, min(most, MOST_A_CLAIM), visibility, staying=left > 0)
            if claim.messages:
                messages = self._filled(agent_id, claim, most, visibility)
                return attrs.evolve(claim, messages=messages), left
            if claim.due != 0:
                return claim, left

    def _filled(
        self, agent_id: AgentId, claim: Claim, most: int, visibility: float
    ) -> list[ReceivedMessage]:
        """Claim in further steps what one step does not take."""
        messages = claim.messages
        try:
            while len(messages) < most and claim.filled:
                step = min(most - len(messages), claim.filled * FEWER, MOST_A_CLAIM)
                claim = self._claim(agent_id, step, visibility, staying=False)
                messages = messages + claim.messages
        except CoordinationError:  # what is in hand already is not held up
            pass
        except BaseException:  # Ctrl-C: nobody will get what is in hand
            self._give_up(agent_id, messages)
            raise
        return messages

    def _give_up(self, agent_id: AgentId, messages: Sequence[ReceivedMessage]) -> None:
        """Let others have messages that nobody gets here; at the end of their leases at worst."""
        with contextlib.suppress(CoordinationError):
            self.release_all(agent_id, [received.token for received in messages])

    def forget_marks(self, agent_id: AgentId) -> None:
        """Drop the marks of an inbox in which no id comes twice."""
        keys = self._calls.keys.inbox(agent_id)
        command = Command(("UNLINK", keys["marks"], keys["marks_old"]))
        self._calls.link.commands.run(keys["marks"], command)

    def recover(self, agent_id: AgentId) -> tuple[int, bool]:
        """Move expired leases back; return how many, and whether the inbox is empty."""
        total = 0
        while True:
            moved, due, held = self.recover_some(agent_id)
            total += moved
            if due != 0:
                return total, held == 0

    def purge(self, agent_id: AgentId) -> int:
        """Drop every unfinished message."""
        retention = milliseconds(self._calls.policy.retention)
        return self._calls.run(scripts.PURGE, agent_id, new_call_id(), retention)

    def held(self, agent_ids: Sequence[AgentId]) -> list[int]:
        """Return how many unfinished messages there are in each inbox, in few round trips."""
        return self._calls.ask_each(
            [(agent_id, Command(("HLEN", self._calls.key(agent_id)))) for agent_id in agent_ids]
        )

    def peek(self, agent_id: AgentId, place: str) -> list[AgentMessage]:
        """Return all that is in one place, ``ready`` say, without receiving it; for `testing`."""
        keys, run = self._calls.keys.inbox(agent_id), self._calls.link.commands.run
        ids: list[bytes] = run(keys[place], Command(("ZRANGE", keys[place], 0, -1)))[0]
        reads = [Command(("HGET", keys["messages"], name)) for name in ids]
        found: list[bytes | None] = run(keys["messages"], *reads) if reads else []
        return [records.queue_message(one, 0, b"-").message for one in found if one is not None]

    def stats(self, agent_id: AgentId) -> InboxStats:
        """Count what an inbox holds."""
        return self.stats_of_each([agent_id])[0]

    def stats_of_each(self, agent_ids: Sequence[AgentId]) -> list[InboxStats]:
        """Count what each inbox holds, in few round trips."""
        asked = [
            (agent_id, self._calls.command(scripts.STATS, agent_id, records.PRIORITIES))
            for agent_id in agent_ids
        ]
        return [records.inbox_stats(reply) for reply in self._calls.ask_each(asked)]

    def _claim(self, agent_id: AgentId, most: int, visibility: float, *, staying: bool) -> Claim:
        # A claim that no answer came to, or whose answer Ctrl-C kept from the caller, is made
        # again under its old id: it may have been carried out, and then it gets the same
        # messages, as many as it asks for now. Not in a child process, though: the parent will
        # ask for them.
        call, most = self._next_call(agent_id, most)
        command = self.claim_command(agent_id, call, most, visibility, staying=staying)
        try:
            [reply] = self._calls.run_command(agent_id, command)
            return self._brought(agent_id, call, most, reply, visibility)
        except BaseException:
            self._note_unanswered(agent_id, call, most)
            raise

    def _brought(
        self, agent_id: AgentId, call: str, most: int, reply: Sequence[Any], visibility: float
    ) -> Claim:
        deliveries, due = self.read_claim(agent_id, call, reply, visibility)
        messages = [self.decoded(agent_id, delivery) for delivery in deliveries]
        found = [message for message in messages if message is not None]
        # Undecodable messages made room for others: look again.
        due = due if len(found) == len(deliveries) else 0
        return Claim(found, due, most if len(deliveries) == most else 0)

    def claim_command(
        self,
        agent_id: AgentId,
        call: str,
        most: int,
        visibility: float,
        *,
        staying: bool,
        done: Sequence[Delivery] = (),
        blocked: float = 0.0,
    ) -> Command:
        """Return the command that claims up to `most` messages, and first finishes others.

        The server refuses to hand out anything when it gets to it only after the answer is not
        waited for any more; `blocked` seconds are those of a command before it.
        """
        calls = self._calls
        asked = settings(
            calls.policy, calls.holder, lifetime(agent_id), visibility, staying=staying
        )
        until = self._clocks.answer_by(agent_id, blocked)
        arguments = (call, most, asked, until, *words_of(done))
        return self._calls.command(scripts.EXCHANGE if done else scripts.CLAIM, agent_id, arguments)

    def read_claim(
        self, agent_id: AgentId, call: str, reply: Sequence[Any], visibility: float
    ) -> tuple[list[Delivery], float | None]:
        """Return what a claim brought, and when it is due to bring more, as in `Claim`."""
        ends, due, dropped, items, dead = reply
        if not ends:  # it came too late, by what we knew of the server's clock: look again
            self._clocks.forget(agent_id)
            return [], 0
        self._clocks.note(agent_id, ends - microseconds(visibility))
        if dead or dropped:
            self.news.buried(agent_id, dead, dropped)
        deadline = codec.from_microseconds(ends)
        each = iter(items)
        deliveries = [
            Delivery(call, raw_id, stored, attempts, error, deadline)
            for raw_id, stored, attempts, error in zip(each, each, each, each, strict=True)
        ]
        self.news.received(agent_id, deliveries, visibility)
        return deliveries, None if due < 0 else due / 1_000_000

    def _note_unanswered(self, agent_id: AgentId, call: str, most: int) -> None:
        self._unanswered.setdefault((os.getpid(), agent_id), []).append((call, most))

    def _next_call(self, agent_id: AgentId, most: int) -> tuple[str, int]:
        try:
            call, before = self._unanswered[os.getpid(), agent_id].pop()
        except (KeyError, IndexError):
            return new_call_id(), most
        return call, asked_again(most, before)

    def decoded(self, agent_id: AgentId, delivery: Delivery) -> ReceivedMessage | None:
        """Return the message; None for one that does not decode: it goes to the dead letters."""
        opened = self.opened(agent_id, delivery)
        return None if opened is None else delivery.received(*opened)

    def opened(self, agent_id: AgentId, delivery: Delivery) -> Opened | None:
        """Return the message, without what is known of it; None as `decoded`."""
        try:
            return delivery.open()
        except MessageDecodeError as error:
            undecodable = Failure(kind=FailureType.PERMANENT, undecodable=True, error=str(error))
        try:
            self.nack(agent_id, delivery.token, undecodable)
        except CoordinationError:
            # Its lease will pass, and it is tried again; the others are not held up.
            logger.warning(
                "undecodable message in %s could not be put away now",
                agent_id,
                extra={"event": "undecodable_left", "inbox": str(agent_id)},
            )
        return None

    def withdraw(self, agent_id: AgentId, message_id: str) -> Unanswered:
        """Take back a message unless somebody is handling it; return what became of it so far."""
        name, retention = records.raw_text(message_id), milliseconds(self._calls.policy.retention)
        reply = self._calls.run(scripts.WITHDRAW, agent_id, new_call_id(), name, retention)
        return Unanswered.read(reply)

    def _wait(
        self, agent_id: AgentId, most: int, visibility: float, left: float, due: float | None
    ) -> Claim:
        """Block on the server until something is ready, is due, or the time is up; then claim.

        The claim goes out with the wait, and the server carries it out as soon as that is over.

        The server keeps the time-outs of blocking commands only to a tenth of a second, so at
        the moment something becomes due it is nudged: what is due moves, and one consumer wakes.

        Returns:
            What the claim brought; that there is something now if nothing is known of it.
        """
        seconds, alarm = wait_times(left, due)
        if alarm is not None and self._calls.link.route().blocks_sender:
            seconds = alarm
        end = time.monotonic() + seconds
        wake = self._calls.keys.inbox(agent_id)["wake"]
        call = new_call_id()
        if self.waits_to_the_end:
            self._wait_in_memory(agent_id, wake, seconds, call)
            return Claim([], 0)
        wait = Command(("BZPOPMIN", wake, f"{seconds:.6f}"))
        patience = seconds + self._calls.link.commands.patience
        claim = self.claim_command(agent_id, call, most, visibility, staying=True, blocked=patience)
        brought: Claim | None = None
        try:
            gate = self._calls.link.commands
            with held(), gate.blocking(wake, wait, seconds, claim) as answered:
                while alarm is not None and not answered(alarm):
                    alarm = self.nudge(agent_id, end)
            [reply] = answered.following or [None]
            if isinstance(reply, list):
                answer = cast("list[Any]", reply)
                brought = self._brought(agent_id, call, most, answer, visibility)
        finally:
            if brought is None:
                self._note_unanswered(agent_id, call, most)
        return Claim([], 0) if brought is None else brought

    def _wait_in_memory(self, agent_id: AgentId, wake: str, seconds: float, call: str) -> None:
        """Block until a message may be there, the time is up, or `end_waits` is called."""
        interrupt = self._calls.keys.interrupt(agent_id, call)
        wait = Command(("BZPOPMIN", wake, interrupt, f"{seconds:.6f}"))
        self._interrupts.add(interrupt)
        try:
            if not self._closing:  # seen in this order, nothing blocks after `end_waits` looked
                with held(), self._calls.link.commands.blocking(wake, wait, seconds):
                    pass
        finally:
            self._interrupts.discard(interrupt)

    def end_waits(self) -> None:
        """End every `receive` that waits, and let none begin, where closing does not do that."""
        self._closing = True
        life = milliseconds(policy.REPLY_LIFETIME)
        for key in list(self._interrupts):
            commands = Command(("ZADD", key, 0, "w")), Command(("PEXPIRE", key, life))
            with contextlib.suppress(CoordinationError):
                self._calls.link.commands.run(key, *commands)

    def nudge(self, agent_id: AgentId, end: float) -> float | None:
        """Move what is due; return the seconds to the next alarm, None if it comes after `end`."""
        _, microseconds_left, _ = self.recover_some(agent_id)
        due = max(microseconds_left / 1_000_000, SHORTEST_WAIT)
        return due if microseconds_left >= 0 and time.monotonic() + due < end else None

    def recover_some(self, agent_id: AgentId) -> tuple[int, int, int]:
        """Move back a bounded number of what is due, and wake one who waits.

        Returns:
            How many leases had expired, microseconds until the next is due (-1: never), and how
            many messages the inbox holds.
        """
        reply = self._calls.run(
            scripts.RECOVER,
            agent_id,
            new_call_id(),
            HORIZON,
            self._calls.policy.deliveries,
            *self.burial(),
        )
        moved, due, dropped, unfinished, dead = reply
        self.news.buried(agent_id, dead, dropped)
        self.news.recovered(agent_id, moved)
        return moved, int(due), unfinished
