"""The agents that this process has registered, and what it tells of each at a beat."""

from __future__ import annotations

import inspect
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

import attrs

from tta_agent_coordination import checks, threads
from tta_agent_coordination.agents.capability import AgentCapability
from tta_agent_coordination.agents.record import (
    RUNNING,
    STOPPING,
    UNHEALTHY,
    UNRESPONSIVE,
    AgentLoad,
)
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.registry.store import Beat, Registration

logger = logging.getLogger("tta_agent_coordination")

MAX_STATE_BYTES = 1024 * 1024
"""Bytes of an exported state as JSON: it is sent with every beat."""

T = TypeVar("T")
LoadSource = Callable[[], AgentLoad]


def this_process() -> str:
    """Return where this runs, as records have it."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Registrable(Protocol):
    """What can be registered: any object with an address and a name.

    ``get_capabilities``, ``export_state``, ``import_state``, ``health_check`` and a text
    ``status`` are used where it has them.
    """

    agent_id: AgentId
    name: str


@attrs.define(eq=False)
class LocalAgent:
    """An agent of this process.

    What its hooks said last is kept, so that a beat needs none of them.

    Attributes:
        agent: The object that was registered.
        ttl: Seconds that a beat is good for.
        registry: What this registry object calls itself.
        epoch: Of its registration; 0 before there is one.
        load: Says how busy it is, from memory, where a worker serves it.
        healthy: What its last health check found.
        state: The last state that is known of it, as JSON; empty for none.
        stopping: Whether it takes no more messages and finishes those it has.
    """

    agent: Registrable
    ttl: float
    registry: str = ""
    epoch: int = 0
    load: LoadSource | None = None
    stopping: bool = False
    healthy: bool = True
    state: str = ""
    _said: Registration = attrs.field(init=False)
    _last_load: AgentLoad = attrs.field(factory=AgentLoad, init=False)
    _asking: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _asked_at: float | None = attrs.field(default=None, init=False)
    _failing: set[str] = attrs.field(factory=set[str], init=False)

    def __attrs_post_init__(self) -> None:
        """Begin with what is known without asking."""
        self._said = Registration(self.agent.name, self.ttl, registry=self.registry)

    @property
    def agent_id(self) -> AgentId:
        """Its address."""
        return self.agent.agent_id

    @property
    def responsive(self) -> bool:
        """Whether none of its hooks has been running for longer than the ttl."""
        asked_at = self._asked_at
        return asked_at is None or time.monotonic() - asked_at <= self.ttl

    @property
    def well(self) -> bool:
        """Whether its last health check was good, and its hooks return."""
        return self.healthy and self.responsive

    def ask(self, *, wait: float = 0.0, strict: bool = False) -> bool:
        """Call its hooks and keep what they say; what one that raises said before stays.

        Args:
            wait: Seconds to wait for a thread that is asking it now.
            strict: Raise what ``get_capabilities`` raises, for a first registration.

        Returns:
            False when that thread is not done by then, and nothing was asked.
        """
        # Held across hooks, so nobody may wait for it without a limit.
        if not self._asking.acquire(timeout=wait):
            return False
        try:
            self._asked_at = time.monotonic()
            self._ask(strict=strict)
        finally:
            self._asked_at = None
            self._asking.release()
        return True

    def beat(self) -> Beat:
        """Return what is told of it at a beat."""
        self._last_load = self._answer("load", self._load, otherwise=self._last_load)
        said = attrs.evolve(self._said, load=self._last_load)
        if self.stopping:
            said = attrs.evolve(said, status=STOPPING)
        elif not self.well:
            status = UNRESPONSIVE if not self.responsive else UNHEALTHY
            said = attrs.evolve(said, status=status)
        return Beat(self.agent_id, said, self.state, self.epoch)

    def take_over(self, state: dict[str, Any] | None) -> bool:
        """Give the agent what a predecessor exported; whether it took it."""
        import_state = getattr(self.agent, "import_state", None)
        if state is None or import_state is None:
            return False
        self.state = json.dumps(state)
        import_state(state)
        return True

    def _ask(self, *, strict: bool) -> None:
        healthy = self._answer("health check", self._health, otherwise=False)
        if healthy != self.healthy:
            logger.warning(
                "agent %s is %s",
                self.agent_id,
                "well" if healthy else "unwell",
                extra={"event": "agent_health", "agent": str(self.agent_id), "well": healthy},
            )
        self.healthy = healthy
        before = self._said
        self._said = Registration(
            name=self._answer("name", self._name, otherwise=before.name),
            ttl=self.ttl,
            status=self._answer("status", self._status, otherwise=before.status),
            capabilities=self._capabilities()
            if strict
            else self._answer("capabilities", self._capabilities, otherwise=before.capabilities),
            process=this_process(),
            registry=self.registry,
        )
        self.state = self._answer("state", self._state, otherwise=self.state)

    def _answer(self, what: str, hook: Callable[[], T], *, otherwise: T) -> T:
        try:
            answer = hook()
        except BaseException as error:
            if threads.is_for_caller(error):
                raise
            if what not in self._failing:  # one line a change, not one a beat
                logger.exception(
                    "the %s of agent %s could not be asked for",
                    what,
                    self.agent_id,
                    extra={"event": "agent_hook_failed", "agent": str(self.agent_id)},
                )
            self._failing.add(what)
            return otherwise
        self._failing.discard(what)
        return answer

    def _health(self) -> bool:
        health_check = getattr(self.agent, "health_check", None)
        answer = health_check is None or health_check()
        if inspect.iscoroutine(answer):
            answer.close()
            raise TypeError("health_check is called in a thread: make it an ordinary function")
        return bool(answer)

    def _name(self) -> str:
        return checks.instance_of("agent.name", self.agent.name, str)

    def _status(self) -> str:
        status = getattr(self.agent, "status", None)
        return str(status) if isinstance(status, str) else RUNNING

    def _capabilities(self) -> tuple[AgentCapability, ...]:
        get_capabilities = getattr(self.agent, "get_capabilities", None)
        if get_capabilities is None:
            return ()
        found = cast("Sequence[AgentCapability]", get_capabilities())
        return tuple(checks.instance_of("each capability", one, AgentCapability) for one in found)

    def _load(self) -> AgentLoad:
        return self.load() if self.load is not None else AgentLoad()

    def _state(self) -> str:
        export_state = getattr(self.agent, "export_state", None)
        state = None if export_state is None else export_state()
        if state is None:
            return self.state
        text = json.dumps(checks.instance_of("the state", state, dict), allow_nan=False)
        if len(text) > MAX_STATE_BYTES:
            raise ValueError(f"the state has {len(text)} bytes, and the limit is {MAX_STATE_BYTES}")
        return text


class LocalAgents:
    """All of them; shared by threads."""

    def __init__(self) -> None:
        """Begin with none."""
        self._agents: dict[AgentId, LocalAgent] = {}
        self._epochs: dict[AgentId, int] = {}
        self._parted: dict[AgentId, LocalAgent] = {}
        self._lock = threading.Lock()

    def add(self, local: LocalAgent) -> None:
        """Add one, in place of one with the same id, unless that was registered later."""
        with self._lock:
            held = self._agents.get(local.agent_id)
            if held is None or held.epoch <= local.epoch:
                self._agents[local.agent_id] = local
                self._epochs[local.agent_id] = local.epoch
                self._parted.pop(local.agent_id, None)

    def get(self, agent_id: AgentId) -> LocalAgent | None:
        """Return one."""
        with self._lock:
            return self._agents.get(agent_id)

    def drop(self, local: LocalAgent) -> bool:
        """Drop one, unless it was replaced."""
        with self._lock:
            if self._agents.get(local.agent_id) is not local:
                return False
            del self._agents[local.agent_id]
            return True

    def part_with(self, local: LocalAgent) -> None:
        """Drop one that ends, and remember it until Redis is known to have been told."""
        self.drop(local)
        with self._lock:
            self._parted[local.agent_id] = local

    def parted(self, agent_id: AgentId) -> LocalAgent | None:
        """Return one of whose end Redis may not have been told."""
        with self._lock:
            return self._parted.get(agent_id)

    def last_epoch(self, agent_id: AgentId) -> int:
        """Return the epoch of the last one of this id, also if it was dropped; 0 if none was."""
        with self._lock:
            return self._epochs.get(agent_id, 0)

    def forget(self, agent_id: AgentId, epoch: int) -> None:
        """Forget an epoch that is over."""
        with self._lock:
            if self._epochs.get(agent_id) == epoch:
                del self._epochs[agent_id]

    def forget_parted(self, local: LocalAgent) -> None:
        """Forget one of whose end Redis has been told."""
        with self._lock:
            if self._parted.get(local.agent_id) is local:
                del self._parted[local.agent_id]

    def all(self) -> list[LocalAgent]:
        """Return all, in the order they came."""
        with self._lock:
            return list(self._agents.values())
