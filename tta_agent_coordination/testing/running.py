"""Running a worker until it has nothing left to do."""

from __future__ import annotations

import threading
import time

import attrs

from tta_agent_coordination import checks
from tta_agent_coordination.delivery import InboxStats
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.worker.core import AgentWorker

DEFAULT_TIMEOUT = 10.0
"""Seconds in which a worker has to become idle."""
_LOOK_INTERVAL = 0.002


@attrs.frozen
class WorkSummary:
    """What a worker did until it was idle.

    Attributes:
        handled: Deliveries that were handled and acknowledged, since the worker was started or
            since the last `run_until_idle`.
        failed: Deliveries whose handler raised, likewise.
        dead: Dead letters that the inboxes of the worker hold.
        delayed: Messages that they hold which are not due yet; retries among them.
    """

    handled: int
    failed: int
    dead: int
    delayed: int


def run_until_idle(worker: AgentWorker, *, timeout: float = DEFAULT_TIMEOUT) -> WorkSummary:
    """Let a worker serve until its inboxes hold nothing that can be handled now.

    A worker that is not started yet is started, and stopped at the end. Messages that handlers
    send to agents of the same worker are handled too. What is delayed stays: move the clock and
    call it again.

    Args:
        worker: Any; it may be served by other workers at the same time.
        timeout: Seconds it may take.

    Raises:
        TimeoutError: It was not idle by then; the text says what is left. A lease that the test
            itself holds on one of the inboxes counts as something left.
    """
    checks.instance_of("worker", worker, AgentWorker)
    end = time.monotonic() + checks.duration("timeout", timeout)
    begun_here = not worker.health().running
    worker.start()
    tally, idle = worker.internals.tally, False
    try:
        idle, stats = _settled(worker, end)
    finally:
        if begun_here:
            worker.stop(drain=idle)
    if not idle:
        raise TimeoutError(f"the worker was not idle within {timeout:g} s: {_told(worker, stats)}")
    handled, failed = tally.take()
    return WorkSummary(
        handled=handled,
        failed=failed,
        dead=sum(one.dead for one in stats.values()),
        delayed=sum(one.delayed for one in stats.values()),
    )


def _settled(worker: AgentWorker, end: float) -> tuple[bool, dict[AgentId, InboxStats]]:
    """Wait until nothing is left, or until `end`; return whether, and what was seen last."""
    pause = threading.Event()
    while True:
        # A handler may fill an inbox that was seen empty: so none may begin while they are seen.
        begun = worker.internals.tally.begun
        idle = not worker.health().busy_threads
        stats = _look(worker)
        idle = idle and not any(sum(one.ready.values()) + one.leased for one in stats.values())
        if idle and worker.internals.tally.begun == begun:
            return True, stats
        if time.monotonic() >= end:
            return False, stats
        pause.wait(_LOOK_INTERVAL)


def _look(worker: AgentWorker) -> dict[AgentId, InboxStats]:
    coordinator, inboxes = worker.coordinator, worker.internals.inboxes
    for inbox in inboxes:
        coordinator.recover_pending(inbox)  # what is due counts as ready
    return {inbox: coordinator.stats(inbox) for inbox in inboxes}


def _told(worker: AgentWorker, stats: dict[AgentId, InboxStats]) -> str:
    inboxes = [
        f"{inbox} has {sum(one.ready.values())} ready and {one.leased} leased"
        for inbox, one in stats.items()
    ]
    health = worker.health()
    return f"{', '.join(inboxes)}; the last error: {health.last_error}"
