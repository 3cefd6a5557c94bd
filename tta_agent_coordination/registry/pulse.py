"""Keeping the agents of this process alive, and letting go of those that are not ours any more."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence

from tta_agent_coordination.agents.record import AgentRecord
from tta_agent_coordination.errors import ConfigurationError, CoordinationError
from tta_agent_coordination.events import AgentSuperseded, Events
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.registry.heart import Heart
from tta_agent_coordination.registry.local import (
    LocalAgent,
    LocalAgents,
    Registrable,
    this_process,
)
from tta_agent_coordination.registry.options import LONGEST_PATIENCE, Times
from tta_agent_coordination.registry.store import Store
from tta_agent_coordination.registry.survey import Survey, aside

logger = logging.getLogger("tta_agent_coordination")


class Pulse:
    """The agents of one process, and what beats for them.

    Attributes:
        agents: Those that are registered here.
        superseded: Those that were, until somebody else registered or ended them.
        heart: The thread that beats for them.
        closed: Set when the registry is closed.
        refreshing: What is called once a beat, to learn anew what loads are told of.
    """

    def __init__(
        self,
        times: Times,
        store: Store,
        beat_store: Store,
        lost: Callable[[AgentId], object],
        events: Events,
    ) -> None:
        """Begin without agents, and without a thread.

        Args:
            times: How often to beat.
            store: For registrations.
            beat_store: For beats; it has connections of its own.
            lost: Called with each agent that somebody else has registered or ended.
            events: Who is told what happens.
        """
        self._times = times
        self._store = store
        self._beat_store = beat_store
        self._lost = lost
        self._events = events
        self._survey = Survey()
        self._check_up = Survey()
        self.agents = LocalAgents()
        self.superseded: set[AgentId] = set()
        self.heart = Heart(self._beat_for_all, times.interval, events)
        self.closed = threading.Event()
        self.refreshing: tuple[Callable[[], object], ...] = ()

    def check_open(self) -> None:
        """Refuse to go on once the registry is closed.

        Raises:
            ConfigurationError: It is.
        """
        if self.closed.is_set():
            raise ConfigurationError("this registry is closed: make a new one")

    def register(self, agent: Registrable) -> AgentRecord:
        """Register an agent, and give it the state of its predecessor first."""
        local = LocalAgent(agent, self._times.ttl)
        held = self.agents.get(agent.agent_id)
        if held is not None and held.agent is agent:  # it knows more than was stored of it
            local.load, local.state = held.load, held.state
        else:
            local.take_over(self._store.state(agent.agent_id))
        local.ask(strict=True)
        if held is not None:  # its next beat will be refused, and that is no news
            self.agents.drop(held)
        try:
            record = self._store.register(local.beat())
        except BaseException:
            if held is not None:
                self.agents.add(held)
            raise
        local.epoch = record.epoch
        self.agents.add(local)
        self.superseded.discard(agent.agent_id)
        return record

    def deregister(self, agent_id: AgentId) -> bool:
        """End a registration, and store what the agent exports last."""
        local = self.agents.get(agent_id)
        if local is not None:
            return self.end(local)
        # Of an agent that was ever registered here, only that registration is ended.
        return self._remove(agent_id, self.agents.last_epoch(agent_id))

    def end(self, local: LocalAgent) -> bool:
        """End the registration of an agent of this process, and no other."""
        self.agents.drop(local)
        aside(lambda: local.ask(wait=LONGEST_PATIENCE), LONGEST_PATIENCE)
        return self._remove(local.agent_id, local.epoch, local.state)

    def _remove(self, agent_id: AgentId, epoch: int, state: str = "") -> bool:
        ended = self._store.remove(agent_id, epoch=epoch, state=state)
        if ended:
            self.agents.forget(agent_id, epoch)
        return ended

    def heartbeat(self, agent_id: AgentId) -> bool:
        """Beat for one agent, now."""
        local = self.agents.get(agent_id)
        if local is None:
            return False
        local.ask(wait=LONGEST_PATIENCE)
        lost = self._beat([local])
        self._tell(lost)
        return not lost

    def retire(self, agent_ids: Iterable[AgentId]) -> None:
        """Say of agents that they stop, now and at each further beat."""
        found = [self.agents.get(agent_id) for agent_id in agent_ids]
        stopping = [local for local in found if local is not None]
        for local in stopping:
            local.stopping = True
        self._tell(self._beat(stopping))

    def check_up(self) -> set[AgentId]:
        """Ask all agents how they are; return those that are unwell."""
        agents = self.agents.all()
        self._check_up.take(agents, self._times.ttl)
        return {local.agent_id for local in agents if not local.well}

    def _beat_for_all(self) -> None:
        agents = self.agents.all()
        self._survey.take(agents, self._times.patience, self.refreshing)
        lost = self._beat(agents)
        if lost:
            aside(lambda: self._tell(lost), self._times.patience)

    def _beat(self, agents: Sequence[LocalAgent]) -> list[AgentId]:
        """Beat for agents of this process; return those that are not ours any more."""
        if not agents:
            return []
        answers = self._beat_store.beat([local.beat() for local in agents])
        self.heart.succeeded()
        return [
            local.agent_id
            for local, ours in zip(agents, answers, strict=True)
            if not ours and self.agents.drop(local)
        ]

    def _tell(self, lost: Sequence[AgentId]) -> None:
        for agent_id in lost:
            self.superseded.add(agent_id)
            logger.warning(
                "agent %s was %s, and is not beaten for here any more", agent_id,
                self._fate(agent_id),
                extra={"event": "agent_superseded", "agent": str(agent_id)},
            )  # fmt: skip
            self._lost(agent_id)
            if self._events.observers:
                self._events.tell(AgentSuperseded(agent_id=agent_id))

    def _fate(self, agent_id: AgentId) -> str:
        try:
            record = self._store.read(agent_id)
        except CoordinationError:
            return "taken over or ended by another process"
        if record is None:
            return "ended by another process"
        if record.process != this_process():
            return f"taken over by {record.process}"
        return (
            "taken over by another registry of this process (give each agent an id of its own, and "
            "a process one registry)"
        )
