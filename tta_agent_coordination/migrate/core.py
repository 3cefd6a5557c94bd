"""`Migration`: takes over the inboxes of one prefix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Self, cast

import attrs

from tta_agent_coordination import checks, policy
from tta_agent_coordination.coordinator.calls import Calls
from tta_agent_coordination.coordinator.directory import Directory
from tta_agent_coordination.coordinator.subscriptions import Subscriptions, subscription
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.keys import DEFAULT_KEY_PREFIX, Keys
from tta_agent_coordination.message import MessageType
from tta_agent_coordination.migrate.back import Holdings, inboxes
from tta_agent_coordination.migrate.layout import SCHEDULED, Layout, keys_of
from tta_agent_coordination.migrate.moves import COPY, HELD, MOVED, TAKEN, Moves
from tta_agent_coordination.migrate.plan import Move, Plan, audit_moves, plan
from tta_agent_coordination.migrate.report import MOST_LISTED, Fault, InboxReport, Report
from tta_agent_coordination.migrate.server import Server
from tta_agent_coordination.migrate.snapshot import Look, Snapshot, fault
from tta_agent_coordination.transport.link import Link
from tta_agent_coordination.transport.url import target_of

if TYPE_CHECKING:
    from redis import Redis

DEFAULT_CALL_TIMEOUT = 15.0
"""Seconds for one command; scripts here do more at once than those of a coordinator."""

_SIZES = {
    **dict.fromkeys(SCHEDULED, "ZCARD"),
    "reserved": "HLEN",
    "dlq": "LLEN",
    "queue": "LLEN",
}
_HAS_ONE = "our inbox has a message of this id already, which was not taken over from here"


class Migration:
    """Moves what another coordinator left under its own layout of keys into our inboxes.

    Each message is removed there and stored here in one step on the server, so a migration can be
    killed at any instant and run again, and both systems can be in use meanwhile.
    """

    def __init__(
        self,
        redis: Redis,
        from_prefix: str,
        key_prefix: str = DEFAULT_KEY_PREFIX,
        *,
        max_message_bytes: int = policy.DEFAULT_MAX_MESSAGE_BYTES,
        call_timeout: float = DEFAULT_CALL_TIMEOUT,
    ) -> None:
        """Make a migration; nothing is connected yet.

        Args:
            redis: A client of the server that has both; not of a cluster.
            from_prefix: What the old keys begin with, without the colon.
            key_prefix: What ours begin with.
            max_message_bytes: What the coordinators that will read the inboxes allow.
            call_timeout: Seconds that one command may take.

        Raises:
            ConfigurationError: The server is a cluster.
            TypeError, ValueError: An argument is wrong.
        """
        if not checks.instance_of("from_prefix", from_prefix, str):
            raise ValueError("from_prefix must not be empty: every key would be looked at")
        self._prefix = from_prefix
        rules = policy.InboxPolicy(max_message_bytes=max_message_bytes)
        self._calls = Calls(Link(redis, call_timeout=call_timeout), Keys(key_prefix), rules, None)
        self._server = Server(self._calls.link)
        self._directory = Directory(self._calls)
        self._subscriptions = Subscriptions(self._calls)

    @classmethod
    def from_url(
        cls,
        url: str,
        from_prefix: str,
        key_prefix: str = DEFAULT_KEY_PREFIX,
        *,
        max_message_bytes: int = policy.DEFAULT_MAX_MESSAGE_BYTES,
        call_timeout: float = DEFAULT_CALL_TIMEOUT,
    ) -> Self:
        """Make a migration on the server at `url`; see the constructor.

        Raises:
            ConfigurationError: The URL is malformed, or that of a cluster.
        """
        return cls(
            cast("Redis", target_of(url)),
            from_prefix,
            key_prefix,
            max_message_bytes=max_message_bytes,
            call_timeout=call_timeout,
        )

    def run(self, *, dry_run: bool = False, final: bool = False) -> Report:
        """Move what can be moved.

        Args:
            dry_run: Only look, and report what would be done; nothing is written.
            final: The old application is stopped for good. Then its leases are nobody's, what only
                the audit list has is taken over as well, and subscriptions are removed there.

        Raises:
            CoordinationError: Redis cannot be reached, or refuses. What was moved stays moved, and
                what was not is still there.
        """
        layout = Layout.of(self._prefix, self._server.keys(self._prefix))
        reports = [
            self._inbox(layout, inbox, dry_run=dry_run, final=final) for inbox in layout.inboxes
        ]
        others = [Fault(key, "", reason) for key, reason in layout.others[:MOST_LISTED]]
        return Report(
            dry_run=dry_run,
            final=final,
            inboxes=tuple(reports),
            agents=layout.agents,
            others=tuple(others),
            other_keys=len(layout.others),
        )

    def back(self, *, dry_run: bool = False) -> Report:
        """Give what our inboxes hold back to the old layout.

        What somebody has in hand stays until it is finished or its lease has passed; run it again
        then. Nobody should send here any more. Subscriptions stay.

        Args:
            dry_run: Only look.

        Raises:
            CoordinationError: As for `run`.
        """
        found = inboxes(self._server, self._calls.keys)
        reports = [self._give_back(inbox, dry_run=dry_run) for inbox in found]
        return Report(
            dry_run=dry_run,
            final=False,
            inboxes=tuple(one for one in reports if one.moved or one.left),
            agents=0,
            others=(),
            other_keys=0,
        )

    def close(self) -> None:
        """Close every connection; idempotent."""
        self._calls.link.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close it."""
        self.close()

    def _give_back(self, inbox: AgentId, *, dry_run: bool) -> InboxReport:
        keys, rules = self._calls.keys, self._calls.policy
        holdings = Holdings(self._server, keys, inbox)
        returns = holdings.all(self._server.now())
        moves = Moves(self._calls.link, keys, keys_of(self._prefix, inbox), inbox, rules)
        outcomes = [(one, MOVED) for one in returns] if dry_run else list(moves.returned(returns))
        counts = Counter(
            "dead" if one.kind == "dead" else "delayed" if one.delayed else "ready"
            for one, answer in outcomes
            if answer == MOVED
        )
        return InboxReport(
            inbox=inbox,
            **counts,
            held=holdings.held,
            unreadable=len(holdings.faults),
            faults=tuple(holdings.faults[:MOST_LISTED]),
        )

    def _inbox(self, layout: Layout, inbox: AgentId, *, dry_run: bool, final: bool) -> InboxReport:
        old = layout.keys_of(inbox)
        keys, rules = self._calls.keys, self._calls.policy
        moves = Moves(self._calls.link, keys, old, inbox, rules)
        look = Look(self._server, old, inbox, limit=rules.max_message_bytes)
        found = look.take()
        journal = self._server.fields(moves.journal)
        taken = {name.decode(): digest.decode() for name, digest in journal.items()}
        now = self._server.now()
        job = _Job(moves, found, plan(found, taken, now=now, final=final), taken, final)
        types = _types(found.types, old["subs"], found.faults)
        if dry_run:
            job.pretend()
        else:
            if job.plan.first or job.plan.dead or job.plan.stranded:
                self._directory.note((inbox,))
            job.carry_out()
            self._subscribe(inbox, types, old["subs"], remove=final)
        report = attrs.evolve(job.report(inbox, old, now), subscriptions=len(types))
        return report if dry_run else self._measure(report, look.sound, moves.journal)

    def _subscribe(
        self, inbox: AgentId, types: dict[bytes, MessageType], key: str, *, remove: bool
    ) -> None:
        # Whoever still publishes there needs them there; stored twice, they are the same.
        if types:
            self._subscriptions.add(subscription(inbox, tuple(types.values()), ()))
            if remove:
                self._server.run("SREM", key, *types)

    def _measure(self, report: InboxReport, old: Mapping[str, str], journal: str) -> InboxReport:
        """Count what the old keys have now; without any, what was taken needs no memory."""
        commands = [(verb, old[name]) for name, verb in _SIZES.items() if name in old]
        held = ("HLEN", self._calls.keys.inbox(report.inbox)["messages"])
        *rest, waiting = self._server.counts(*commands, held)
        if not any(rest):
            self._server.run("UNLINK", journal)
        return attrs.evolve(report, remaining=sum(rest), waiting=waiting)


