"""`AsyncAgentRegistry`: the methods of a registry, for asyncio."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Self

from tta_agent_coordination import checks
from tta_agent_coordination.agents.record import AgentRecord, RegistryEvent
from tta_agent_coordination.aio.pool import DEFAULT_MAX_WORKERS, Pool
from tta_agent_coordination.coordinator.core import RedisMessageCoordinator
from tta_agent_coordination.errors import ConfigurationError
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.keys import DEFAULT_KEY_PREFIX
from tta_agent_coordination.registry.core import RedisAgentRegistry
from tta_agent_coordination.registry.local import Registrable
from tta_agent_coordination.registry.recovery import Hook, RecoverySummary


class AsyncAgentRegistry:
    """Knows which agents there are, for asyncio.

    Every method does, returns and raises what the one of the same name of `AgentRegistry` does.
    It runs in threads of the adapter's own, and so do the hooks of agents and the callbacks that
    are given to it: they are ordinary functions. Any number of event loops may use one adapter. A
    cancelled call that was begun goes on to its end.
    """

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
        self._pool = Pool("registry", max_workers)
        self._owns = False

    @classmethod
    def from_url(
        cls,
        url: str,
        key_prefix: str = DEFAULT_KEY_PREFIX,
        *,
        max_workers: int = DEFAULT_MAX_WORKERS,
        **options: Any,
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
        adapter = cls(
            RedisAgentRegistry.from_url(url, key_prefix, **options), max_workers=max_workers
        )
        adapter._owns = True
        return adapter

    @property
    def registry(self) -> RedisAgentRegistry:
        """The registry that does the work, for example for an `AgentWorker`."""
        return self._registry

    def __repr__(self) -> str:
        """Name the registry."""
        return f"<{type(self).__name__} of {self._registry!r}>"

    async def register(self, agent: Registrable) -> AgentRecord:
        """See `AgentRegistry.register`."""
        return await self._pool.run(self._registry.register, agent)

    async def deregister(self, agent_id: AgentId) -> bool:
        """See `AgentRegistry.deregister`."""
        return await self._pool.run(self._registry.deregister, agent_id)

    async def heartbeat(self, agent_id: AgentId) -> bool:
        """See `AgentRegistry.heartbeat`."""
        return await self._pool.run(self._registry.heartbeat, agent_id)

    async def start_heartbeats(self) -> None:
        """See `AgentRegistry.start_heartbeats`."""
        await self._pool.run(self._registry.start_heartbeats)

    async def stop_heartbeats(self, timeout: float = 5.0) -> bool:
        """See `AgentRegistry.stop_heartbeats`."""
        return await self._pool.run(self._registry.stop_heartbeats, timeout)

    async def get(self, agent_id: AgentId) -> AgentRecord | None:
        """See `AgentRegistry.get`."""
        return await self._pool.run(self._registry.get, agent_id)

    async def list_registered(
        self, *, agent_type: str | None = None, include_dead: bool = False
    ) -> list[AgentRecord]:
        """See `AgentRegistry.list_registered`."""
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
        """See `AgentRegistry.discover`."""
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
        """See `AgentRegistry.pick`."""
        return await self._pool.run(
            self._registry.pick,
            agent_type,
            capability=capability,
            min_version=min_version,
            tags=tags,
        )

    async def snapshot(self) -> dict[str, Any]:
        """See `AgentRegistry.snapshot`."""
        return await self._pool.run(self._registry.snapshot)

    async def watch(self, *, timeout: float | None = None) -> AsyncIterator[RegistryEvent]:
        """See `AgentRegistry.watch`: ``async for event in registry.watch()``.

        It looks for the first time when the iteration begins. It ends when this adapter or the
        registry is closed.
        """
        watching = self._registry.watching(timeout=timeout)
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
        """See `AgentRegistry.restore_state_if_available`."""
        return await self._pool.run(self._registry.restore_state_if_available, agent)

    async def on_unhealthy(self, callback: Hook, *, fallback: Hook | None = None) -> None:
        """See `AgentRegistry.on_unhealthy`."""
        _ordinary("callback", callback)
        _ordinary("fallback", fallback)
        await self._pool.run(self._registry.on_unhealthy, callback, fallback=fallback)

    async def move_messages_of_dead(
        self, coordinator: RedisMessageCoordinator, *, to: AgentId | None = None
    ) -> None:
        """See `AgentRegistry.move_messages_of_dead`; that of an adapter is its ``coordinator``."""
        await self._pool.run(self._registry.move_messages_of_dead, coordinator, to=to)

    async def detect_and_recover(self) -> RecoverySummary:
        """See `AgentRegistry.detect_and_recover`."""
        return await self._pool.run(self._registry.detect_and_recover)

    async def on_superseded(self, callback: Callable[[AgentId], object]) -> None:
        """See `AgentRegistry.on_superseded`."""
        _ordinary("callback", callback)
        await self._pool.run(self._registry.on_superseded, callback)

    async def close(self) -> None:
        """End each `watch`, let calls under way finish, and end the threads.

        A registry that `from_url` made is closed, too. Safe to repeat.
        """
        await self._pool.close(self._close_registry)

    async def __aenter__(self) -> Self:
        """Return itself; closed at the end of the ``async with``."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    def _close_registry(self) -> None:
        if self._owns:
            self._registry.close()


def _ordinary(name: str, callback: object) -> None:
    if inspect.iscoroutinefunction(callback):
        raise TypeError(
            f"{name} is called in a thread and must be an ordinary function, not the coroutine "
            f"function {checks.describe(callback)}; "
            "it can hand work to a loop with asyncio.run_coroutine_threadsafe"
        )
