"""Receiving: claim messages on lease, wait for them, and settle the leases."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Sequence
from typing import Any

import attrs

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
from tta_agent_coordination.delivery import InboxStats, LeaseOutcome, ReceivedMessage
from tta_agent_coordination.errors import CoordinationError, MessageDecodeError
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.message import MessagePriority
from tta_agent_coordination.transport import scripts
from tta_agent_coordination.transport.gate import Command

logger = logging.getLogger("tta_agent_coordination")

MOST_A_CLAIM = 1000
"""Messages handed out in one step at most, so that no script holds the server up."""
LONGEST_ERROR = 4096
"""Characters kept of the error that a nack gives."""

_JITTER = 0.1
OUTCOMES = {
    1: LeaseOutcome.DONE,
    2: LeaseOutcome.ALREADY_DONE,
    -1: LeaseOutcome.STALE,
    -2: LeaseOutcome.UNKNOWN,
}


@attrs.frozen
class Claim:
    """What one claim brought.

    Attributes:
        messages: Those that decode.
        due: Seconds until the inbox has something again: 0 for now, None for not of itself.
    """

    messages: list[ReceivedMessage]
    due: float | None


class Inbox:
    """Hands out the messages of inboxes and takes them back."""

    def __init__(self, calls: Calls) -> None:
        """Receive through `calls`."""
        self._calls = calls
        self._unanswered: dict[tuple[int, AgentId, int], list[str]] = {}

    @property
    def waits_to_the_end(self) -> bool:
        """Whether closing the connections does not end a wait, as with fakeredis."""
        return self._calls.link.route().blocks_sender

    def receive(
        self, agent_id: AgentId, most: int, visibility: float, wait: float
    ) -> list[ReceivedMessage]:
        """Claim up to `most` messages; wait up to `wait` seconds for the first."""
        end = time.monotonic() + wait
        while True:
            claim, left = self.look(agent_id, most, visibility, end)
            if claim.messages or left <= 0:
                return claim.messages
            self._wait(agent_id, left, claim.due)

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
                return attrs.evolve(
                    claim, messages=self._filled(agent_id, claim.messages, most, visibility)
                ), left
            if claim.due != 0:
                return claim, left

    def _filled(
        self, agent_id: AgentId, messages: list[ReceivedMessage], most: int, visibility: float
    ) -> list[ReceivedMessage]:
        """Claim in further steps what one step does not take."""
        while len(messages) < most and len(messages) % MOST_A_CLAIM == 0:
            step = min(most - len(messages), MOST_A_CLAIM)
            try:
                more = self._claim(agent_id, step, visibility, staying=False).messages
            except CoordinationError:  # what is in hand already is not held up
                break
            if not more:
                break
            messages = messages + more
        return messages

    def forget_marks(self, agent_id: AgentId) -> None:
        """Drop the marks of an inbox in which no id comes twice."""
        keys = self._calls.keys.inbox(agent_id)
        command = Command(("UNLINK", keys["marks"], keys["marks_old"]))
        self._calls.link.commands.run(keys["marks"], command)

    def ack(self, agent_id: AgentId, tokens: Sequence[str]) -> list[LeaseOutcome]:
        """Finish messages."""
        return self._settle(scripts.ACK, agent_id, tokens, *self._ack_options())

    def ack_command(self, agent_id: AgentId, tokens: Sequence[str]) -> Command:
        """Return the command that finishes messages of which the library made the tokens."""
        words = [word for nonce, name in map(records.token_parts, tokens) for word in (name, nonce)]
        arguments = (new_call_id(), *self._ack_options(), *words)
        return self._calls.command(scripts.ACK, agent_id, arguments)

    def _ack_options(self) -> tuple[int, int]:
        rules = self._calls.policy
        return microseconds(rules.dedup_window), milliseconds(rules.retention)

    def extend(
        self, agent_id: AgentId, tokens: Sequence[str], visibility: float
    ) -> list[LeaseOutcome]:
        """Let leases end `visibility` seconds from now."""
        return self._settle(scripts.EXTEND, agent_id, tokens, microseconds(visibility), HORIZON)

    def release(self, agent_id: AgentId, token: str) -> LeaseOutcome:
        """Give a message back unhandled."""
        pair = records.split_token(token)
        if pair is None:
            return LeaseOutcome.UNKNOWN
        nonce, message_id = pair
        retention = milliseconds(self._calls.policy.retention)
        answer = self._calls.run_on_lease(
            scripts.RELEASE, agent_id, new_call_id(), message_id, nonce, retention
        )
        return OUTCOMES[answer]

    def release_all(self, agent_id: AgentId, tokens: Sequence[str]) -> None:
        """Give back messages of which the library made the tokens, in one round trip."""
        retention = milliseconds(self._calls.policy.retention)
        commands = [
            self._calls.command(scripts.RELEASE, agent_id, (new_call_id(), name, nonce, retention))
            for nonce, name in map(records.token_parts, tokens)
        ]
        self._calls.link.leases.run(self._calls.keys.inbox(agent_id)["wake"], *commands)

    def nack(
        self,
        agent_id: AgentId,
        token: str,
        *,
        reason: str = "",
        error: str | None = None,
        delay: float | None = None,
    ) -> tuple[LeaseOutcome, str]:
        """Give a message back as failed: for a retry, or to the dead letters with a `reason`.

        Returns:
            The outcome, and what it died of if it did.
        """
        pair = records.split_token(token)
        if pair is None:
            return LeaseOutcome.UNKNOWN, ""
        nonce, message_id = pair
        rules = self._calls.policy
        answer, dropped, died_of = self._calls.run_on_lease(
            scripts.NACK,
            agent_id,
            new_call_id(),
            message_id,
            nonce,
            reason,
            _error(error),
            -1 if delay is None else microseconds(delay),
            microseconds(rules.backoff_base),
            rules.backoff_factor,
            microseconds(rules.backoff_max),
            random.random() * _JITTER,
            HORIZON,
            rules.deliveries,
            *self._burial(),
        )
        _report_dropped(agent_id, dropped)
        if died_of:
            logger.warning(
                "message %s of %s is dead: %s (%s)",
                text_of(message_id),
                agent_id,
                died_of.decode(),
                error,
            )
        return OUTCOMES[answer], died_of.decode()

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

    def held(self, agent_id: AgentId) -> int:
        """Return how many unfinished messages there are."""
        key = self._calls.keys.inbox(agent_id)["messages"]
        return self._calls.link.commands.run(key, Command(("HLEN", key)))[0]

    def stats(self, agent_id: AgentId) -> InboxStats:
        """Count what an inbox holds."""
        priorities = sorted(MessagePriority, reverse=True)
        delayed, leased, dead, dropped, age, ready = self._calls.run(
            scripts.STATS, agent_id, *(priority.value for priority in priorities)
        )
        oldest = None if int(age) < 0 else int(age) / 1_000_000
        counts = dict(zip(priorities, ready, strict=True))
        return InboxStats(counts, delayed, leased, dead, oldest, dropped)

    def _claim(self, agent_id: AgentId, most: int, visibility: float, *, staying: bool) -> Claim:
        # A claim that no answer came to is made again under its old id: it may have been
        # carried out, and then it gets the same messages. Not in a child process, though: the
        # parent will ask for them.
        key = (os.getpid(), agent_id, most)
        call = self._unanswered_call(key) or new_call_id()
        command = self.claim_command(agent_id, call, most, visibility, staying=staying)
        try:
            reply = self._calls.link.commands.run(self._calls.keys.inbox(agent_id)["wake"], command)
        except BaseException:
            self._unanswered.setdefault(key, []).append(call)
            raise
        return self.read_claim(agent_id, call, reply[0])

    def claim_command(
        self, agent_id: AgentId, call: str, most: int, visibility: float, *, staying: bool
    ) -> Command:
        """Return the command that claims up to `most` messages."""
        arguments = (
            call,
            most,
            microseconds(visibility),
            self._calls.holder,
            int(staying),
            HORIZON,
            self._calls.policy.deliveries,
            *self._burial(),
            lifetime(agent_id),
        )
        return self._calls.command(scripts.CLAIM, agent_id, arguments)

    def read_claim(self, agent_id: AgentId, call: str, reply: Sequence[Any]) -> Claim:
        """Read what a claim brought; what does not decode goes to the dead letters."""
        _, deadline, due, dropped, items = reply
        _report_dropped(agent_id, dropped)
        messages = self._decode(agent_id, call, int(deadline), items)
        seconds = int(due) / 1_000_000
        # Undecodable messages made room for others: look again.
        again = len(messages) < len(items)
        return Claim(messages, 0 if again else None if seconds < 0 else seconds)

    def _unanswered_call(self, key: tuple[int, AgentId, int]) -> str | None:
        try:
            return self._unanswered[key].pop()
        except (KeyError, IndexError):
            return None

    def _decode(
        self, agent_id: AgentId, call: str, deadline: int, items: Sequence[Any]
    ) -> list[ReceivedMessage]:
        messages: list[ReceivedMessage] = []
        for item in items:
            try:
                messages.append(records.received(call, deadline, item))
            except MessageDecodeError as error:
                self._bury_undecodable(agent_id, f"{call}:{records.text(item[0])}", error)
        return messages

    def _bury_undecodable(self, agent_id: AgentId, token: str, error: MessageDecodeError) -> None:
        try:
            self.nack(agent_id, token, reason="undecodable", error=str(error))
        except CoordinationError:
            # Its lease will pass, and it is tried again; the others are not held up.
            logger.warning("undecodable message in %s could not be put away now", agent_id)

    def withdraw(self, agent_id: AgentId, message_id: str) -> bool:
        """Take back a message that nobody is handling."""
        return bool(self._calls.run(scripts.WITHDRAW, agent_id, records.raw_text(message_id)))

    def _wait(self, agent_id: AgentId, left: float, due: float | None) -> None:
        """Block on the server until something is ready, is due, or the time is up.

        The server keeps the time-outs of blocking commands only to a tenth of a second, so at
        the moment something becomes due it is nudged: what is due moves, and one consumer wakes.
        """
        seconds, alarm = wait_times(left, due)
        if alarm is not None and self._calls.link.route().blocks_sender:
            seconds = alarm
        end = time.monotonic() + seconds
        key = self._calls.keys.inbox(agent_id)["wake"]
        command = Command(("BZPOPMIN", key, f"{seconds:.6f}"))
        with self._calls.link.commands.blocking(key, command, seconds) as answered:
            while alarm is not None and not answered(alarm):
                alarm = self.nudge(agent_id, end)

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
            *self._burial(),
        )
        moved, due, dropped, held = reply
        _report_dropped(agent_id, dropped)
        return moved, int(due), held

    def _burial(self) -> tuple[int, int, int]:
        rules = self._calls.policy
        window = microseconds(rules.dedup_window)
        return rules.dead_letter_limit, window, milliseconds(rules.retention)

    def _settle(
        self, script: scripts.Script, agent_id: AgentId, tokens: Sequence[str], *options: int
    ) -> list[LeaseOutcome]:
        pairs = [records.split_token(token) for token in tokens]
        known = [pair for pair in pairs if pair is not None]
        answers: list[int] = []
        if known:
            words = [word for nonce, message_id in known for word in (message_id, nonce)]
            answers = self._calls.run_on_lease(script, agent_id, new_call_id(), *options, *words)
        found = iter(answers)
        return [LeaseOutcome.UNKNOWN if pair is None else OUTCOMES[next(found)] for pair in pairs]


def _error(text: str | None) -> bytes:
    """Return an error as the scripts take it; half a surrogate pair is written as its escape."""
    return b"-" if text is None else f"+{text[:LONGEST_ERROR]}".encode("utf-8", "backslashreplace")


def text_of(message_id: bytes) -> str:
    """Return a message id for the log."""
    return message_id.decode("utf-8", "replace")


def _report_dropped(agent_id: AgentId, dropped: int) -> None:
    if dropped:
        logger.warning(
            "%d dead letters of %s were dropped: there were more than dead_letter_limit",
            dropped,
            agent_id,
        )
