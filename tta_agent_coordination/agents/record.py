"""What the registry knows of an agent."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import attrs

from tta_agent_coordination.agents.capability import AgentCapability
from tta_agent_coordination.identity import AgentId

RUNNING = "running"
"""The status of an agent that says nothing else of itself."""
STOPPING = "stopping"
"""The status of an agent whose worker takes no more messages and finishes those it has."""
UNHEALTHY = "unhealthy"
"""The status of an agent whose health check is bad."""
UNRESPONSIVE = "unresponsive"
"""The status of an agent one of whose hooks has been running for longer than its ttl."""


class Liveness(StrEnum):
    """Whether an agent is there, by the server's clock and its last beat."""

    ALIVE = "alive"
    """Its last beat is younger than its time to live."""
    SUSPECT = "suspect"
    """Its last beat is younger than twice that."""
    DEAD = "dead"
    """It is older."""


@attrs.frozen
class AgentLoad:
    """How busy an agent is.

    Attributes:
        busy: Threads that handle a message.
        threads: Threads there are to handle messages; 0 when no worker serves the agent.
        depth: Unfinished messages in its own inbox.
    """

    busy: int = 0
    threads: int = 0
    depth: int = 0

    @property
    def order(self) -> tuple[float, int]:
        """What orders agents by load: the share of threads that are busy, then the inbox."""
        return (self.busy / self.threads if self.threads else 0.0, self.depth)


@attrs.frozen
class AgentRecord:
    """An agent as it is registered.

    Attributes:
        agent_id: Its address.
        name: For people.
        epoch: Of this registration, by the server's clock; the highest one holds.
        liveness: As of `last_beat` and the server's clock when the record was read.
        registered_at: When this registration was made, by the server's clock.
        last_beat: Its last beat, by the server's clock.
        heartbeat_ttl: Seconds that a beat is good for.
        status: What the agent says of itself; ``running`` if nothing, and `STOPPING`, `UNHEALTHY`
            or `UNRESPONSIVE` in its place where that is so.
        capabilities: What it can do.
        load: How busy it was at its last beat.
        process: Where it runs, as ``host:pid``.
    """

    agent_id: AgentId
    name: str
    epoch: int
    liveness: Liveness
    registered_at: datetime
    last_beat: datetime
    heartbeat_ttl: float
    status: str = RUNNING
    capabilities: tuple[AgentCapability, ...] = ()
    load: AgentLoad = attrs.field(factory=AgentLoad)
    process: str = ""

    @property
    def well(self) -> bool:
        """Whether it is not dead, and does not say that it is unwell."""
        return self.liveness is not Liveness.DEAD and self.status not in (UNHEALTHY, UNRESPONSIVE)


class RegistryEventType(StrEnum):
    """What happened to a registration."""

    REGISTERED = "registered"
    DEREGISTERED = "deregistered"
    STATUS_CHANGED = "status_changed"
    SUSPECT = "suspect"
    DEAD = "dead"
    SUPERSEDED = "superseded"


@attrs.frozen
class RegistryEvent:
    """A change that `watch` saw.

    Attributes:
        type: What happened.
        agent_id: To whom.
        record: The record after it; the last one known when the agent is gone.
    """

    type: RegistryEventType
    agent_id: AgentId
    record: AgentRecord
