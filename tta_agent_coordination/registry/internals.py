"""What the parts of this package need of a registry beside its interface."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

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

    def disown(self, agent_id: AgentId, source: LoadSource | None) -> None:
        """Beat no more for an agent of this process, and leave its registration to expire.

        Only if that is the one for which `source` was set; None for one that no worker serves.
        """
        agents = self._pulses.get().agents
        local = agents.get(agent_id)
        if local is not None and local.load is source:
            agents.part_with(local)

    def is_served(self, agent_id: AgentId) -> bool:
        """Whether a worker serves it that has this registry."""
        local = self._pulses.get().agents.get(agent_id)
        return local is not None and local.load is not None

    def serves(self, agent_id: AgentId, source: LoadSource) -> bool:
        """Whether the registration of an agent is that for which `source` was set."""
        local = self._pulses.get().agents.get(agent_id)
        return local is not None and local.load is source

    def end_served(self, agent_id: AgentId, source: LoadSource) -> bool:
        """End a registration if it is that for which `source` was set.

        Raises:
            CoordinatorUnavailableError: Redis cannot be reached.
        """
        pulse = self._pulses.get()
        local = pulse.agents.get(agent_id)
        return local is not None and local.load is source and pulse.end(local)

    def set_load_source(self, agent_id: AgentId, source: LoadSource | None) -> None:
        """Let beats of an agent of this process tell how busy it is."""
        local = self._pulses.get().agents.get(agent_id)
        if local is not None:
            local.load = source

    def refresh_loads(self, refresh: Callable[[], object]) -> None:
        """Call `refresh` once a beat, after all hooks and beside the beat."""
        self._pulses.get().refreshing += (refresh,)

    def on_parting(self, callback: Callable[[AgentId], object]) -> None:
        """Call it at once with each agent that is not ours any more: before what is the user's."""
        self._pulses.get().parting += (callback,)

    def remove_on_parting(self, callback: Callable[[AgentId], object]) -> None:
        """Call it no more."""
        pulse = self._pulses.get()
        pulse.parting = tuple(known for known in pulse.parting if known != callback)

    def refresh_no_loads(self, refresh: Callable[[], object]) -> None:
        """Call it no more."""
        pulse = self._pulses.get()
        pulse.refreshing = tuple(known for known in pulse.refreshing if known != refresh)

    def lend_heartbeats(self) -> None:
        """Start the heartbeats, unless they run, for as long as they are needed."""
        pulse = self._pulses.get()
        pulse.check_open()
        pulse.heart.start(lent=True)

    def stop_lent_heartbeats(self, timeout: float) -> None:
        """Stop them if nobody else has started them, and no agent of this process is left."""
        pulse = self._pulses.get()
        pulse.heart.stop_lent(pulse.agents.all, timeout)

    def retire(self, agent_ids: Iterable[AgentId]) -> None:
        """Announce in one round trip that agents of this process stop.

        They are not discovered any more, and beat on until they are deregistered.

        Raises:
            CoordinatorUnavailableError: Redis cannot be reached.
        """
        self._pulses.get().retire(agent_ids)
