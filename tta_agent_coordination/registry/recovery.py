"""Restarting agents that are unwell or dead: with a back-off, and not for ever."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

import attrs

from tta_agent_coordination import checks
from tta_agent_coordination.agents.record import AgentRecord
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.threads import PerProcess

logger = logging.getLogger("tta_agent_coordination")

Hook = Callable[[AgentRecord], object]


@attrs.frozen(kw_only=True)
class RestartPolicy:
    """How often a restart is tried.

    Attributes:
        limit: Restarts of one agent within `window`. After that the fallback is called instead, and
            none is tried until the last of them is older than `window`.
        window: Seconds.
        backoff_base: Seconds between the first restart and the second; doubled each time.
        backoff_max: Seconds between two restarts at most.
    """

    limit: int = 5
    window: float = 600.0
    backoff_base: float = 1.0
    backoff_max: float = 60.0

    def __attrs_post_init__(self) -> None:
        """Check the values."""
        checks.count("limit", self.limit, least=1)
        checks.duration("window", self.window)
        checks.duration("backoff_base", self.backoff_base)
        checks.duration("backoff_max", self.backoff_max)


@attrs.frozen
class RecoverySummary:
    """What one round of recovery did.

    Attributes:
        checked: How many agents were looked at.
        unhealthy: Which were found dead, or unwell by their own health check.
        restarted: For which the restart hook was called and returned.
        waiting: For which it is too early to try again.
        given_up: For which the limit is reached; the fallback was called, once, and returned.
        failed: For which a hook raised.
        moved: How many messages were moved from the inboxes of agents that are dead, or were ended.
    """

    checked: int = 0
    unhealthy: tuple[AgentId, ...] = ()
    restarted: tuple[AgentId, ...] = ()
    waiting: tuple[AgentId, ...] = ()
    given_up: tuple[AgentId, ...] = ()
    failed: tuple[AgentId, ...] = ()
    moved: int = 0


@attrs.define(eq=False)
class _History:
    restarts: deque[float] = attrs.field(factory=deque[float])
    noted: bool = False
    given_up: bool = False
    in_hand: bool = False


@attrs.define(eq=False)
class _Histories:
    of: dict[AgentId, _History] = attrs.field(factory=dict[AgentId, _History])
    lock: threading.Lock = attrs.field(factory=threading.Lock)


class Recovery:
    """Calls the restart hook for agents that need it; one call at a time for each agent."""

    def __init__(self, policy: RestartPolicy) -> None:
        """Begin without hooks."""
        self._policy = policy
        self._restart: Hook | None = None
        self._fallback: Hook | None = None
        self._histories = PerProcess(_Histories)

    def hook(self, restart: Hook, fallback: Hook | None) -> None:
        """Set what is called to restart an agent, and when that was tried too often."""
        self._restart, self._fallback = restart, fallback

    def run(self, unhealthy: Iterable[AgentRecord]) -> dict[str, list[AgentId]]:
        """Call the hooks for these agents; return who was restarted, is waiting and so on."""
        done: dict[str, list[AgentId]] = {}
        records = list(unhealthy)
        if self._restart is not None:
            for record in records:
                done.setdefault(self._treat(record, self._restart), []).append(record.agent_id)
        self._forget_all_but({record.agent_id for record in records})
        return done

    def _treat(self, record: AgentRecord, restart: Hook) -> str:
        histories = self._histories.get()
        with histories.lock:
            history = histories.of.setdefault(record.agent_id, _History())
            decision = self._decide(history)
        if decision not in ("restarted", "giving_up"):
            return decision
        try:
            if decision == "giving_up":
                return self._give_up(record, history)
            return decision if _called(restart, record) else "failed"
        finally:
            history.in_hand = False

    def _decide(self, history: _History) -> str:
        now = time.monotonic()
        while history.restarts and now - history.restarts[0] > self._policy.window:
            history.restarts.popleft()
        if not history.restarts:
            history.noted = history.given_up = False
        if history.given_up:
            return "given_up"
        # The last restart gets its time too, before it is said to have failed.
        if history.in_hand or (
            history.restarts and now - history.restarts[-1] < self._pause(history)
        ):
            return "waiting"
        if len(history.restarts) >= self._policy.limit:
            history.in_hand = True
            return "giving_up"
        history.restarts.append(now)
        history.in_hand = True
        return "restarted"

    def _give_up(self, record: AgentRecord, history: _History) -> str:
        if not history.noted:
            logger.warning(
                "agent %s was restarted %d times in %g s and is given up",
                record.agent_id,
                self._policy.limit,
                self._policy.window,
                extra={"event": "agent_given_up", "agent": str(record.agent_id)},
            )
        history.noted = True
        # One that raises is tried again in the next round: nobody may know of the agent yet.
        history.given_up = self._fallback is None or _called(self._fallback, record)
        return "given_up" if history.given_up else "failed"

    def _pause(self, history: _History) -> float:
        doubled = self._policy.backoff_base * 2.0 ** min(len(history.restarts) - 1, 60)
        return min(doubled, self._policy.backoff_max)

    def _forget_all_but(self, unhealthy: set[AgentId]) -> None:
        """Forget those that are well again and were not restarted for a whole window."""
        long_ago = time.monotonic() - self._policy.window
        histories = self._histories.get()
        with histories.lock:
            histories.of = {
                agent_id: history
                for agent_id, history in histories.of.items()
                if agent_id in unhealthy or max(history.restarts, default=0.0) >= long_ago
            }


def _called(hook: Hook, record: AgentRecord) -> bool:
    try:
        hook(record)
    except Exception:
        logger.exception(
            "the hook for agent %s raised",
            record.agent_id,
            extra={"event": "restart_hook_failed", "agent": str(record.agent_id)},
        )
        return False
    return True
