"""`RedisAgentRegistry`: checks what it is given and hands it to the part that does it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self, cast

from tta_agent_coordination import checks, policy
from tta_agent_coordination.agents.agent import check_made
from tta_agent_coordination.agents.record import AgentRecord, Liveness, RegistryEvent
from tta_agent_coordination.coordinator.core import RedisMessageCoordinator
from tta_agent_coordination.errors import (
    AgentNotFoundError,
    ConfigurationError,
    CoordinatorUnavailableError,
)
from tta_agent_coordination.events import AgentsRecovered, Events
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.keys import DEFAULT_KEY_PREFIX, Keys
from tta_agent_coordination.registry import catalog
from tta_agent_coordination.registry.events import Watch
from tta_agent_coordination.registry.interface import AgentRegistry
from tta_agent_coordination.registry.local import LoadSource, LocalAgent, Registrable
from tta_agent_coordination.registry.options import DEFAULT_HEARTBEAT_TTL, Times
from tta_agent_coordination.registry.pulse import Pulse
from tta_agent_coordination.registry.recovery import Hook, RecoverySummary, RestartPolicy
from tta_agent_coordination.registry.store import Store
from tta_agent_coordination.registry.supervision import Supervision
from tta_agent_coordination.threads import PerProcess, is_for_caller
from tta_agent_coordination.transport.link import Link
from tta_agent_coordination.transport.url import target_of

if TYPE_CHECKING:
    from redis import Redis
    from redis.cluster import RedisCluster

logger = logging.getLogger("tta_agent_coordination")


class RedisAgentRegistry(AgentRegistry):
    """Keeps registrations in Redis or Valkey; a context manager.

    It can be shared by threads and costs nothing until its first call. Heartbeats have
    connections and a circuit breaker of their own, so that no other call delays them. In a
    process that was forked it begins without agents: they are the parent's, which beats for them.
    """

    def __init__(
        self,
        redis: Redis | RedisCluster,
        key_prefix: str = DEFAULT_KEY_PREFIX,
        *,
        heartbeat_ttl_s: float = DEFAULT_HEARTBEAT_TTL,
        heartbeat_interval_s: float | None = None,
        grace_s: float | None = None,
        call_timeout: float = policy.DEFAULT_CALL_TIMEOUT,
        restart_policy: RestartPolicy | None = None,
    ) -> None:
        """Make a registry; nothing is connected and no thread runs yet.

        Args:
            redis: As for `RedisMessageCoordinator`.
            key_prefix: What every key begins with; that of the coordinator.
            heartbeat_ttl_s: Seconds that a beat is good for.
            heartbeat_interval_s: Seconds between two beats; a third of the ttl.
            grace_s: Seconds after its last beat for which an agent is remembered; ten times the
                ttl, and at least two and a half times.
            call_timeout: Seconds that a call may take.
            restart_policy: How often a restart is tried.

        Raises:
            TypeError, ValueError: An argument is wrong.
            ConfigurationError: Two of them contradict each other.
        """
        self._link = Link(redis, call_timeout=call_timeout)
        times = Times.of(heartbeat_ttl_s, heartbeat_interval_s, grace_s)
        given = RestartPolicy() if restart_policy is None else restart_policy
        self._times = times
        self._keys = keys = Keys(key_prefix)
        self._beat_link = Link(
            redis, call_timeout=times.beat_timeout(call_timeout), events=self.events
        )
        self._store = Store(self._link.commands, keys, grace=times.grace)
        beats = Store(self._beat_link.commands, keys, grace=times.grace)
        self._pulses = PerProcess(
            lambda: Pulse(times, self._store, beats, self._tell_superseded, self.events)
        )
        self._supervision = Supervision(checks.instance_of("restart_policy", given, RestartPolicy))
        self._superseded: tuple[Callable[[AgentId], object], ...] = ()

    @classmethod
    def from_url(cls, url: str, key_prefix: str = DEFAULT_KEY_PREFIX, **options: Any) -> Self:
        """Make a registry for the server at `url`: see `RedisMessageCoordinator.from_url`."""
        return cls(cast("Redis", target_of(url)), key_prefix, **options)

    def __repr__(self) -> str:
        """Name the prefix, and nothing that is secret."""
        return f"<{type(self).__name__} key_prefix={self._keys.prefix!r}>"

    def register(self, agent: Registrable) -> AgentRecord:
        check_made(agent)
        _agent_id("agent.agent_id", getattr(agent, "agent_id", None))
        checks.instance_of("agent.name", getattr(agent, "name", None), str)
        return self._pulse.register(agent)

    def deregister(self, agent_id: AgentId) -> bool:
        return self._pulse.deregister(_agent_id("agent_id", agent_id))

    def heartbeat(self, agent_id: AgentId) -> bool:
        return self._pulse.heartbeat(_agent_id("agent_id", agent_id))

    def start_heartbeats(self) -> None:
        self._check_open()
        self._pulse.heart.start()

    def lend_heartbeats(self) -> None:
        """Start the heartbeats, unless they run, for as long as they are needed; for a worker."""
        self._check_open()
        self._pulse.heart.start(lent=True)

    def stop_lent_heartbeats(self, timeout: float) -> None:
        """Stop them if nobody else has started them, and no agent of this process is left."""
        self._pulse.heart.stop_lent(self._pulse.agents.all, timeout)

    def stop_heartbeats(self, timeout: float = 5.0) -> bool:
        return self._pulse.heart.stop(checks.duration("timeout", timeout))

    def get(self, agent_id: AgentId) -> AgentRecord | None:
        return self._store.read(_agent_id("agent_id", agent_id))

    def list_registered(
        self, *, agent_type: str | None = None, include_dead: bool = False
    ) -> list[AgentRecord]:
        if agent_type is not None:
            checks.instance_of("agent_type", agent_type, str)
        return [
            record
            for record in self._store.read_all()
            if (include_dead or record.liveness is not Liveness.DEAD)
            and agent_type in (None, record.agent_id.type)
        ]

    def discover(
        self,
        agent_type: str | None = None,
        *,
        capability: str | None = None,
        min_version: str | None = None,
        tags: Iterable[str] = (),
    ) -> list[AgentRecord]:
        wanted = catalog.Wanted(capability, min_version, tags)
        found = self.list_registered(agent_type=agent_type)
        return catalog.least_loaded_first(record for record in found if wanted.fits(record))

    def pick(
        self,
        agent_type: str | None = None,
        *,
        capability: str | None = None,
        min_version: str | None = None,
        tags: Iterable[str] = (),
    ) -> AgentId:
        tags = checks.strings("tags", tags)
        found = self.discover(agent_type, capability=capability, min_version=min_version, tags=tags)
        if not found:
            raise AgentNotFoundError(
                "no agent is alive that fits: "
                f"{catalog.described(agent_type, capability, min_version, tags)}"
            )
        return found[0].agent_id

    def snapshot(self) -> dict[str, Any]:
        records: list[AgentRecord] = []
        error: str | None = None
        try:
            records = self._store.read_all()
        except CoordinatorUnavailableError as unavailable:  # what is known here still is
            error = str(unavailable)
        heart = self._pulse.heart
        return {
            "error": error,
            "agents": [catalog.plain(record) for record in records],
            "counts": catalog.counts(records),
            "local": [str(local.agent_id) for local in self._pulse.agents.all()],
            "superseded": sorted(str(one) for one in list(self._pulse.superseded)),
            "heartbeat": {
                "running": heart.running,
                "last_success_age": heart.age,
                "last_error": heart.last_error,
                "breaker": self._beat_link.commands.state,
            },
        }

    def watch(self, *, timeout: float | None = None) -> Iterator[RegistryEvent]:
        return self.watching(timeout=timeout).events()

    def watching(self, *, timeout: float | None) -> Watch:
        """Return a `watch` to be made look by look, for asyncio; not part of the interface."""
        end = None if timeout is None else time.monotonic() + checks.duration("timeout", timeout)
        return Watch(self._store.look, self._times.look_interval, self._pulse.closed, end)

    def restore_state_if_available(self, agent: Registrable) -> bool:
        agent_id = _agent_id("agent.agent_id", getattr(agent, "agent_id", None))
        return LocalAgent(agent, self._times.ttl).take_over(self._store.state(agent_id))

    def on_unhealthy(self, callback: Hook, *, fallback: Hook | None = None) -> None:
        checks.callback("callback", callback)
        if fallback is not None:
            checks.callback("fallback", fallback)
        self._supervision.recovery.hook(callback, fallback)

    def move_messages_of_dead(
        self, coordinator: RedisMessageCoordinator, *, to: AgentId | None = None
    ) -> None:
        checks.instance_of("coordinator", coordinator, RedisMessageCoordinator)
        self._supervision.move_messages(coordinator, None if to is None else _agent_id("to", to))

    def on_superseded(self, callback: Callable[[AgentId], object]) -> None:
        checks.callback("callback", callback)
        if callback not in self._superseded:
            self._superseded = (*self._superseded, callback)

    def remove_on_superseded(self, callback: Callable[[AgentId], object]) -> None:
        """Call it no more; a worker calls it."""
        self._superseded = tuple(known for known in self._superseded if known != callback)

    def detect_and_recover(self) -> RecoverySummary:
        unwell = self._pulse.check_up()
        summary = self._supervision.round(self._store.look(), unwell)
        if summary.unhealthy and self.events.observers:
            self.events.tell(
                AgentsRecovered(
                    unhealthy=len(summary.unhealthy),
                    restarted=len(summary.restarted),
                    given_up=len(summary.given_up),
                    failed=len(summary.failed),
                    moved=summary.moved,
                )
            )
        return summary

    def disown(self, agent_id: AgentId, source: LoadSource | None = None) -> None:
        """Beat no more for an agent of this process, and leave its registration to expire.

        With a `source`, only if it is that for which this one was set.
        """
        local = self._pulse.agents.get(_agent_id("agent_id", agent_id))
        if local is not None and source in (None, local.load):
            self._pulse.agents.drop(local)

    def is_served(self, agent_id: AgentId) -> bool:
        """Whether a worker serves it that has this registry; a worker calls it."""
        local = self._pulse.agents.get(agent_id)
        return local is not None and local.load is not None

    def serves(self, agent_id: AgentId, source: LoadSource) -> bool:
        """Whether the registration of an agent is that for which `source` was set."""
        local = self._pulse.agents.get(agent_id)
        return local is not None and local.load is source

    def end_served(self, agent_id: AgentId, source: LoadSource) -> bool:
        """End a registration if it is that for which `source` was set; a worker calls it."""
        local = self._pulse.agents.get(agent_id)
        return local is not None and local.load is source and self._pulse.end(local)

    def set_load_source(self, agent_id: AgentId, source: LoadSource | None) -> None:
        """Let beats of an agent of this process tell how busy it is; a worker calls it."""
        local = self._pulse.agents.get(agent_id)
        if local is not None:
            local.load = source

    def refresh_loads(self, refresh: Callable[[], object]) -> None:
        """Call `refresh` once a beat, after all hooks and beside the beat; a worker calls it."""
        self._pulse.refreshing += (refresh,)

    def refresh_no_loads(self, refresh: Callable[[], object]) -> None:
        """Call it no more."""
        kept = (known for known in self._pulse.refreshing if known != refresh)
        self._pulse.refreshing = tuple(kept)

    def retire(self, agent_ids: Iterable[AgentId]) -> None:
        """Announce in one round trip that agents of this process stop; a worker calls it.

        They are not discovered any more, and beat on until they are deregistered.
        """
        self._pulse.retire(agent_ids)

    def close(self) -> None:
        """Stop the heartbeats and close the connections; registrations are left to expire."""
        pulse = self._pulse
        pulse.closed.set()
        pulse.heart.stop(timeout=policy.DEFAULT_CALL_TIMEOUT)
        self._link.close()
        self._beat_link.close()

    def __enter__(self) -> Self:
        """Return itself; closed at the end of the ``with``."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @property
    def events(self) -> Events:
        """Who is told what happens here: add and remove observers."""
        return self._link.events

    def _check_open(self) -> None:
        if self._pulse.closed.is_set():
            raise ConfigurationError("this registry is closed: make a new one")

    @property
    def _pulse(self) -> Pulse:
        return self._pulses.get()

    def _tell_superseded(self, agent_id: AgentId) -> None:
        for callback in self._superseded:
            try:
                callback(agent_id)
            except BaseException as error:
                if is_for_caller(error):
                    raise
                logger.exception(
                    "a callback for the superseded agent %s raised",
                    agent_id,
                    extra={"event": "superseded_hook_failed", "agent": str(agent_id)},
                )


def _agent_id(name: str, value: object) -> AgentId:
    return checks.instance_of(name, value, AgentId)