@attrs.define
class _Job:
    """The work on one inbox, and what came of it."""

    moves: Moves
    found: Snapshot
    plan: Plan
    taken: dict[str, str]
    final: bool
    outcomes: list[tuple[Move, int]] = attrs.field(factory=list[tuple[Move, int]])

    def carry_out(self) -> None:
        """Move everything, in the order in which it would have been received."""
        self._note(self.moves.scattered(self.plan.first, final=self.final))
        dead = {move.member: move for move in self.plan.dead}
        self._note(self.moves.listed("dlq", self.found.dead_raw, dead))
        self._note(self.moves.scattered(self.plan.last, final=self.final))
        audit = [raw for raw, _ in self.found.audit]
        self._note(self.moves.listed("queue", audit, self._audit_moves()))

    def pretend(self) -> None:
        """Note what would come of it if nobody else did anything."""
        for move in (*self.plan.first, *self.plan.dead, *self.plan.last):
            self._note([(move, COPY if self._was_taken(move) else MOVED)])
        self._note((move, MOVED) for move in self._audit_moves().values() if move.kind == "ready")

    def report(self, inbox: AgentId, old: Mapping[str, str], now: int) -> InboxReport:
        """Count what came of it."""
        counts = Counter(_kind(move, now) for move, answer in self.outcomes if answer == MOVED)
        answers = Counter(answer for move, answer in self.outcomes if move.kind != "copy")
        refused = [
            fault(old[move.source], move.member, _HAS_ONE)
            for move, answer in self.outcomes
            if answer == TAKEN
        ]
        faults = [*self.found.faults, *refused]
        return InboxReport(
            inbox=inbox,
            **counts,
            copies=answers[COPY],
            held=self.plan.held + answers[HELD],
            only_listed=0 if self.final else len(self.plan.stranded),
            unreadable=len(faults),
            faults=tuple(faults[:MOST_LISTED]),
        )

    def _audit_moves(self) -> dict[bytes, Move]:
        return audit_moves(self.found, self.taken, self.plan.stranded if self.final else ())

    def _was_taken(self, move: Move) -> bool:
        return self.taken.get(move.message.message_id) == move.message.digest

    def _note(self, outcomes: Iterable[tuple[Move, int]]) -> None:
        for move, answer in outcomes:
            self.outcomes.append((move, answer))
            if answer in (MOVED, COPY):
                self.taken[move.message.message_id] = move.message.digest


def _kind(move: Move, now: int) -> str:
    """Return under what a move is counted."""
    if move.source == "reserved":
        return "reserved"
    if move.kind in ("dead", "ready"):
        return {"dead": "dead", "ready": "stranded"}[move.kind]
    return "delayed" if move.due > now else "ready"


def _types(members: Iterable[bytes], key: str, faults: list[Fault]) -> dict[bytes, MessageType]:
    """Return the types that members of a set of subscriptions name; note those that name none."""
    types: dict[bytes, MessageType] = {}
    for member in members:
        try:
            types[member] = MessageType(member.decode().lower())
        except ValueError:
            faults.append(fault(key, member, "no type of message that can be subscribed to"))
    return types
