"""What the processes of the demo agree on."""

from __future__ import annotations

import attrs

from tta_agent_coordination import AgentId, CoordinationError

PLANNER = AgentId("planner")
ANALYST = AgentId("analyst")
REPORTER = AgentId("reporter")
INBOXES = (ANALYST, REPORTER, PLANNER)

LEASE = 2.0
"""Seconds: short enough to see a redelivery; workers renew it while a file is analyzed."""
HEARTBEAT_TTL = 0.75
"""Seconds: after twice as many, shorter than a lease, the registry takes an agent for dead."""
HOLD = "demo-hold"
"""Header of the request at which its first analyst holds still, to be killed there."""


class DemoError(CoordinationError):
    """A process of the demo failed, or nothing moves any more."""


@attrs.frozen
class Settings:
    """What each process is told when it starts.

    Attributes:
        url: Of the Redis server.
        key_prefix: Of this one run.
        folder: Where the Python files are.
        me: The agent that the process is, as text; its type says what it does.
    """

    url: str
    key_prefix: str
    folder: str
    me: str = ""
