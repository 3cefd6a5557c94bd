"""Says what is wrong with the history of some processes, by the promises of the contract."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise

from tests.processes.history import Event

GIVEN_BACK = frozenset({"nack", "release"})
EFFECTIVE = frozenset({"DONE", "ALREADY_DONE"})


@dataclass(frozen=True)
class End:
    """What there was when all was over.

    Attributes:
        stored: Ids that were ready, delayed or leased.
        dead: Ids of the dead letters.
        killed: Names of the processes that were killed.
        deliveries: How often a message may be handed out.
        clock_offset: What the server's clock shows more than the monotonic one: microseconds.
        replies_lost: Whether replies were lost on the way: a claim that is repeated is dated by
            its repetition, so that nothing can be said of its place among the others.
    """

    stored: AbstractSet[str] = frozenset()
    dead: AbstractSet[str] = frozenset()
    killed: AbstractSet[str] = frozenset()
    deliveries: int = 4
    clock_offset: int = 0
    replies_lost: bool = False


def problems(events: Sequence[Event], end: End) -> list[str]:
    """Return every promise that was broken, as text; empty if none was."""
    by_message: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_message[event.message_id].append(event)
    found: list[str] = []
    for message_id, story in by_message.items():
        for check in (_lost, _doubled, _invented, _too_often, _unexplained, _after_the_end):
            found += (f"{message_id}: {text}" for text in check(story, end))
    if not end.replies_lost:
        found += _out_of_order(events)
    found += _shared_tokens(events)
    return found


def _of(story: Iterable[Event], kind: str, verbs: AbstractSet[str] = frozenset()) -> list[Event]:
    return [event for event in story if event.kind == kind and (not verbs or event.verb in verbs)]


def _effective(story: Iterable[Event], verbs: AbstractSet[str]) -> list[Event]:
    return [event for event in _of(story, "settled", verbs) if event.outcome in EFFECTIVE]


def _acked(story: Iterable[Event]) -> set[str]:
    """Tokens whose ack counted; a repeated one answers ALREADY_DONE."""
    return {event.token for event in _effective(story, {"ack"})}


def _in_doubt(story: Sequence[Event], end: End, verbs: AbstractSet[str]) -> list[Event]:
    """Intents whose outcome is not known: their process was killed before it wrote it."""
    known = {(e.process, e.token, e.verb) for e in _of(story, "settled")}
    return [
        event
        for event in _of(story, "settling", verbs)
        if (event.process, event.token, event.verb) not in known and event.process in end.killed
    ]


def _lost(story: Sequence[Event], end: End) -> Iterator[str]:
    sent = _of(story, "sent")
    message_id = story[0].message_id
    if not sent or _acked(story) or message_id in end.stored or message_id in end.dead:
        return
    if not _in_doubt(story, end, {"ack"}):
        yield "sent and confirmed, and now neither handled, nor dead, nor stored"


def _doubled(story: Sequence[Event], end: End) -> Iterator[str]:
    acked = _acked(story)
    if len(acked) > 1:
        yield f"acked with effect under {len(acked)} tokens: {sorted(acked)}"
    if acked and story[0].message_id in end.stored | end.dead:
        yield "acked, and still there"


def _invented(story: Sequence[Event], _end: End) -> Iterator[str]:
    if not _of(story, "sending"):
        yield "received, and nobody sent it"


def _too_often(story: Sequence[Event], end: End) -> Iterator[str]:
    most = max((event.attempts for event in _of(story, "received")), default=0)
    if most > end.deliveries:
        yield f"handed out {most} times, and {end.deliveries} are allowed"


def _deliveries(story: Iterable[Event]) -> list[Event]:
    return sorted(_of(story, "received"), key=lambda event: event.claimed)


def _unexplained(story: Sequence[Event], end: End) -> Iterator[str]:
    """A message comes again when its lease has passed or it was given back, and not otherwise."""
    for before, after in pairwise(_deliveries(story)):
        given_back = [
            event
            for event in _effective(story, GIVEN_BACK) + _in_doubt(story, end, GIVEN_BACK)
            if event.token == before.token
        ]
        early = _lease_end(before, story, end) - after.claimed
        if not given_back and early > 0:
            yield (
                f"{after.process} got it while {before.process} held it, {early} microseconds "
                "before the lease ended"
            )
        released = any(event.verb == "release" for event in given_back)
        counted = after.attempts - before.attempts
        if counted < (0 if released else 1):
            yield f"attempts went from {before.attempts} to {after.attempts}"
        if counted > 1 and not end.killed:
            yield f"attempts went from {before.attempts} to {after.attempts}, and nobody was killed"


def _lease_end(delivery: Event, story: Sequence[Event], end: End) -> int:
    """The earliest instant, by the server's clock, at which a lease can have ended."""
    ends = delivery.claimed + delivery.lease
    confirmed = {e.process for e in _effective(story, {"extend"}) if e.token == delivery.token}
    for asked in _of(story, "settling", {"extend"}):
        if asked.token == delivery.token:
            extended = asked.at + end.clock_offset + asked.lease
            ends = extended if asked.process in confirmed else min(ends, extended)
    return ends


def _after_the_end(story: Sequence[Event], _end: End) -> Iterator[str]:
    """An ack counts only for the latest delivery, and there is none after it."""
    deliveries, acked = _deliveries(story), _acked(story)
    for delivery, later in pairwise(deliveries):
        if delivery.token in acked:
            yield f"handed out to {later.process} after {delivery.process}, whose ack counted"


def _shared_tokens(events: Iterable[Event]) -> Iterator[str]:
    holders: dict[str, str] = {}
    for event in _of(events, "received"):
        if event.token in holders:
            yield f"{event.message_id}: {event.process} got a token of {holders[event.token]}"
        holders[event.token] = event.process


def _out_of_order(events: Sequence[Event]) -> Iterator[str]:
    """First deliveries of one producer's messages of one priority are in the order of sending."""
    first: dict[str, Event] = {}
    for event in _of(events, "received"):
        if event.attempts == 1:
            known = first.get(event.message_id)
            if known is None or event.claimed < known.claimed:
                first[event.message_id] = event
    sent: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for event in _of(events, "sent"):
        sent[event.process, event.priority].append(event)
    for messages in sent.values():
        met = [first[event.message_id] for event in messages if event.message_id in first]
        for earlier, later in pairwise(met):
            if (later.claimed, later.position) < (earlier.claimed, earlier.position):
                yield f"{later.message_id} came before {earlier.message_id}, which was sent first"
