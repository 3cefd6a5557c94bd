"""Says what is wrong with the history of some processes, by the promises of the contract."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise

import attrs

from tta_agent_coordination.chaos.history import UNCERTAIN, Event, origin_of

GIVEN_BACK = frozenset({"nack", "release"})
EFFECTIVE = frozenset({"DONE", "ALREADY_DONE"})
REFUSED = frozenset({"STALE", "UNKNOWN"})

Story = Sequence[Event]
"""The events of one message, in the order of their happening."""


@attrs.frozen
class Window:
    """A span of the monotonic clock, in microseconds.

    Attributes:
        begin: When it begins.
        end: When it ends.
        process: Whom it concerns, where it concerns one.
    """

    begin: int
    end: int
    process: str = ""

    def holds(self, at: int) -> bool:
        """Whether an instant is in it."""
        return self.begin <= at <= self.end


@attrs.frozen
class End:
    """What there was when all was over, and what was done to it.

    Attributes:
        stored: Ids that were ready, delayed or leased.
        dead: Ids of the dead letters.
        killed: Names of the processes that were killed.
        deliveries: How often a message may be handed out.
        clock_offset: What the server's clock shows more than the monotonic one, at the least:
            microseconds.
        replies_lost: Whether replies were lost on the way: a claim that is repeated is dated by
            its repetition, so that nothing can be said of its place among the others.
        calls_failed: Whether calls raised because of a fault: what a claim handed out may have
            been seen by nobody, and cost an attempt.
        replicated: Whether replicas have what was confirmed: then no server may lose it.
        losses: Spans in which the server may have lost what it confirmed.
        stops: Spans in which a process was stopped.
    """

    stored: AbstractSet[str] = frozenset()
    dead: AbstractSet[str] = frozenset()
    killed: AbstractSet[str] = frozenset()
    deliveries: int = 4
    clock_offset: int = 0
    replies_lost: bool = False
    calls_failed: bool = False
    replicated: bool = False
    losses: Sequence[Window] = ()
    stops: Sequence[Window] = ()


@attrs.frozen
class Problem:
    """A promise that was broken.

    Attributes:
        kind: The word for it; ``lost`` when a message is nowhere.
        message_id: Of which message.
        text: What happened.
        by_server: Whether it was the server that lost what it had confirmed.
    """

    kind: str
    message_id: str
    text: str
    by_server: bool = False

    def __str__(self) -> str:
        """Name the message, and what happened."""
        return f"{self.message_id}: {self.text}"


def stories(events: Iterable[Event]) -> Mapping[str, Story]:
    """Divide events by message."""
    by_message: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_message[event.message_id].append(event)
    return by_message


def problems(events: Sequence[Event], end: End) -> list[Problem]:
    """Return every promise that was broken; empty if none was."""
    by_message = stories(events)
    found = [
        Problem(kind, message_id, text)
        for message_id, story in by_message.items()
        for kind, check in _CHECKS.items()
        for text in check(story, end)
    ]
    if not end.replies_lost:
        found += _out_of_order(events)
    found += _shared_tokens(events)
    return [
        attrs.evolve(problem, by_server=_is_by_server(problem, by_message, end))
        for problem in found
    ]


def _is_by_server(problem: Problem, by_message: Mapping[str, Story], end: End) -> bool:
    kept = end.replicated and problem.kind == "lost"
    return not kept and touched(by_message[problem.message_id], end)


def touched(story: Story, end: End) -> bool:
    """Whether something happened to a message while the server may have lost its writes."""
    return any(window.holds(event.at) for window in end.losses for event in story)


def of(story: Iterable[Event], kind: str, verbs: AbstractSet[str] = frozenset()) -> list[Event]:
    """Return the events of one kind, or of that and some verbs."""
    return [event for event in story if event.kind == kind and (not verbs or event.verb in verbs)]


def effective(story: Story, verbs: AbstractSet[str]) -> list[Event]:
    """Return the settlements that counted."""
    return [event for event in of(story, "settled", verbs) if event.outcome in EFFECTIVE]


def in_doubt(story: Story, end: End, verbs: AbstractSet[str]) -> list[Event]:
    """Return the intents of which it is not known whether they counted.

    Their process was killed before it wrote the outcome, or its call raised, each time.
    """
    settled = of(story, "settled", verbs)
    known = {(e.process, e.token, e.verb) for e in settled if e.outcome != UNCERTAIN}
    raised = {(e.process, e.token, e.verb) for e in settled if e.outcome == UNCERTAIN}
    return [
        event
        for event in of(story, "settling", verbs)
        if (key := (event.process, event.token, event.verb)) not in known
        and (key in raised or origin_of(event.process) in end.killed)
    ]


def deliveries(story: Story) -> list[Event]:
    """Return the times a message was handed out and somebody saw it, in order."""
    return sorted(of(story, "received"), key=lambda event: (event.claimed, event.attempts))


def given_back(delivery: Event, story: Story, end: End) -> list[Event]:
    """Return what gave a delivery back, or may have."""
    return [
        event
        for event in effective(story, GIVEN_BACK) + in_doubt(story, end, GIVEN_BACK)
        if event.token == delivery.token
    ]


def lease_end(delivery: Event, story: Story, end: End) -> int:
    """Return the earliest instant, by the server's clock, at which a lease can have ended."""
    ends = delivery.claimed + delivery.lease
    confirmed = [e for e in effective(story, {"extend"}) if e.token == delivery.token]
    for asked in of(story, "settling", {"extend"}):
        if asked.token == delivery.token:
            extended = asked.at + end.clock_offset + asked.lease
            sure = any(e.process == asked.process and e.at >= asked.at for e in confirmed)
            ends = extended if sure else min(ends, extended)
    return ends


