"""What changed between two looks at the registry."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from tta_agent_coordination.agents.record import AgentRecord, Liveness, RegistryEvent
from tta_agent_coordination.agents.record import RegistryEventType as Type
from tta_agent_coordination.errors import CoordinationError
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.registry.store import Look

logger = logging.getLogger("tta_agent_coordination")

_NOBODY = Look([], [])


class Watch:
    """Looks at the registry now and then, and says what changed.

    Attributes:
        interval: Seconds between two looks.
        closed: Set once there is nothing to look at any more.
    """

    def __init__(
        self,
        look: Callable[[], Look],
        interval: float,
        closed: threading.Event,
        end: float | None,
    ) -> None:
        """Begin to watch; nobody has looked yet.

        Args:
            look: Looks at all records.
            interval: Seconds.
            closed: Ends it.
            end: On the monotonic clock; None: never.
        """
        self.interval = interval
        self.closed = closed
        self._look = look
        self._end = end
        self._before: Look | None = None
        self._failing = False

    @property
    def pause(self) -> float:
        """Seconds until the next look; 0 when there is to be none."""
        if self.closed.is_set():
            return 0.0
        left = self.interval if self._end is None else self._end - time.monotonic()
        return max(min(self.interval, left), 0.0)

    def look(self) -> list[RegistryEvent]:
        """Look once, and return what changed since the last time.

        It raises what the first look raises; later it goes on, so that an outage of the server
        ends no watch.
        """
        if self._before is None:
            self._before = first = self._look()
            # What was over by then did not happen while somebody watched.
            return list(changes(_NOBODY, Look(first.present, [])))
        try:
            after = self._look()
        except CoordinationError as error:
            if not self._failing and not self.closed.is_set():
                logger.warning(
                    "the registry cannot be watched for now: %s",
                    error,
                    extra={"event": "watch_failing"},
                )
            self._failing = True
            return []
        self._failing = False
        before, self._before = self._before, after
        return list(changes(before, after))

    def events(self) -> Iterator[RegistryEvent]:
        """Look now, and yield what changes from then on, waiting between looks."""
        return self._events(self.look())

    def _events(self, first: list[RegistryEvent]) -> Iterator[RegistryEvent]:
        yield from first
        while (pause := self.pause) and not self.closed.wait(pause):
            yield from self.look()


def changes(before: Look, after: Look) -> Iterator[RegistryEvent]:
    """Yield what happened between two looks, in the order of ids."""
    old, new = _by_id(before.present), _by_id(after.present)
    over, ended = _by_id(before.ended), _by_id(after.ended)
    for agent_id in sorted(old.keys() | new.keys() | ended.keys(), key=str):
        was, last = old.get(agent_id), ended.get(agent_id)
        known = was or over.get(agent_id)
        if last is not None and (known is None or known.epoch < last.epoch):
            # It began and ended meanwhile.
            yield _event(Type.REGISTERED if was is None else Type.SUPERSEDED, last)
            was = last
        yield from _events(was, new.get(agent_id))


def _by_id(records: list[AgentRecord]) -> Mapping[AgentId, AgentRecord]:
    return {record.agent_id: record for record in records}


def _event(kind: Type, record: AgentRecord) -> RegistryEvent:
    return RegistryEvent(kind, record.agent_id, record)


def _events(old: AgentRecord | None, new: AgentRecord | None) -> Iterator[RegistryEvent]:
    if new is None:
        if old is not None:
            yield _event(Type.DEREGISTERED, old)
        return
    if old is None:
        yield _event(Type.REGISTERED, new)
    else:
        if new.epoch != old.epoch:
            yield _event(Type.SUPERSEDED, new)
        if new.status != old.status:
            yield _event(Type.STATUS_CHANGED, new)
    if new.liveness in _ILL and (old is None or new.liveness != old.liveness):
        yield _event(_ILL[new.liveness], new)


_ILL = {Liveness.SUSPECT: Type.SUSPECT, Liveness.DEAD: Type.DEAD}
