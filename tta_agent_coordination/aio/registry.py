"""`AsyncAgentRegistry`: the methods of a registry, for asyncio."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Self, Unpack

from tta_agent_coordination import checks
from tta_agent_coordination.agents.record import AgentRecord, RegistryEvent
from tta_agent_coordination.aio.adapter import ClosingAdapter
from tta_agent_coordination.aio.pool import DEFAULT_MAX_WORKERS
from tta_agent_coordination.coordinator.core import RedisMessageCoordinator
from tta_agent_coordination.errors import ConfigurationError
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.keys import DEFAULT_KEY_PREFIX
from tta_agent_coordination.registry.core import RedisAgentRegistry
from tta_agent_coordination.registry.local import Registrable
from tta_agent_coordination.registry.options import RegistryOptions
from tta_agent_coordination.registry.recovery import Hook, RecoverySummary


class AsyncAgentRegistry(ClosingAdapter[RedisAgentRegistry]):
    """Knows which agents there are, for asyncio.

    Every method does, returns and raises what the one of the same name of `AgentRegistry` does.
    It runs in threads of the adapter's own, and so do the hooks of agents and the callbacks that
    are given to it: they are ordinary functions. Any number of event loops may use one adapter. A
    cancelled call that was begun goes on to its end.
    """

    _name = "registry"

    def __init__(
        self, registry: RedisAgentRegistry, *, max_workers: int = DEFAULT_MAX_WORKERS
    ) -> None:
        """Make an adapter; no thread runs before the first call.

        Args:
            registry: Does the work; stays the caller's to close, after the adapter.
            max_workers: Threads at most; `watch` needs none between two looks.

        Raises:
            TypeError, ValueError: An argument is wrong.
        """
        self._registry = checks.instance_of("registry", registry, RedisAgentRegistry)
        super().__init__(registry, max_workers=max_workers)

    @classmethod
    def from_url(
        cls,
        url: str,
        key_prefix: str = DEFAULT_KEY_PREFIX,
        *,
        max_workers: int = DEFAULT_MAX_WORKERS,
        **options: Unpack[RegistryOptions],
    ) -> Self:
        """Make an adapter with a registry of its own, which is closed with it.

        Args:
            url: As for `RedisMessageCoordinator.from_url`.
            key_prefix: What every key begins with.
            max_workers: As for the constructor.
            **options: As for `RedisAgentRegistry`.

        Raises:
            ConfigurationError: The URL is of none of the forms there are.
        """
        return cls._owning(RedisAgentRegistry.from_url(url, key_prefix, **options), max_workers)

    @property
    def registry(self) -> RedisAgentRegistry:
        """The registry that does the work, for example for an `AgentWorker`."""
        return self._registry

    async def register(self, agent: Registrable) -> AgentRecord:
        """Register an agent of this process, in place of any earlier one of the same id."""
        return await self._pool.run(self._registry.register, agent)

    async def deregister(self, agent_id: AgentId) -> bool:
        """End the registration of an agent, and beat for it no more; whether there was one."""
        return await self._pool.run(self._registry.deregister, agent_id)

    async def heartbeat(self, agent_id: AgentId) -> bool:
        """Beat once for an agent of this process, now; False when it is not registered here."""
        return await self._pool.run(self._registry.heartbeat, agent_id)

    async def start_heartbeats(self) -> None:
        """Start the one thread that beats for all agents of this process, unless it runs."""
        await self._pool.run(self._registry.start_heartbeats)

    async def stop_heartbeats(self, timeout: float = 5.0) -> bool:
        """Stop that thread; whether it ended within `timeout` seconds."""
        return await self._pool.run(self._registry.stop_heartbeats, timeout)

    async def get(self, agent_id: AgentId) -> AgentRecord | None:
        """Return the record of an agent, dead ones included, until the grace time ends."""
        return await self._pool.run(self._registry.get, agent_id)

    async def list_registered(
        self, *, agent_type: str | None = None, include_dead: bool = False
    ) -> list[AgentRecord]:
        """Return all records, in the order of ids, in a bounded number of round trips."""
        return await self._pool.run(
            self._registry.list_registered, agent_type=agent_type, include_dead=include_dead
        )

    async def discover(
        self,
        agent_type: str | None = None,
        *,
        capability: str | None = None,
        min_version: str | None = None,
        tags: Iterable[str] = (),
    ) -> list[AgentRecord]:
        """Return those who are alive and fit, the least loaded first."""
        return await self._pool.run(
            self._registry.discover,
            agent_type,
            capability=capability,
            min_version=min_version,
            tags=tags,
        )

    async def pick(
        self,
        agent_type: str | None = None,
        *,
        capability: str | None = None,
        min_version: str | None = None,
        tags: Iterable[str] = (),
    ) -> AgentId:
        """Return the least loaded agent that `discover` finds, to send a message to.

        Raises:
            AgentNotFoundError: Nobody fits.
        """
        return await self._pool.run(
            self._registry.pick,
            agent_type,
            capability=capability,
            min_version=min_version,
            tags=tags,
        )

    async def snapshot(self) -> dict[str, Any]:
        """Return the state of the registry and of its heartbeats, for logs and dashboards."""
        return await self._pool.run(self._registry.snapshot)

    async def watch(self, *, timeout: float | None = None) -> AsyncIterator[RegistryEvent]:
        """Yield what changes from now on; the agents there are come first, as registered.

        Write ``async for event in registry.watch()``. It looks for the first time when the
        iteration begins. It ends after `timeout` seconds, if given, and when this adapter or the
        registry is closed.
        """
        watching = self._registry.internals.watching(timeout=timeout)
        events = await self._pool.run(watching.look)
        while True:
            for event in events:
                yield event
            if not (pause := watching.pause):
                return
            try:
                await self._pool.sleep(time.monotonic() + pause)
                events = await self._pool.run(watching.look)
            except ConfigurationError:  # the adapter is closed
                return

    async def restore_state_if_available(self, agent: Registrable) -> bool:
        """Give an agent what it, or a predecessor, exported last; whether there was something."""
        return await self._pool.run(self._registry.restore_state_if_available, agent)

    async def on_unhealthy(self, callback: Hook, *, fallback: Hook | None = None) -> None:
        """Set what `detect_and_recover` calls for an agent that is dead or unwell."""
        _ordinary("callback", callback)
        _ordinary("fallback", fallback)
        await self._pool.run(self._registry.on_unhealthy, callback, fallback=fallback)

    async def move_messages_of_dead(
        self, coordinator: RedisMessageCoordinator, *, to: AgentId | None = None
    ) -> None:
        """Let `detect_and_recover` move the messages out of the own inboxes of dead agents.

        Args:
            coordinator: Moves them; that of an adapter is its ``coordinator``.
            to: Where to; None for the inbox that the agents of its type share.
        """
        await self._pool.run(self._registry.move_messages_of_dead, coordinator, to=to)

    async def detect_and_recover(self) -> RecoverySummary:
        """Look at all agents once; call the hooks for those that are dead or unwell."""
        return await self._pool.run(self._registry.detect_and_recover)

    async def on_superseded(self, callback: Callable[[AgentId], object]) -> None:
        """Add what is called when another process took over, or ended, an agent of this one."""
        _ordinary("callback", callback)
        await self._pool.run(self._registry.on_superseded, callback)


def _ordinary(name: str, callback: object) -> None:
    if inspect.iscoroutinefunction(callback):
        raise TypeError(
            f"{name} is called in a thread and must be an ordinary function, not the coroutine "
            f"function {checks.describe(callback)}; "
            "it can hand work to a loop with asyncio.run_coroutine_threadsafe"
        )