def _acked(story: Story) -> set[str]:
    """Tokens whose ack counted; a repeated one answers ALREADY_DONE."""
    return {event.token for event in effective(story, {"ack"})}


def _lost(story: Story, end: End) -> Iterator[str]:
    sent = of(story, "sent")
    message_id = story[0].message_id
    if not sent or _acked(story) or message_id in end.stored or message_id in end.dead:
        return
    if not in_doubt(story, end, {"ack"}):
        yield "sent and confirmed, and now neither handled, nor dead, nor stored"


def _doubled(story: Story, end: End) -> Iterator[str]:
    acked = _acked(story)
    if len(acked) > 1:
        yield f"acked with effect under {len(acked)} tokens: {sorted(acked)}"
    if acked and story[0].message_id in {*end.stored, *end.dead}:
        yield "acked, and still there"


def _invented(story: Story, _end: End) -> Iterator[str]:
    if not of(story, "sending"):
        yield "received, and nobody sent it"


def _too_often(story: Story, end: End) -> Iterator[str]:
    most = max((event.attempts for event in of(story, "received")), default=0)
    if most > end.deliveries:
        yield f"handed out {most} times, and {end.deliveries} are allowed"


def _unexplained(story: Story, end: End) -> Iterator[str]:
    """A message comes again when its lease has passed or it was given back, and not otherwise."""
    for before, after in pairwise(deliveries(story)):
        returns = given_back(before, story, end)
        early = lease_end(before, story, end) - after.claimed
        if not returns and early > 0:
            yield (
                f"{after.process} got it while {before.process} held it, {early} microseconds "
                "before the lease ended"
            )
        released = any(event.verb == "release" for event in returns)
        counted = after.attempts - before.attempts
        if counted < (0 if released else 1):
            yield f"attempts went from {before.attempts} to {after.attempts}"
        if counted > 1 and not (end.killed or end.calls_failed or end.stops):
            yield f"attempts went from {before.attempts} to {after.attempts}, and no fault says why"


def _after_the_end(story: Story, _end: End) -> Iterator[str]:
    """An ack counts only for the latest delivery, and there is none after it."""
    acked = _acked(story)
    for delivery, later in pairwise(deliveries(story)):
        if delivery.token in acked:
            yield f"handed out to {later.process} after {delivery.process}, whose ack counted"


def _refused(story: Story, end: End) -> Iterator[str]:
    """While a lease lasts, the token of it is good for anything that was not done yet."""
    by_token = {delivery.token: delivery for delivery in of(story, "received")}
    given = {event.token for event in effective(story, GIVEN_BACK | {"ack"})}
    given |= {event.token for event in in_doubt(story, end, GIVEN_BACK | {"ack"})}
    for event in of(story, "settled"):
        delivery = by_token.get(event.token)
        if event.outcome not in REFUSED or delivery is None or event.token in given:
            continue
        early = lease_end(delivery, story, end) - (event.at + end.clock_offset)
        if early > 0:
            yield (
                f"{event.verb} by {event.process} was {event.outcome} {early} microseconds before "
                "its lease ended"
            )


_CHECKS = {
    "lost": _lost,
    "doubled": _doubled,
    "invented": _invented,
    "too often": _too_often,
    "unexplained": _unexplained,
    "after the end": _after_the_end,
    "refused": _refused,
}


def _shared_tokens(events: Iterable[Event]) -> Iterator[Problem]:
    holders: dict[str, str] = {}
    for event in of(events, "received"):
        if event.token in holders:
            text = f"{event.process} got a token of {holders[event.token]}"
            yield Problem("token", event.message_id, text)
        holders[event.token] = event.process


def _out_of_order(events: Iterable[Event]) -> Iterator[Problem]:
    """First deliveries of one producer's messages of one priority are in the order of sending."""
    first: dict[str, Event] = {}
    sent: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for event in events:
        if event.kind == "received" and event.attempts == 1:
            known = first.get(event.message_id)
            if known is None or event.claimed < known.claimed:
                first[event.message_id] = event
        elif event.kind == "sent":
            sent[event.process, event.priority].append(event)
    for messages in sent.values():
        met = [first[event.message_id] for event in messages if event.message_id in first]
        for earlier, later in pairwise(met):
            if (later.claimed, later.position) < (earlier.claimed, earlier.position):
                text = f"came before {earlier.message_id}, which was sent first"
                yield Problem("order", later.message_id, text)
