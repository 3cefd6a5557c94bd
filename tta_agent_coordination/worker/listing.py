"""The registrations of a worker's agents, from its start to its stop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from tta_agent_coordination.agents.agent import AgentProxy
from tta_agent_coordination.agents.record import AgentLoad
from tta_agent_coordination.errors import ConfigurationError
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.registry.core import RedisAgentRegistry
from tta_agent_coordination.registry.local import LoadSource
from tta_agent_coordination.worker.farewell import Farewell

logger = logging.getLogger("tta_agent_coordination")

_JOIN_TIMEOUT = 5.0


class Listing:
    """Registers the agents of a worker, and ends what it still holds of that.

    A registration that somebody ended or made anew meanwhile is not the worker's any more: it is
    told from others by the load source that the worker gave it.
    """

    def __init__(
        self,
        registry: RedisAgentRegistry,
        agents: Sequence[AgentProxy],
        *,
        superseded: Callable[[AgentId], object],
        refresh: Callable[[], object],
    ) -> None:
        """Prepare; nobody is registered yet.

        Args:
            registry: Where.
            agents: Whom.
            superseded: Is told of those whose registration somebody else took over or ended.
            refresh: Is called once a beat, to learn anew what loads are told of.
        """
        self._registry = registry
        self._agents = agents
        self._superseded = superseded
        self._refresh = refresh
        self._sources = dict[AgentId, LoadSource]()

    def check_unserved(self) -> None:
        """Refuse agents that another worker serves.

        Raises:
            ConfigurationError: There is one.
        """
        for agent in self._agents:
            if self._registry.internals.is_served(agent.agent_id):
                raise ConfigurationError(
                    f"agent {agent.agent_id} is served by another worker with this registry: stop "
                    "that one first, give the agent an id of its own, or more threads to one worker"
                )

    def begin(self, load: Callable[[AgentProxy], AgentLoad]) -> None:
        """Register all; `load` says how busy each is, from memory."""
        self._registry.internals.on_parting(self._superseded)
        self._registry.internals.refresh_loads(self._refresh)
        for agent in self._agents:
            self._registry.register(agent)
            source = self._sources[agent.agent_id] = partial(load, agent)
            self._registry.internals.set_load_source(agent.agent_id, source)
        self._registry.internals.lend_heartbeats()

    def drop(self, agent_id: AgentId) -> bool:
        """Forget one whose registration is somebody else's now; whether it was held."""
        return self._sources.pop(agent_id, None) is not None

    def retire(self, talk: Farewell) -> None:
        """Say of all that they stop; they beat on."""
        serves = self._registry.internals.serves
        held = [agent_id for agent_id, source in self._sources.items() if serves(agent_id, source)]
        if held:
            talk.say(lambda: self._registry.internals.retire(held))

    def end(self, talk: Farewell) -> None:
        """End the registrations that are held, and what was begun for them."""
        self._registry.internals.remove_on_parting(self._superseded)
        self._registry.internals.refresh_no_loads(self._refresh)
        while self._sources:
            agent_id, source = self._sources.popitem()
            talk.say(partial(self._registry.internals.end_served, agent_id, source))
            if talk.away:
                self._registry.internals.disown(agent_id, source)
        self._registry.internals.stop_lent_heartbeats(0.0 if talk.away else _JOIN_TIMEOUT)

    def let_go(self) -> None:
        """Beat no more for those that are held, and leave their registrations to expire."""
        self._registry.internals.remove_on_parting(self._superseded)
        self._registry.internals.refresh_no_loads(self._refresh)
        while self._sources:
            self._registry.internals.disown(*self._sources.popitem())

    def forget(self) -> None:
        """Hold nothing, in a child: the registrations are the parent's."""
        self._sources = dict[AgentId, LoadSource]()


def not_told(error: Exception) -> None:
    """Log that the registry was not told of the end."""
    logger.warning(
        "the registry was not told that a worker stops, so registrations are left to expire: %s",
        error,
        extra={"event": "worker_step_failed"},
    )
