"""Times of a registry, their defaults, and the relations between them."""

from __future__ import annotations

from typing import Self, TypedDict

import attrs

from tta_agent_coordination import checks
from tta_agent_coordination.errors import ConfigurationError
from tta_agent_coordination.registry.recovery import RestartPolicy

DEFAULT_HEARTBEAT_TTL = 30.0
"""Seconds that a beat is good for."""
BEATS_IN_A_TTL = 3
"""Beats that fit into it, unless an interval is given."""
GRACE_IN_TTLS = 10.0
"""Times the ttl that a record, and the state with it, outlives its last beat."""
LEAST_GRACE_IN_TTLS = 2.5
"""Times the ttl that it must be at least: after two an agent is dead, which is to be seen."""
LONGEST_LOOK_INTERVAL = 1.0
"""Seconds between two looks of ``watch`` at most."""
LONGEST_PATIENCE = 1.0
"""Seconds that a beat waits at most for what agents say of themselves."""
LAST_PATIENCE = 3.0
"""Seconds that the end of a registration waits at most for the last state of its agent."""
SHORTEST_BEAT_TIMEOUT = 1.0
"""Seconds that a beat may take at least: shorter, and a busy machine is taken for a dead one."""


class RegistryOptions(TypedDict, total=False):
    """All options of a `RedisAgentRegistry`; its constructor says what each is."""

    heartbeat_ttl_s: float
    heartbeat_interval_s: float | None
    grace_s: float | None
    call_timeout: float
    restart_policy: RestartPolicy | None


@attrs.frozen
class Times:
    """How often agents beat, and how long they are remembered; all in seconds.

    Attributes:
        ttl: What a beat is good for.
        interval: Between two beats.
        grace: After its last beat, until an agent is forgotten.
    """

    ttl: float
    interval: float
    grace: float

    @classmethod
    def of(cls, ttl: float, interval: float | None, grace: float | None) -> Self:
        """Check what was asked for, and fill in what was not.

        Raises:
            TypeError, ValueError: One of them is no duration.
            ConfigurationError: Two of them contradict each other.
        """
        ttl = checks.duration("heartbeat_ttl_s", ttl)
        given = ttl / BEATS_IN_A_TTL if interval is None else interval
        interval = checks.duration("heartbeat_interval_s", given)
        grace = checks.duration("grace_s", GRACE_IN_TTLS * ttl if grace is None else grace)
        if not 0 < interval < ttl:
            raise ConfigurationError(
                f"heartbeat_interval_s ({interval:g}) must be above 0 and below heartbeat_ttl_s "
                f"({ttl:g}): an agent would be taken for dead between two beats"
            )
        if grace < LEAST_GRACE_IN_TTLS * ttl:
            raise ConfigurationError(
                f"grace_s ({grace:g}) must be at least {LEAST_GRACE_IN_TTLS} times heartbeat_ttl_s "
                f"({ttl:g}): an agent is dead after twice that, and would be forgotten before "
                "anybody sees it"
            )
        return cls(ttl, interval, grace)

    @property
    def patience(self) -> float:
        """What a beat waits for agents to say something of themselves."""
        return min(self.interval / 2, LONGEST_PATIENCE)

    @property
    def look_interval(self) -> float:
        """What lies between two looks of ``watch``."""
        return min(self.interval, LONGEST_LOOK_INTERVAL)

    def beat_timeout(self, call_timeout: float) -> float:
        """Return what a beat may take, so that a silent connection costs no agent its life."""
        return min(call_timeout, max(self.ttl / 2, SHORTEST_BEAT_TIMEOUT))
