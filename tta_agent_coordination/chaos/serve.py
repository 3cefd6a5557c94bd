"""An `AgentWorker` in a process of its own, which writes down what its threads do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentWorker,
    CoordinationError,
    LeaseOutcome,
    RedisMessageCoordinator,
    RetryLater,
    current_message,
)
from tta_agent_coordination.chaos.consume import have_effect
from tta_agent_coordination.chaos.history import UNCERTAIN
from tta_agent_coordination.chaos.settings import INBOX, LEASE
from tta_agent_coordination.chaos.work import Work
from tta_agent_coordination.coordinator.feed import Acks, Asked, Feed, Fetched, Refused
from tta_agent_coordination.coordinator.inbox import Inbox
from tta_agent_coordination.coordinator.internals import CoordinatorInternals
from tta_agent_coordination.coordinator.leases import Failure
from tta_agent_coordination.transport.blocked import Sent

THREADS = 4

_MICROSECONDS = 1_000_000


def serve(work: Work) -> None:
    """Serve the shared inbox, and one of its own, until told to finish."""
    coordinator = work.make(WatchedCoordinator)
    coordinator.work = work
    worker = AgentWorker(
        Clerk(work), coordinator, threads=THREADS, visibility_timeout=LEASE, drain_timeout=LEASE
    )
    with coordinator, worker:
        while work.go_on():
            work.wait()


class Clerk(Agent):
    """Handles what comes, and answers who asks."""

    def __init__(self, work: Work) -> None:
        """Serve under the name of the process."""
        super().__init__(AgentId(INBOX.type, work.name))
        self._work = work

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Handle a message; now and then ask for another delivery instead."""
        received = current_message().received
        if "number" in payload:
            if self._work.dice.random() < 0.03:
                raise RetryLater(0.05)
            have_effect(self._work, received)
        return {"name": self._work.name}


class WatchedCoordinator(RedisMessageCoordinator):
    """A coordinator whose feeds write down what passes through them."""

    work: Work

    @property
    def internals(self) -> CoordinatorInternals:
        """Those of any coordinator, but for the feeds."""
        return cast("CoordinatorInternals", WatchedInternals(super().internals, self.work))


class Watched:
    """What it does not write down goes to the original."""

    def __init__(self, original: Any, work: Work) -> None:
        """Stand before `original`, and write into the diary of `work`."""
        self._original = original
        self._work = work

    def __getattr__(self, name: str) -> Any:
        """Return what the original has under this name."""
        return getattr(self._original, name)

    def settle(
        self,
        verb: str,
        tokens: Sequence[str],
        call: Callable[[], Any],
        outcomes: Callable[[Any], Sequence[LeaseOutcome]],
        lease: int = 0,
    ) -> Any:
        """Write down the intent, make the call, and write down what came of it."""
        self.intend(verb, tokens, lease)
        return self.conclude(verb, tokens, call, outcomes, lease)

    def intend(self, verb: str, tokens: Sequence[str], lease: int = 0) -> None:
        """Write down the intent."""
        for token in tokens:
            known = {"token": token, "verb": verb, "lease": lease}
            self._work.diary.write("settling", _message_id(token), **known)

    def conclude(
        self,
        verb: str,
        tokens: Sequence[str],
        call: Callable[[], Any],
        outcomes: Callable[[Any], Sequence[LeaseOutcome]],
        lease: int = 0,
    ) -> Any:
        """Make the call, and write down what came of it: None is no answer."""
        names = [UNCERTAIN] * len(tokens)
        try:
            result = call()
            if result is not None:
                names = [outcome.name for outcome in outcomes(result)]
        except CoordinationError:
            self._came(verb, tokens, names, lease)
            raise
        self._came(verb, tokens, names, lease)
        return result

    def _came(self, verb: str, tokens: Sequence[str], names: Sequence[str], lease: int) -> None:
        for token, name in zip(tokens, names, strict=True):
            known = {"token": token, "verb": verb, "lease": lease}
            self._work.diary.write("settled", _message_id(token), **known, outcome=name)


