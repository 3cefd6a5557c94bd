"""`AgentWorker`: starts the threads, stops them in order, and says how it is."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterable
from functools import partial
from typing import Self, cast

import attrs

from tta_agent_coordination import checks, forks, threads
from tta_agent_coordination.agents.agent import AgentProxy, check_servable
from tta_agent_coordination.agents.record import AgentLoad
from tta_agent_coordination.coordinator.core import RedisMessageCoordinator
from tta_agent_coordination.errors import ConfigurationError, CoordinationError
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.registry.core import RedisAgentRegistry
from tta_agent_coordination.threads import is_for_caller
from tta_agent_coordination.worker.crew import (
    DEFAULT_DRAIN_TIMEOUT,
    DEFAULT_THREADS,
    DEFAULT_VISIBILITY,
    Crew,
    WorkerOptions,
    counted,
    inboxes_of,
)
from tta_agent_coordination.worker.depths import Depths
from tta_agent_coordination.worker.farewell import Farewell
from tta_agent_coordination.worker.internals import CutOff, WorkerInternals
from tta_agent_coordination.worker.listing import Listing, not_told
from tta_agent_coordination.worker.loop import WorkerLoop
from tta_agent_coordination.worker.signals import AT_ONCE, noted
from tta_agent_coordination.worker.tally import Tally

logger = logging.getLogger("tta_agent_coordination")


@attrs.frozen
class WorkerHealth:
    """How a worker is.

    Attributes:
        running: Whether it was started and not stopped.
        last_poll_age: Seconds since Redis was last asked for messages and answered; None: never.
        busy_threads: Handlers that are at work.
        threads: Handlers there are.
        breakers: State of the circuit breakers around Redis, by name.
        last_error: What went wrong last, on the way to Redis or in a handler.
        superseded: Agents whose registration somebody else took over, or ended, since the start:
            their own inboxes are not served here any more, the shared ones of their types are.
    """

    running: bool
    last_poll_age: float | None
    busy_threads: int
    threads: int
    breakers: dict[str, str]
    last_error: str | None
    superseded: tuple[AgentId, ...] = ()


class AgentWorker:
    """Serves agents: receives their messages in threads, handles them, settles them."""

    def __init__(
        self,
        agent_or_agents: AgentProxy | Iterable[AgentProxy],
        coordinator: RedisMessageCoordinator,
        registry: RedisAgentRegistry | None = None,
        *,
        threads: int = DEFAULT_THREADS,
        visibility_timeout: float = DEFAULT_VISIBILITY,
        max_handler_seconds: float | None = None,
        drain_timeout: float = DEFAULT_DRAIN_TIMEOUT,
    ) -> None:
        """Make a worker; no thread runs yet.

        Args:
            agent_or_agents: Whom to serve: each its own inbox and the shared one of its type.
            coordinator: Carries the messages; stays the caller's to close.
            registry: Where the agents are registered while they are served; stays the caller's.
            threads: Messages handled at once.
            visibility_timeout: Seconds of a lease, renewed while the handler runs.
            max_handler_seconds: Seconds after which the lease of a handler is given up; None: it
                is renewed for as long as it takes.
            drain_timeout: Seconds that handlers get to finish at `stop`.

        Raises:
            TypeError, ValueError: An argument is wrong, or an agent could not handle a message: it
                has no handler, or one that cannot be called with a payload or message alone.
        """
        self._agents = _several(agent_or_agents)
        self._coordinator = checks.instance_of("coordinator", coordinator, RedisMessageCoordinator)
        if registry is not None:
            checks.instance_of("registry", registry, RedisAgentRegistry)
        self._depths = Depths(coordinator, [agent.agent_id for agent in self._agents])
        self._listing = registry and Listing(
            registry,
            self._agents,
            superseded=self._superseded,
            refresh=self._depths.refresh,
        )
        self._options = WorkerOptions(
            threads=threads,
            visibility_timeout=visibility_timeout,
            max_handler_seconds=max_handler_seconds,
            drain_timeout=drain_timeout,
        )
        self._changing = threading.RLock()
        self._loop = WorkerLoop(self._name)
        self._crew: Crew | None = None
        self._last_error: str | None = None
        self._left: list[threading.Thread] = []
        self._lost: tuple[AgentId, ...] = ()
        self._warned = False
        forks.in_child(self._disown)
        forks.before(self._warn_of_fork)

    def start(self) -> None:
        """Begin to serve; does nothing when it does.

        Raises:
            ConfigurationError: Another worker with the same registry serves one of the agents, or
                the coordinator or the registry is closed. Nothing was started.
            CoordinatorUnavailableError: There is a registry, and Redis cannot be reached. Likewise.
            Exception: What the ``start`` of an agent raises; likewise.
        """
        forks.notice()
        with self._changing:
            if self._crew is not None:
                return
            self._coordinator.internals.link.commands.check_open()
            if self._listing is not None:
                self._listing.check_unserved()
            self._lost = ()
            with contextlib.ExitStack() as undo:
                loop = self._loop = WorkerLoop(self._name)
                undo.callback(loop.stop)
                for agent in self._agents:
                    loop.finish(agent.start())
                    undo.callback(self._stop_agent, agent)
                self._crew = Crew(self._agents, self._coordinator, self._options, loop)
                undo.callback(self._disband, self._crew, 0.0)
                # Its state is restored, and it can be found dead, before it handles anything.
                if self._listing is not None:
                    self._listing.begin(self._load)
                self._crew.start()
                undo.pop_all()
            logger.info(
                "worker %s serves %s under the prefix %s", self._name,
                ", ".join(map(str, inboxes_of(self._agents))), self._coordinator.internals.prefix,
                extra={"event": "worker_started", "worker": self._name},
            )  # fmt: skip

    def stop(self, drain: bool = True) -> bool:
        """Stop serving; safe to repeat, and from any thread.

        Nothing more is taken. What was taken and not begun is released at once, and no attempt
        counted. Handlers that run finish within the drain time-out, their leases renewed. A call
        while another one drains waits for that, or ends it with `drain` False.

        Args:
            drain: Wait for handlers that run; False leaves them alone, their leases to expire.

        Returns:
            Whether every thread has ended. Called by a handler, which cannot wait for itself, it
            returns False, and another thread does the work. An asynchronous ``start`` or
            ``stop`` of an agent gets False, and nothing is done: the worker waits for it.
        """
        forks.notice()
        crew = self._crew
        if crew is not None and crew.is_handling_here:
            threads.spawn(f"stop-{self._agents[0].agent_id}", partial(self._end, drain))
            return False
        # In the asynchronous `start` or `stop` of an agent, for which this worker waits itself.
        if self._loop.is_here:
            return False
        if not drain:
            self._hurry()
        with self._changing:
            crew = self._crew
            if crew is not None:
                self._disband(crew, self._options.drain_timeout if drain else 0.0)
                self._stop_agents()
                logger.info(
                    "worker %s has stopped",
                    self._name,
                    extra={"event": "worker_stopped", "worker": self._name},
                )
            return self._has_ended()

    def run(self) -> None:
        """Serve in the main thread until SIGTERM or SIGINT, then drain.

        Another signal, a second later or more, ends the drain as `stop(drain=False)` does.

        Raises:
            ConfigurationError: This is not the main thread, or `start` refuses.
        """
        if threading.current_thread() is not threading.main_thread():
            raise ConfigurationError("run() is for the main thread; elsewhere, use start()")
        with noted(signal.SIGTERM, signal.SIGINT) as signals, self:
            signals.wait()
            self._announce_drain()
            with signals.on_another(self._hurry):
                self.stop()

    def health(self) -> WorkerHealth:
        """Say how it is."""
        forks.notice()
        crew = self._crew
        link = self._coordinator.internals.link
        return WorkerHealth(
            running=crew is not None,
            last_poll_age=crew.last_poll_age if crew else None,
            busy_threads=crew.desk.busy if crew else 0,
            threads=self._options.threads,
            breakers={"commands": link.commands.state, "leases": link.leases.state},
            last_error=crew.last_error if crew else self._last_error,
            superseded=self._lost,
        )

    @property
    def coordinator(self) -> RedisMessageCoordinator:
        """What carries its messages."""
        return self._coordinator

    @property
    def internals(self) -> WorkerInternals:
        """For this package; may change without notice."""
        crew = self._crew
        tally = Tally() if crew is None else crew.tally
        return WorkerInternals(inboxes_of(self._agents), tally, self._abandon)

    def _abandon(self, cut_off: CutOff) -> list[threading.Thread]:
        with self._changing:
            crew, self._crew = self._crew, None
            if self._listing is not None:
                self._listing.let_go()
            left = [] if crew is None else crew.abandon(cut_off)
            self._loop.stop()
            self._left += [*left, *self._loop.threads]
            return left

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and drain."""
        self.stop()

    def _disown(self) -> None:
        """Forget what the parent does, in a child: it serves, and this process does not."""
        self._warn_of_fork()  # unless it was done before
        crew, self._crew = self._crew, None
        self._changing = threading.RLock()
        self._left = []
        if self._listing is not None:
            self._listing.forget()
        self._loop.disown()
        if crew is not None:
            crew.disown()
            self._last_error = (
                f"this process was forked from process {os.getppid()}, where the worker serves on; "
                "call start() to serve here as well"
            )

    def _warn_of_fork(self) -> None:
        if self._crew is not None and not self._warned:
            self._warned = True
            logger.warning(
                "the worker of %s was started before a fork (by process %d): a child has no "
                "threads of it and serves nothing. Under a server that forks its workers "
                "(gunicorn --preload, uWSGI), start it in each of them after the fork "
                "(post_fork, @postfork), or in a process of its own",
                self._name,
                os.getpid(),
                extra={"event": "worker_before_fork", "worker": self._name},
            )

    @property
    def _name(self) -> str:
        return str(self._agents[0].agent_id)

    def _stop_agents(self) -> None:
        with contextlib.ExitStack() as rest:  # carried out also when Ctrl-C ends one of them
            rest.callback(self._end_loop)
            for agent in reversed(self._agents):
                rest.callback(self._stop_agent, agent)

    def _end_loop(self) -> None:
        self._loop.stop()
        self._left += self._loop.threads

    def _stop_agent(self, agent: AgentProxy) -> None:
        with _logged(f"stop of agent {agent.agent_id}"):
            self._loop.finish(agent.stop())

    def _end(self, drain: bool) -> None:
        self.stop(drain)

    def _announce_drain(self) -> None:
        crew = self._crew
        if crew is None or not crew.desk.at_work:
            return
        logger.info(
            "worker %s waits for %s, for %g s at most; another signal, %g s from now or later, "
            "stops it without waiting",
            self._name, counted(crew.desk.at_work), self._options.drain_timeout, AT_ONCE,
            extra={"event": "worker_drains", "worker": self._name},
        )  # fmt: skip

    def _hurry(self) -> None:
        crew = self._crew
        if crew is not None:
            crew.desk.hurry()

    def _disband(self, crew: Crew, drain_timeout: float) -> None:
        end = time.monotonic() + drain_timeout
        talk = Farewell(not_told, after=crew.talk)
        crew.stop_taking()
        if self._listing is not None:
            self._listing.retire(talk)
        crew.finish(max(end - time.monotonic(), 0.0))
        if self._listing is not None:
            self._listing.end(talk)  # stores what agents export last, so their handlers end first
        self._last_error = crew.last_error
        self._left += crew.threads
        self._crew = None

    def _has_ended(self) -> bool:
        self._left = [thread for thread in self._left if thread.is_alive()]
        return not self._left

    def _superseded(self, agent_id: AgentId) -> None:
        if self._listing is not None and self._listing.drop(agent_id):
            self._lost = (*self._lost, agent_id)
        crew = self._crew
        if crew is not None:
            crew.drop(agent_id)

    def _load(self, agent: AgentProxy) -> AgentLoad:
        crew = self._crew
        if crew is None:
            return AgentLoad()
        depth = self._depths.of(agent.agent_id)
        return AgentLoad(busy=crew.desk.busy, threads=self._options.threads, depth=depth)


def _several(agents: object) -> list[AgentProxy]:
    if isinstance(agents, AgentProxy):
        agents = [agents]
    if not isinstance(agents, Iterable):
        given = checks.describe(agents)
        hint = f": make one, {agents.__name__}(…)" if isinstance(agents, type) else ""
        raise TypeError(f"a worker serves an agent or several, not {given}{hint}")
    each = cast("Iterable[object]", agents)
    found = [checks.instance_of("each agent", one, AgentProxy) for one in each]
    if not found:
        raise ValueError("a worker needs at least one agent")
    for agent in found:
        check_servable(agent)
    for agent_id, count in Counter(agent.agent_id for agent in found).items():
        if count > 1:
            raise ValueError(
                f"{count} agents of a worker have the id {agent_id}: give each its own"
            )
    return found


@contextlib.contextmanager
def _logged(what: str) -> Generator[None]:
    try:
        yield
    except CoordinationError as error:
        logger.warning("%s failed: %s", what, error, extra={"event": "worker_step_failed"})
    except BaseException as error:
        if is_for_caller(error):
            raise
        logger.exception("%s failed", what, extra={"event": "worker_step_failed"})
