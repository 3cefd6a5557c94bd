"""What a migration did, or would do."""

from __future__ import annotations

import attrs

from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.policy import DEFAULT_QUEUE_SIZE

MOST_LISTED = 100
"""Entries of an inbox, and keys of no inbox, that are listed; all are counted."""


@attrs.frozen
class Fault:
    """Something that was left where it is.

    Attributes:
        key: Where it is.
        excerpt: How it begins.
        reason: Why it was left.
    """

    key: str
    excerpt: str
    reason: str


@attrs.frozen(kw_only=True)
class InboxReport:
    """What became of one inbox.

    Attributes:
        inbox: Whose.
        ready: Messages that were due.
        delayed: Messages that were not.
        reserved: Messages that somebody had taken and not finished; they are ready now.
        stranded: Messages of which only the audit list knew; they are ready now.
        dead: Dead letters.
        copies: Second copies of messages that were taken over, dropped.
        subscriptions: Types of messages subscribed to.
        held: Left: leases of the old application that have not passed.
        only_listed: Left: messages of which only the audit list knows.
        unreadable: Left: what could not be read, or not be stored.
        remaining: Entries that the old keys have now; None in a dry run.
        waiting: Unfinished messages that our inbox holds now; None in a dry run.
        faults: The first of the unreadable.
    """

    inbox: AgentId
    ready: int = 0
    delayed: int = 0
    reserved: int = 0
    stranded: int = 0
    dead: int = 0
    copies: int = 0
    subscriptions: int = 0
    held: int = 0
    only_listed: int = 0
    unreadable: int = 0
    remaining: int | None = None
    waiting: int | None = None
    faults: tuple[Fault, ...] = ()

    @property
    def moved(self) -> int:
        """How many messages and dead letters were taken over."""
        return self.ready + self.delayed + self.reserved + self.stranded + self.dead

    @property
    def over_size(self) -> bool:
        """Whether our inbox holds as many messages as it takes by default, or more."""
        return (self.waiting or 0) >= DEFAULT_QUEUE_SIZE

    @property
    def came_meanwhile(self) -> bool:
        """Whether the old keys have entries again, and none that had to be left."""
        return bool(self.remaining) and not (self.held or self.only_listed or self.unreadable)

    @property
    def left(self) -> bool:
        """Whether a message was left behind."""
        return bool(self.held or self.only_listed or self.unreadable or self.remaining)


@attrs.frozen(kw_only=True)
class Report:
    """What a migration did, or would do.

    Attributes:
        dry_run: Whether it only looked.
        final: Whether the old application was said to be stopped.
        inboxes: What became of each inbox.
        agents: Keys of the old registry, which stay: agents register anew.
        others: Keys that are no part of the layout, or of an agent whose name is not allowed here.
        other_keys: How many of them there are.
    """

    dry_run: bool
    final: bool
    inboxes: tuple[InboxReport, ...]
    agents: int
    others: tuple[Fault, ...]
    other_keys: int

    @property
    def complete(self) -> bool:
        """Whether nothing was left behind but what need not be moved."""
        return not self.other_keys and not any(inbox.left for inbox in self.inboxes)