class WatchedInternals(Watched):
    """The internals of a coordinator whose feeds write down what passes through them."""

    def feed(self, agent_ids: Sequence[AgentId]) -> list[Feed]:
        """See `CoordinatorInternals.feed`."""
        feeds = self._original.feed(agent_ids)
        return [cast("Feed", WatchedFeed(feed, self._work)) for feed in feeds]


class WatchedFeed(Watched):
    """A feed that writes down what it fetches and acknowledges."""

    def __init__(self, feed: Feed, work: Work) -> None:
        """Stand before `feed`."""
        super().__init__(feed, work)
        self.inbox = cast("Inbox", WatchedInbox(feed.inbox, work))

    def exchange(self, acks: Acks, most: int, visibility: float) -> tuple[list[Fetched], Refused]:
        """See `Feed.exchange`."""
        self.intend("ack", _tokens(acks))
        call = partial(self._original.exchange, acks, most, visibility)
        return self._note(self._settled(acks, call, _refused), visibility)

    def begin(self, acks: Acks, most: int, visibility: float) -> tuple[Asked, Sent]:
        """See `Feed.begin`."""
        tokens = _tokens(acks)
        self.intend("ack", tokens)
        try:
            return self._original.begin(acks, most, visibility)
        except CoordinationError:
            self._came("ack", tokens, [UNCERTAIN] * len(tokens), 0)
            raise

    def finish(self, asked: Asked, sent: Sent) -> tuple[list[Fetched], Refused] | None:
        """See `Feed.finish`."""
        call = partial(self._original.finish, asked, sent)
        heard = self._settled({**asked.apart, **asked.acks}, call, _refused)
        return None if heard is None else self._note(heard, asked.visibility)

    def ack(self, acks: Acks) -> Refused:
        """See `Feed.ack`."""
        self.intend("ack", _tokens(acks))
        return self._settled(acks, partial(self._original.ack, acks), lambda result: result)

    def _note(
        self, heard: tuple[list[Fetched], Refused], visibility: float
    ) -> tuple[list[Fetched], Refused]:
        ours = [delivery for inbox, delivery in heard[0] if inbox == INBOX]
        for position, delivery in enumerate(ours):
            self._work.note_delivery(delivery.decode(), visibility, position)
        return heard

    def _settled(
        self, acks: Acks, call: Callable[[], Any], refused_of: Callable[[Any], Refused]
    ) -> Any:
        tokens = _tokens(acks)

        def outcomes(result: Any) -> list[LeaseOutcome]:
            refused = {delivery.token: outcome for delivery, outcome in refused_of(result)}
            return [refused.get(token, LeaseOutcome.DONE) for token in tokens]

        return self.conclude("ack", tokens, call, outcomes)


class WatchedInbox(Watched):
    """Writes down what is given back to the shared inbox, and extended; others are not judged."""

    def nack(self, agent_id: AgentId, token: str, failure: Failure) -> tuple[LeaseOutcome, str]:
        """See `Inbox.nack`."""
        call = partial(self._original.nack, agent_id, token, failure)
        if agent_id != INBOX:
            return call()
        return self.settle("nack", [token], call, lambda result: [result[0]])

    def release(self, agent_id: AgentId, token: str) -> LeaseOutcome:
        """See `Inbox.release`."""
        call = partial(self._original.release, agent_id, token)
        if agent_id != INBOX:
            return call()
        return self.settle("release", [token], call, lambda result: [result])

    def extend(
        self, agent_id: AgentId, tokens: Sequence[str], visibility: float
    ) -> list[LeaseOutcome]:
        """See `Inbox.extend`."""
        lease = round(visibility * _MICROSECONDS)
        call = partial(self._original.extend, agent_id, tokens, visibility)
        if agent_id != INBOX:
            return call()
        return self.settle("extend", tokens, call, lambda result: result, lease)


def _tokens(acks: Acks) -> list[str]:
    return [delivery.token for delivery in acks.get(INBOX, ())]


def _refused(heard: tuple[list[Fetched], Refused]) -> Refused:
    return heard[1]


def _message_id(token: str) -> str:
    return token.partition(":")[2]
