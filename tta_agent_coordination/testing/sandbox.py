"""A server in memory, and everything that a test needs around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self

from tta_agent_coordination import checks, threads
from tta_agent_coordination.agents.agent import AgentProxy
from tta_agent_coordination.coordinator.core import RedisMessageCoordinator
from tta_agent_coordination.errors import ConfigurationError
from tta_agent_coordination.keys import DEFAULT_KEY_PREFIX
from tta_agent_coordination.policy import CoordinatorOptions
from tta_agent_coordination.registry.core import RedisAgentRegistry
from tta_agent_coordination.registry.options import RegistryOptions
from tta_agent_coordination.testing.clock import Clock
from tta_agent_coordination.testing.faults import Faults
from tta_agent_coordination.worker.core import AgentWorker

if TYPE_CHECKING:
    from redis import Redis

DEFAULT_DRAIN_TIMEOUT = 5.0
"""Seconds that handlers get to finish when the sandbox is closed."""
_JOIN_TIMEOUT = 5.0


class Sandbox:
    """A fresh server in memory with a coordinator, a registry, a clock and faults.

    A context manager; at its end everything is closed, and what was stored is gone. Nobody else
    sees this server, so tests can run in parallel.

    Attributes:
        redis: A client of the server, for coordinators, registries and circuit breakers of your
            own.
        coordinator: A coordinator.
        registry: A registry.
        clock: The server's clock.
        faults: What goes wrong on the way to the server.
    """

    def __init__(
        self,
        key_prefix: str = DEFAULT_KEY_PREFIX,
        *,
        coordinator: CoordinatorOptions | None = None,
        registry: RegistryOptions | None = None,
    ) -> None:
        """Make them; no thread runs yet.

        Args:
            key_prefix: Of the coordinator and the registry.
            coordinator: Options of the coordinator; see `RedisMessageCoordinator`.
            registry: Options of the registry; see `RedisAgentRegistry`.

        Raises:
            ConfigurationError: fakeredis is not installed.
            TypeError, ValueError: An option is wrong.
        """
        fake = _fake()
        self._server = fake.MovableServer()
        self._client_of: Callable[..., Redis] = fake.client_of
        self._clients: list[Redis] = []
        self._workers: list[AgentWorker] = []
        self.clock: Clock = self._server.clock
        self.faults = Faults(self._server.trouble)
        self.redis = self.client()
        self.coordinator = RedisMessageCoordinator(
            self.redis, key_prefix, **coordinator or CoordinatorOptions()
        )
        self.registry = RedisAgentRegistry(self.redis, key_prefix, **registry or RegistryOptions())

    def client(self, **options: Any) -> Redis:
        """Return a further client of the server; closed with the sandbox.

        Args:
            options: As for ``redis.Redis``, ``decode_responses=True`` for example.
        """
        client = self._client_of(self._server, **options)
        self._clients.append(client)
        return client

    def worker(
        self,
        agent_or_agents: AgentProxy | Iterable[AgentProxy],
        registry: RedisAgentRegistry | None = None,
        *,
        drain_timeout: float = DEFAULT_DRAIN_TIMEOUT,
        **options: Any,
    ) -> AgentWorker:
        """Return a worker on `coordinator`, not started; stopped with the sandbox.

        Args:
            agent_or_agents: Whom to serve.
            registry: Where they are registered meanwhile; that of the sandbox, for example.
            drain_timeout: Seconds that handlers get to finish at the end.
            options: As for `AgentWorker`.
        """
        worker = AgentWorker(
            agent_or_agents, self.coordinator, registry, drain_timeout=drain_timeout, **options
        )
        self._workers.append(worker)
        return worker

    def abandon(self, worker: AgentWorker) -> None:
        """Let a worker end as if its process were killed.

        Nothing is released, acknowledged or deregistered, and no reply is sent: its leases pass,
        and its agents are found dead, when the clock says so. A handler that runs cannot be
        stopped; whatever it sends from then on does not arrive, and its thread ends with it.
        """
        checks.instance_of("worker", worker, AgentWorker)
        left = worker.internals.abandon(self._server.trouble.cut_off)
        self._server.interrupt()  # one may have begun to wait meanwhile
        threads.join(left, _JOIN_TIMEOUT)
        self._server.wake()  # it may have taken a wake-up with it

    def close(self) -> None:
        """Stop the workers, close everything and forget what was stored; safe to repeat."""
        self.faults.clear()
        for worker in self._workers:
            worker.stop()
        self.registry.close()
        self.coordinator.close()
        self._server.close()
        for client in self._clients:
            client.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def _fake() -> Any:
    try:
        from tta_agent_coordination.testing import fake  # noqa: PLC0415 - it needs an extra
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "a sandbox needs fakeredis: pip install 'tta-agent-coordination[testing]'"
        ) from error
    return fake
