"""What the parts of this package need of a registry beside its interface."""

from __future__ import annotations

import time
from collections.abc import Iterable

import attrs

from tta_agent_coordination import checks
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.registry.events import Watch
from tta_agent_coordination.registry.local import LoadSource
from tta_agent_coordination.registry.options import Times
from tta_agent_coordination.registry.pulse import Pulse
from tta_agent_coordination.registry.store import Store
from tta_agent_coordination.threads import PerProcess


@attrs.frozen
class RegistryInternals:
    """For workers and asyncio of this package alone; may change without notice."""

    _pulses: PerProcess[Pulse]
    _store: Store
    _times: Times

    def watching(self, *, timeout: float | None) -> Watch:
        """Return a `watch` to be made look by look, `timeout` seconds long; None: without end."""
        end = None if timeout is None else time.monotonic() + checks.duration("timeout", timeout)
        closed = self._pulses.get().closed
        return Watch(self._store.look, self._times.look_interval, closed, end)

    def disown(self, agent_id: AgentId) -> None:
        """Beat no more for an agent of this process, and leave its registration to expire."""
        agents = self._pulses.get().agents
        local = agents.get(agent_id)
        if local is not None:
            agents.drop(local)

    def is_served(self, agent_id: AgentId) -> bool:
        """Whether a worker serves it that has this registry."""
        local = self._pulses.get().agents.get(agent_id)
        return local is not None and local.load is not None

    def set_load_source(self, agent_id: AgentId, source: LoadSource | None) -> None:
        """Let beats of an agent of this process tell how busy it is."""
        local = self._pulses.get().agents.get(agent_id)
        if local is not None:
            local.load = source

    def retire(self, agent_ids: Iterable[AgentId]) -> None:
        """Announce in one round trip that agents of this process stop.

        They are not discovered any more, and beat on until they are deregistered.

        Raises:
            CoordinatorUnavailableError: Redis cannot be reached.
        """
        self._pulses.get().retire(agent_ids)
