"""What the processes of the demo agree on."""

from __future__ import annotations

from typing import Any, Protocol

import attrs

from tta_agent_coordination import AgentId, CoordinationError

PLANNER = AgentId("planner")
ANALYST = AgentId("analyst")
REPORTER = AgentId("reporter")
INBOXES = (ANALYST, REPORTER)

LEASE = 2.0
"""Seconds: long against the analysis of one file, short enough to see a redelivery."""
PREFETCH = 8
"""Requests that an analyst takes on lease at a time."""
WAIT = 0.25
"""Seconds that a process waits for a message before it looks whether it is to end."""
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


class Tell(Protocol):
    """How a process tells its parent what it did."""

    def __call__(self, kind: str, **facts: Any) -> None:
        """Tell one thing, with its facts as JSON values."""
        ...
