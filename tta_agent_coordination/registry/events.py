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


def watch(
    look: Callable[[], Sequence[AgentRecord]],
    interval: float,
    closed: threading.Event,
    end: float | None,
) -> Iterator[RegistryEvent]:
    """Look every `interval` seconds and yield what changed.

    It raises what the first look raises; later it goes on, so that an outage of the server ends
    no watch.

    Args:
        look: Returns all records.
        interval: Seconds.
        closed: Ends it.
        end: On the monotonic clock; None: never.
    """
    before = _by_id(look())
    yield from changes(_NOBODY, before)
    failing = False
    while True:
        left = interval if end is None else min(interval, end - time.monotonic())
        if left <= 0 or closed.wait(left):
            return
        try:
            after = _by_id(look())
        except CoordinationError as error:
            if not failing and not closed.is_set():
                logger.warning("the registry cannot be watched for now: %s", error)
            failing = True
        else:
            failing = False
            yield from changes(before, after)
            before = after


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
