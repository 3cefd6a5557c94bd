"""What changed between two looks at the registry."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from tta_agent_coordination.agents.record import (
    AgentRecord,
    Liveness,
    RegistryEvent,
    RegistryEventType,
)
from tta_agent_coordination.errors import CoordinationError
from tta_agent_coordination.identity import AgentId

logger = logging.getLogger("tta_agent_coordination")

Records = Mapping[AgentId, AgentRecord]
_NOBODY: Records = {}


class Watch:
    """Looks at the registry now and then, and says what changed.

    Attributes:
        interval: Seconds between two looks.
        closed: Set once there is nothing to look at any more.
    """

    def __init__(
        self,
        look: Callable[[], Sequence[AgentRecord]],
        interval: float,
        closed: threading.Event,
        end: float | None,
    ) -> None:
        """Begin to watch; nobody has looked yet.

        Args:
            look: Returns all records.
            interval: Seconds.
            closed: Ends it.
            end: On the monotonic clock; None: never.
        """
        self.interval = interval
        self.closed = closed
        self._look = look
        self._end = end
        self._before: Records | None = None
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
            self._before = _by_id(self._look())
            return list(changes(_NOBODY, self._before))
        try:
            after = _by_id(self._look())
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
        """Yield what changes, waiting between looks."""
        yield from self.look()
        while (pause := self.pause) and not self.closed.wait(pause):
            yield from self.look()


def changes(before: Records, after: Records) -> Iterator[RegistryEvent]:
    """Yield what happened between two looks, in the order of ids."""
    for agent_id in sorted(before.keys() | after.keys(), key=str):
        old, new = before.get(agent_id), after.get(agent_id)
        for kind in _kinds(old, new):
            yield RegistryEvent(kind, agent_id, after.get(agent_id) or before[agent_id])


def _by_id(records: Sequence[AgentRecord]) -> Records:
    return {record.agent_id: record for record in records}


def _kinds(old: AgentRecord | None, new: AgentRecord | None) -> Iterator[RegistryEventType]:
    if old is None:
        yield RegistryEventType.REGISTERED
    elif new is None:
        yield RegistryEventType.DEREGISTERED
    else:
        if new.epoch != old.epoch:
            yield RegistryEventType.SUPERSEDED
        if new.status != old.status:
            yield RegistryEventType.STATUS_CHANGED
    if new is not None and (old is None or new.liveness != old.liveness):
        if new.liveness is Liveness.SUSPECT:
            yield RegistryEventType.SUSPECT
        elif new.liveness is Liveness.DEAD:
            yield RegistryEventType.DEAD
