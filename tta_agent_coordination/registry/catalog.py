"""Choosing among records, and writing them down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from tta_agent_coordination import checks
from tta_agent_coordination.agents.capability import precedence
from tta_agent_coordination.agents.record import STOPPING, AgentRecord, Liveness


def _tags(tags: Iterable[str]) -> tuple[str, ...]:
    return checks.strings("tags", tags)


@attrs.frozen
class Wanted:
    """What an agent must be able to do; raises for what no agent ever could.

    Attributes:
        capability: Its name; None for any.
        min_version: Of it, at least; None for any.
        tags: Of it, all.
    """

    capability: str | None = None
    min_version: str | None = None
    tags: tuple[str, ...] = attrs.field(default=(), converter=_tags)

    def __attrs_post_init__(self) -> None:
        """Check the name and the version."""
        if self.capability is not None:
            checks.instance_of("capability", self.capability, str)
        if self.min_version is not None:
            precedence(self.min_version)

    def fits(self, record: AgentRecord) -> bool:
        """Whether an agent is alive, does not stop, and has one capability that is all of this."""
        if record.liveness is not Liveness.ALIVE or record.status == STOPPING:
            return False
        return self == _ANYTHING or any(
            one.satisfies(self.capability, self.min_version, self.tags)
            for one in record.capabilities
        )


_ANYTHING = Wanted()


def described(
    agent_type: str | None, capability: str | None, min_version: str | None, tags: Sequence[str]
) -> str:
    """Return in words what somebody looked for."""
    wanted = {
        "type": agent_type,
        "capability": capability,
        "version at least": min_version,
        "tags": " ".join(tags),
    }
    return ", ".join(f"{name} {value}" for name, value in wanted.items() if value) or "any at all"


def least_loaded_first(records: Iterable[AgentRecord]) -> list[AgentRecord]:
    """Return records in the order in which agents should be given work."""
    return sorted(records, key=lambda record: (record.load.order, str(record.agent_id)))


def plain(record: AgentRecord) -> dict[str, Any]:
    """Return a record as a JSON object."""
    return attrs.asdict(record) | {
        "agent_id": str(record.agent_id),
        "liveness": record.liveness.value,
        "registered_at": record.registered_at.isoformat(),
        "last_beat": record.last_beat.isoformat(),
    }


def counts(records: Sequence[AgentRecord]) -> dict[str, int]:
    """Return how many are alive, suspect and dead."""
    return {state.value: sum(one.liveness is state for one in records) for state in Liveness}
