"""The figures of one scenario, derived from its history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import attrs

from tta_agent_coordination.chaos.checker import End, Problem, of, problems, stories
from tta_agent_coordination.chaos.duplicates import Again, agains
from tta_agent_coordination.chaos.history import Event

MOST_SHOWN = 20
"""Problems that are told one by one."""

_SECOND = 1_000_000


@attrs.frozen
class Spread:
    """How long something took, in seconds.

    Attributes:
        p50: Half took no longer.
        p99: Of a hundred, all but one took no longer.
        longest: None took longer.
    """

    p50: float
    p99: float
    longest: float


@attrs.frozen
class Counts:
    """What the processes did.

    Attributes:
        sent: Messages that producers tried to send.
        confirmed: Those of which they know that they arrived.
        refused: Answers that the inbox is full.
        uncertain: Calls of producers that raised, to be repeated.
        deliveries: Times that a message was handed out, as far as somebody saw it.
        handled: Messages that were handled to the end.
        redelivered: How often a message was handed out again, by cause.
        duplicates: How often a message was handled again, by cause.
        redelivery: Seconds from the last grant of a lease that had to pass until the next
            delivery; None if none had to.
    """

    sent: int
    confirmed: int
    refused: int
    uncertain: int
    deliveries: int
    handled: int
    redelivered: Mapping[str, int]
    duplicates: Mapping[str, int]
    redelivery: Spread | None


@attrs.frozen
class Judgment:
    """What is wrong with a history.

    Attributes:
        lost: Messages that were confirmed and are nowhere.
        lost_by_server: Those that the server itself may have lost.
        forgotten_by_server: Other promises that are broken because the server lost its last
            writes.
        unexplained: Promises that are broken for no such reason; the first of them, as text.
    """

    lost: int
    lost_by_server: int
    forgotten_by_server: int
    unexplained: list[str]


def count(events: Sequence[Event], end: End) -> Counts:
    """Count what was done."""
    by_message = stories(events)
    again = list(agains(by_message, end))
    kinds = Counter(event.kind for event in events)
    return Counts(
        sent=_messages(events, "sending"),
        confirmed=_messages(events, "sent"),
        refused=kinds["refused"],
        uncertain=kinds["uncertain"],
        deliveries=kinds["received"],
        handled=_messages(events, "handled"),
        redelivered=_by_cause(again),
        duplicates=_by_cause([one for one in again if one.handled]),
        redelivery=spread([one.waited / _SECOND for one in again if one.waited is not None]),
    )


def judge(events: Sequence[Event], end: End) -> Judgment:
    """Say what is wrong."""
    found = problems(events, end)
    ours = [problem for problem in found if not problem.by_server]
    return Judgment(
        lost=_lost(ours),
        lost_by_server=_lost(found) - _lost(ours),
        forgotten_by_server=sum(one.by_server and one.kind != "lost" for one in found),
        unexplained=_shortened([str(problem) for problem in ours]),
    )


def spread(values: Sequence[float]) -> Spread | None:
    """Return the percentiles of some times, None of none."""
    if not values:
        return None
    ordered = sorted(values)
    return Spread(
        p50=ordered[len(ordered) // 2],
        p99=ordered[min(len(ordered) * 99 // 100, len(ordered) - 1)],
        longest=ordered[-1],
    )


def _messages(events: Sequence[Event], kind: str) -> int:
    return len({event.message_id for event in of(events, kind)})


def _by_cause(again: Sequence[Again]) -> dict[str, int]:
    return {str(cause): number for cause, number in Counter(a.cause for a in again).items()}


def _lost(found: Sequence[Problem]) -> int:
    return sum(problem.kind == "lost" for problem in found)


def _shortened(texts: Sequence[str]) -> list[str]:
    more = len(texts) - MOST_SHOWN
    return [*texts[:MOST_SHOWN], *([f"and {more} more"] if more > 0 else [])]
