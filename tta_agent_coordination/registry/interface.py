"""The abstract interface of an agent registry; `RedisAgentRegistry` carries it out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tta_agent_coordination.agents.record import AgentRecord, RegistryEvent
from tta_agent_coordination.coordinator.core import RedisMessageCoordinator
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.registry.local import Registrable
from tta_agent_coordination.registry.recovery import Hook, RecoverySummary


class AgentRegistry(ABC):
    """Knows which agents there are, what they can do, and whether they are well.

    All durations are seconds; the server's clock decides who is alive. Every method may raise
    `CoordinatorUnavailableError`.
    """

    @abstractmethod
    def register(self, agent: Registrable) -> AgentRecord:
        """Register an agent of this process, in place of any earlier one of the same id.

        What a predecessor exported is given to its ``import_state`` first; if that raises, or
        ``get_capabilities`` does, nothing is registered. It is beaten for by the heartbeat
        thread, once that is started. To register the same object again imports nothing.

        Args:
            agent: An `Agent`, or any object with ``agent_id`` and ``name``. Its hooks are called
                in this thread now, and at each beat in a thread of the registry's.
        """

    @abstractmethod
    def deregister(self, agent_id: AgentId) -> bool:
        """End the registration of an agent, and beat for it no more; whether there was one.

        What an agent of this process exports last is stored, and kept until the grace time ends.
        One of another process can be ended too, and that process is told as by `on_superseded`;
        but one that another process took over from here is left alone.
        """

    @abstractmethod
    def heartbeat(self, agent_id: AgentId) -> bool:
        """Beat once for an agent of this process, now.

        Returns:
            False when it is not registered here, or another process has taken it over or ended it.
        """

    @abstractmethod
    def start_heartbeats(self) -> None:
        """Start the one thread that beats for all agents of this process, unless it runs."""

    @abstractmethod
    def stop_heartbeats(self, timeout: float = 5.0) -> bool:
        """Stop that thread; whether it ended within `timeout` seconds."""

    @abstractmethod
    def get(self, agent_id: AgentId) -> AgentRecord | None:
        """Return the record of an agent, dead ones included, until the grace time ends."""

    @abstractmethod
    def list_registered(
        self, *, agent_type: str | None = None, include_dead: bool = False
    ) -> list[AgentRecord]:
        """Return all records, in the order of ids, in a bounded number of round trips.

        Args:
            agent_type: Only agents of this type.
            include_dead: Also those that are dead and not yet forgotten.
        """

    @abstractmethod
    def discover(
        self,
        agent_type: str | None = None,
        *,
        capability: str | None = None,
        min_version: str | None = None,
        tags: Iterable[str] = (),
    ) -> list[AgentRecord]:
        """Return those who are alive and fit, the least loaded first.

        Args:
            agent_type: Only agents of this type.
            capability: Only agents with a capability of this name.
            min_version: And of at least this semantic version.
            tags: And with all these tags.
        """

    @abstractmethod
    def pick(
        self,
        agent_type: str | None = None,
        *,
        capability: str | None = None,
        min_version: str | None = None,
        tags: Iterable[str] = (),
    ) -> AgentId:
        """Return the least loaded agent that `discover` finds, to send a message to.

        It may die, or end, before it gets to the message, which then waits in its own inbox: for
        the agent to come back under the same id, or for `detect_and_recover`, which moves it when
        `move_messages_of_dead` asks for that. Where any agent of a type will do, send to
        ``AgentId(type)``, the inbox they share: nothing waits for anyone there.

        Raises:
            AgentNotFoundError: Nobody fits.
        """

    @abstractmethod
    def snapshot(self) -> dict[str, Any]:
        """Return the state of the registry and of its heartbeats, for logs and dashboards.

        It is JSON: ``agents`` (their records), ``counts`` (by liveness), ``local`` (the ids of this
        process), ``superseded`` (those that were, until they were taken over or ended from
        elsewhere) and ``heartbeat`` (``running``, ``last_success_age`` in seconds, ``last_error``,
        ``breaker``). While the server is away it says so in ``error``, and has no agents.
        """

    @abstractmethod
    def watch(self, *, timeout: float | None = None) -> Iterator[RegistryEvent]:
        """Yield what changes from now on; the agents there are come first, as registered.

        It looks for the first time before it returns, and then, while it is iterated over, every
        second, or more often where beats are: of several changes of one agent between two looks,
        only what they led to is seen. An outage of the server does not end it.

        Args:
            timeout: Seconds after which to end; None: until the registry is closed.
        """

    @abstractmethod
    def restore_state_if_available(self, agent: Registrable) -> bool:
        """Give an agent what it, or a predecessor of its id, exported last; whether there was."""

    @abstractmethod
    def on_unhealthy(self, callback: Hook, *, fallback: Hook | None = None) -> None:
        """Set what `detect_and_recover` calls for an agent that is dead or unwell.

        Args:
            callback: Restarts the agent of the record it is given.
            fallback: Called once instead, when that was tried too often; again in the next
                round if it raises.
        """

    @abstractmethod
    def move_messages_of_dead(
        self, coordinator: RedisMessageCoordinator, *, to: AgentId | None = None
    ) -> None:
        """Let `detect_and_recover` move the messages out of the own inboxes of dead agents.

        And of those that were ended, once that is longer ago than twice their ttl.

        Args:
            coordinator: Moves them, under the prefix of the registry.
            to: Where to; None for the inbox that the agents of its type share.
        """

    @abstractmethod
    def detect_and_recover(self) -> RecoverySummary:
        """Look at all agents once; call the hooks for those that are dead or unwell.

        Unwell is whose ``health_check`` is bad or raises, or whose hooks do not return: agents of
        this process are asked now, others have said so with their last beat. One process should
        do this, or the hook be harmless to repeat.
        """

    @abstractmethod
    def on_superseded(self, callback: Callable[[AgentId], object]) -> None:
        """Add what is called when another process took over, or ended, an agent of this one.

        It is beaten for no more by then.
        """
