"""Settling leases: ack, nack, extend and release."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

import attrs

from tta_agent_coordination.coordinator import records
from tta_agent_coordination.coordinator.calls import (
    HORIZON,
    Argument,
    Calls,
    microseconds,
    milliseconds,
    new_call_id,
)
from tta_agent_coordination.coordinator.news import News
from tta_agent_coordination.coordinator.records import Delivery
from tta_agent_coordination.delivery import LeaseOutcome
from tta_agent_coordination.events import Events
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.message import FailureType
from tta_agent_coordination.policy import InboxPolicy
from tta_agent_coordination.transport import scripts
from tta_agent_coordination.transport.command import Command

MOST_A_SCRIPT = 1000
"""Tokens that one script settles at most, so that none holds the server up."""

_JITTER = 0.1
OUTCOMES = {
    1: LeaseOutcome.DONE,
    2: LeaseOutcome.ALREADY_DONE,
    -1: LeaseOutcome.STALE,
    -2: LeaseOutcome.UNKNOWN,
}


@attrs.frozen(kw_only=True)
class Failure:
    """Why a message is given back, and what shall become of it.

    Attributes:
        kind: Whether it can be tried again.
        error: What the dead letter will say; None leaves what an earlier failure gave.
        delay: Seconds until it is tried again; None for the back-off.
        undecodable: Whether its bytes are no message, so that it is not tried again.
    """

    kind: FailureType = FailureType.TRANSIENT
    error: str | None = None
    delay: float | None = None
    undecodable: bool = False

    def words(self) -> tuple[Argument, ...]:
        """Return what ``nack.lua`` takes from ``reason`` to ``delay``."""
        delay = -1 if self.delay is None else microseconds(self.delay)
        return self._reason(), records.printed_error(self.error), delay

    def _reason(self) -> str:
        """Return what it shall die of now; nothing if it is tried again."""
        if self.undecodable:
            return "undecodable"
        return "permanent" if self.kind is FailureType.PERMANENT else ""


class Leases:
    """Settles the leases of messages that were handed out.

    Attributes:
        news: Says what became of messages.
    """

    def __init__(self, calls: Calls, events: Events) -> None:
        """Settle through `calls`; tell `events` what happens."""
        self.news = News(events)
        self._calls = calls

    def ack(self, agent_id: AgentId, tokens: Sequence[str]) -> list[LeaseOutcome]:
        """Finish messages."""
        options = self._ack_options()
        return self._settle(scripts.ACK, agent_id, tokens, options, self.news.acked)

    def ack_command(self, agent_id: AgentId, deliveries: Sequence[Delivery]) -> Command:
        """Return the command that finishes messages."""
        arguments = (new_call_id(), *self._ack_options(), *words_of(deliveries))
        return self._calls.command(scripts.ACK, agent_id, arguments)

    def _ack_options(self) -> tuple[int, int]:
        rules = self._calls.policy
        return microseconds(rules.dedup_window), milliseconds(rules.retention)

    def extend(
        self, agent_id: AgentId, tokens: Sequence[str], visibility: float
    ) -> list[LeaseOutcome]:
        """Let leases end `visibility` seconds from now."""
        options = (microseconds(visibility), HORIZON)
        return self._settle(scripts.EXTEND, agent_id, tokens, options, self.news.renewed)

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
        self.news.released(agent_id, [message_id], [OUTCOMES[answer]])
        return OUTCOMES[answer]

    def release_all(self, agent_id: AgentId, tokens: Sequence[str]) -> None:
        """Give back messages of which the library made the tokens, in one round trip."""
        retention = milliseconds(self._calls.policy.retention)
        pairs = [records.token_parts(token) for token in tokens]
        commands = [
            self._calls.command(scripts.RELEASE, agent_id, (new_call_id(), name, nonce, retention))
            for nonce, name in pairs
        ]
        wake = self._calls.keys.inbox(agent_id)["wake"]
        outcomes = [OUTCOMES[answer] for answer in self._calls.link.leases.run(wake, *commands)]
        self.news.released(agent_id, (name for _, name in pairs), outcomes)

    def nack(self, agent_id: AgentId, token: str, failure: Failure) -> tuple[LeaseOutcome, str]:
        """Give a message back as failed: for a retry, or to the dead letters.

        Returns:
            The outcome, and what it died of if it did.
        """
        pair = records.split_token(token)
        if pair is None:
            return LeaseOutcome.UNKNOWN, ""
        nonce, message_id = pair
        words = (new_call_id(), message_id, nonce, *failure.words(), *self._back_off())
        answer, dropped, died_of = self._calls.run_on_lease(
            scripts.NACK, agent_id, *words, *self.burial()
        )
        outcome = OUTCOMES[answer]
        self.news.nacked(agent_id, message_id, outcome, failure.kind, failure.delay, failure.error)
        if died_of:
            self.news.died(agent_id, message_id, died_of, failure.error)
        self.news.dropped(agent_id, dropped)
        return outcome, died_of.decode()

    def _settle(
        self,
        script: scripts.Script,
        agent_id: AgentId,
        tokens: Sequence[str],
        options: tuple[int, int],
        tell: Callable[[AgentId, Iterable[bytes], Iterable[LeaseOutcome]], None],
    ) -> list[LeaseOutcome]:
        pairs = [records.split_token(token) for token in tokens]
        known = [pair for pair in pairs if pair is not None]
        answers: list[int] = []
        for start in range(0, len(known), MOST_A_SCRIPT):
            some = known[start : start + MOST_A_SCRIPT]
            words = [word for nonce, message_id in some for word in (message_id, nonce)]
            answers += self._calls.run_on_lease(script, agent_id, new_call_id(), *options, *words)
        outcomes = [OUTCOMES[answer] for answer in answers]
        tell(agent_id, (message_id for _, message_id in known), outcomes)
        found = iter(outcomes)
        return [LeaseOutcome.UNKNOWN if pair is None else next(found) for pair in pairs]

    def _back_off(self) -> tuple[int | float, ...]:
        """Return what ``nack.lua`` takes from ``base`` to ``deliveries``."""
        rules = self._calls.policy
        base, ceiling = microseconds(rules.backoff_base), microseconds(rules.backoff_max)
        jitter = random.random() * _JITTER
        return base, rules.backoff_factor, ceiling, jitter, HORIZON, rules.deliveries

    def burial(self) -> tuple[int, int, int]:
        """Return what the scripts that bury take from ``dead_limit`` to ``retention``."""
        return burial(self._calls.policy)


def burial(rules: InboxPolicy) -> tuple[int, int, int]:
    """Return the same under these rules."""
    window = microseconds(rules.dedup_window)
    return rules.dead_letter_limit, window, milliseconds(rules.retention)


def words_of(deliveries: Sequence[Delivery]) -> list[str | bytes]:
    """Return what the scripts take for each delivery that is settled."""
    return [word for one in deliveries for word in (one.raw_id, one.nonce)]
