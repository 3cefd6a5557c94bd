"""Why messages came again, and were handled again: the rules, and who goes by which.

A delivery is followed by another when it was given back or when its lease had passed; a message is
handled twice when that happened to a delivery which had been handled. `RULES` says what can be the
cause of that. Whatever none of them explains is a fault of the library.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise

import attrs

from tta_agent_coordination.chaos.checker import (
    End,
    Story,
    Window,
    deliveries,
    effective,
    given_back,
    lease_end,
    of,
    touched,
)
from tta_agent_coordination.chaos.history import UNCERTAIN, Event, origin_of

_GOOD_PART = 0.25
"""Of a lease; a call takes a thousandth of it when nothing disturbs it."""


class Cause(StrEnum):
    """Why a message was handed out again."""

    RETRIED = "retried"
    RELEASED = "released"
    KILLED = "killed"
    SUSPENDED = "suspended"
    CUT_OFF = "cut off"
    OUTLASTED = "outlasted"
    SERVER = "server"
    UNEXPLAINED = "unexplained"


RULES: Mapping[Cause, str] = {
    Cause.RETRIED: "its consumer gave it back with nack (2.7)",
    Cause.RELEASED: "its consumer gave it back with release (2.5)",
    Cause.KILLED: "its consumer was killed before its ack was carried out; its lease passed (2.4)",
    Cause.SUSPENDED: "its consumer slept through its lease; the late ack is refused (2.5)",
    Cause.CUT_OFF: "its ack could not reach the server before its lease passed (2.4, 2.9)",
    Cause.OUTLASTED: "its consumer took longer than its lease, or let it pass (2.4)",
    Cause.SERVER: "the server lost what it had confirmed in the moments before its end",
    Cause.UNEXPLAINED: "none of these: a fault of the library",
}
"""The documented rules; the numbers are those of docs/guarantees.md."""


@attrs.frozen
class Again:
    """One delivery that was followed by another.

    Attributes:
        cause: Why.
        message_id: Of which message.
        handled: Whether the earlier delivery was handled, and the message again later: a
            duplicate.
        waited: Microseconds from the last grant of the lease to the next delivery, where the
            lease had to pass; else None.
    """

    cause: Cause
    message_id: str
    handled: bool
    waited: int | None = None


def agains(stories: Mapping[str, Story], end: End) -> Iterator[Again]:
    """Say of each delivery that was followed by another why it was."""
    delays = _delays(stories)
    for message_id, story in stories.items():
        handed = deliveries(story)
        handled = {event.token for event in of(story, "handled")}
        for position, (before, after) in enumerate(pairwise(handed), start=1):
            cause = _cause(before, after, story, end, delays)
            later = any(delivery.token in handled for delivery in handed[position:])
            waited = None
            if cause in _AFTER_THE_LEASE:
                waited = after.claimed - lease_end(before, story, end) + before.lease
            yield Again(cause, message_id, before.token in handled and later, waited)


_AFTER_THE_LEASE = frozenset({Cause.KILLED, Cause.SUSPENDED, Cause.CUT_OFF, Cause.OUTLASTED})


def _cause(before: Event, after: Event, story: Story, end: End, delays: Sequence[Window]) -> Cause:
    returns = given_back(before, story, end)
    if returns:
        released = any(event.verb == "release" for event in returns)
        return Cause.RELEASED if released else Cause.RETRIED
    acked = any(event.token == before.token for event in effective(story, {"ack"}))
    if acked or after.claimed < lease_end(before, story, end):
        return Cause.SERVER if touched(story, end) else Cause.UNEXPLAINED
    if origin_of(before.process) in end.killed and not _is_answered(before, story):
        return Cause.KILLED
    held = Window(before.claimed - end.clock_offset, after.claimed - end.clock_offset)
    if _met(held, origin_of(before.process), end.stops):
        return Cause.SUSPENDED
    return Cause.CUT_OFF if _met(held, before.process, delays) else Cause.OUTLASTED


def _is_answered(delivery: Event, story: Story) -> bool:
    acks = of(story, "settled", {"ack"})
    return any(e.token == delivery.token and e.outcome != UNCERTAIN for e in acks)


def _met(held: Window, process: str, windows: Sequence[Window]) -> bool:
    """Whether something of a process overlaps the time for which it held a message."""
    return any(
        window.process == process and window.begin < held.end and window.end > held.begin
        for window in windows
    )


def _delays(stories: Mapping[str, Story]) -> list[Window]:
    """Return when calls of processes took a good part of a lease, or raised: faults met them.

    A process that is held up in one call holds up all that it has in hand.
    """
    return [delay for story in stories.values() for delay in _delays_of(story)]


def _delays_of(story: Story) -> Iterator[Window]:
    leases = {event.token: event.lease for event in of(story, "received")}
    asked: dict[tuple[str, str, str], int] = {}
    for event in story:
        key = (event.process, event.token, event.verb)
        if event.kind == "settling":
            asked[key] = event.at
        elif event.kind == "settled":
            begin = asked.get(key, event.at)
            slow = event.at - begin > leases.get(event.token, 0) * _GOOD_PART
            if slow or event.outcome == UNCERTAIN:
                yield Window(begin, event.at, event.process)
