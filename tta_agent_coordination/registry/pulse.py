"""Keeping the agents of this process alive, and letting go of those that are not ours any more."""

from __future__ import annotations

import logging
import secrets
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
from tta_agent_coordination.registry.options import LAST_PATIENCE, LONGEST_PATIENCE, Times
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
        parting: What is called at once with each agent that is not ours any more.
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
        self._name = secrets.token_hex(8)
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
        self.parting: tuple[Callable[[AgentId], object], ...] = ()

    def check_open(self) -> None:
        """Refuse to go on once the registry is closed.

        Raises:
            ConfigurationError: It is.
        """
        if self.closed.is_set():
            raise ConfigurationError("this registry is closed: make a new one")

    def register(self, agent: Registrable) -> AgentRecord:
        """Register an agent, and give it the state of its predecessor first."""
        local = LocalAgent(agent, self._times.ttl, self._name)
        held = self.agents.get(agent.agent_id)
        self._inherit(local, held)
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

    def _inherit(self, local: LocalAgent, held: LocalAgent | None) -> None:
        """Give an agent what its predecessor exported; one that was it knows more than that."""
        before = held or self._left_standing(local.agent_id)
        if before is None or before.agent is not local.agent:
            local.take_over(self._store.state(local.agent_id))
            return
        local.state = before.state
        if held is not None:
            local.load = held.load

    def _left_standing(self, agent_id: AgentId) -> LocalAgent | None:
        """Return one whose end Redis was not told of, unless somebody came after it."""
        parted = self.agents.parted(agent_id)
        if parted is not None and self._store.epoch_by(self._name, agent_id) is not None:
            return parted
        return None

    def deregister(self, agent_id: AgentId) -> bool:
        """End a registration, and store what the agent exports last."""
        local = self.agents.get(agent_id) or self.agents.parted(agent_id)
        if local is not None:
            return self.end(local)
        # Of an agent that was ever registered here, only that registration is ended.
        return self._remove(agent_id, self.agents.last_epoch(agent_id))

    def end(self, local: LocalAgent) -> bool:
        """End the registration of an agent of this process, and no other."""
        self.agents.part_with(local)
        self._ask_for_the_last_time(local)
        ended = self._remove(local.agent_id, local.epoch, local.state)
        # Unless another one was registered here meanwhile: that is not to be ended.
        if not ended and self.agents.get(local.agent_id) is None and self._regains(local):
            ended = self._remove(local.agent_id, local.epoch, local.state)
        self.agents.forget_parted(local)
        return ended

    def _ask_for_the_last_time(self, local: LocalAgent) -> None:
        try:
            answered = aside(lambda: local.ask(wait=LAST_PATIENCE), LAST_PATIENCE)
        except RuntimeError:  # no thread can be started
            answered = False
        if not answered:
            logger.warning(
                "agent %s did not say its last state within %g s; that of before is kept",
                local.agent_id, LAST_PATIENCE,
                extra={"event": "agent_state_late", "agent": str(local.agent_id)},
            )  # fmt: skip

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
            try:
                aside(lambda: self._tell(lost), self._times.patience)
            except RuntimeError:  # no thread can be started, and they must be told all the same
                self._tell(lost)

    def _beat(self, agents: Sequence[LocalAgent]) -> list[AgentId]:
        """Beat for agents of this process; return those that are not ours any more."""
        if not agents:
            return []
        answers = self._beat_store.beat([local.beat() for local in agents])
        self.heart.succeeded()
        refused = [
            local
            for local, ours in zip(agents, answers, strict=True)
            if not ours and self.agents.get(local.agent_id) is local
        ]
        regained = [local for local in refused if self._regains(local)]
        if regained:
            self._beat_store.beat([local.beat() for local in regained])
        return [
            local.agent_id for local in refused if local not in regained and self.agents.drop(local)
        ]

    def _regains(self, local: LocalAgent) -> bool:
        """Whether the registration that holds was made here, and goes on under its epoch.

        The answer to it got lost, or the server carried it out once more.
        """
        epoch = self._beat_store.epoch_by(self._name, local.agent_id)
        local.epoch = local.epoch if epoch is None else epoch
        return epoch is not None

    def _part_from(self, lost: Sequence[AgentId]) -> None:
        """Stop what is done here for agents that somebody else has registered or ended."""
        self.superseded.update(lost)
        for agent_id in lost:
            for part in self.parting:
                part(agent_id)

    def _tell(self, lost: Sequence[AgentId]) -> None:
        self._part_from(lost)
        for agent_id in lost:
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
