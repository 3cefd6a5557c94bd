"""What a fault can reach: the processes, the servers and the network between them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from tta_agent_coordination.chaos.checker import Window
from tta_agent_coordination.chaos.crew import Crew, Member, microseconds
from tta_agent_coordination.chaos.stages import Stage
from tta_agent_coordination.proxy import FaultProxy

WORKERS = ("consume", "serve")

_SECOND = 1_000_000
_LATE_REPLY = 1.0
"""Seconds after an end in which a process may write down a reply from before it."""


@attrs.define
class Scene:
    """One scenario while it is played.

    Attributes:
        stage: The servers.
        crew: The processes.
        dice: Decide all that is random.
        seconds: How long the faults last.
        through: The proxy between them, where there is one.
        losses: Spans in which the server may have lost what it confirmed.
        deeds: How many faults there were.
    """

    stage: Stage
    crew: Crew
    dice: random.Random
    seconds: float
    through: FaultProxy | None = None
    losses: list[Window] = attrs.field(factory=list[Window])
    deeds: int = 0
    _begin: float = attrs.field(factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds until the faults are over."""
        return self._begin + self.seconds - time.monotonic()

    @property
    def proxy(self) -> FaultProxy:
        """The proxy; scenarios that use it are given one."""
        if self.through is None:
            raise RuntimeError("this scenario has no proxy")
        return self.through

    def pause(self, low: float, high: float) -> None:
        """Let a random time pass, at most a third of the whole so that short runs see faults."""
        seconds = min(self.dice.uniform(low, high), self.seconds / 3)
        time.sleep(max(min(seconds, self.left), 0.0))

    def sleep(self, low: float, high: float) -> None:
        """Let a random time pass, however short the run is."""
        time.sleep(self.dice.uniform(low, high))

    def someone(self, *roles: str) -> Member:
        """Return a random process, of some roles if any are named."""
        return self.dice.choice(self.crew.of(*roles) if roles else self.crew.members)

    @contextmanager
    def losing(self, seconds: float) -> Generator[None]:
        """Note that what is confirmed in this block, or so many seconds before, may be lost."""
        begin = microseconds() - round(seconds * _SECOND)
        try:
            yield
        finally:
            late = round(_LATE_REPLY * _SECOND)
            self.losses.append(Window(begin, microseconds() + late))

    def note(self, deed: str) -> None:
        """Write down what is done now, beside the histories."""
        with (self.crew.folder / "faults.log").open("a") as log:
            log.write(f"{microseconds()} {deed}\n")


def nothing(_scene: Scene) -> None:
    """Do nothing."""


OpenStage = Callable[[Path], Stage]


@attrs.frozen
class Scenario:
    """A fault, and what it is played on.

    Attributes:
        name: For ``--fault``.
        about: What happens, for people.
        act: One disturbance; it is over, or goes on by itself, when this returns.
        every: Seconds between two of them, at least and at most.
        begin: What happens once, before.
        heal: What ends it all.
        open_stage: Starts the servers of its own in a folder; None: any one server will do.
        proxied: Whether the processes reach the server through a proxy.
        exact: Whether no reply is lost, so that even the order of deliveries can be judged, and
            workers must answer at once afterwards.
        made_good: Whether each reply that is lost is made good within its call (2.9).
        clocks: Hours by which the clocks of its processes may be wrong.
        replicas: How many replicas must have what is sent: then it is not lost with a server.
        bound: What the server may lose, for people; empty: nothing.
    """

    name: str
    about: str
    act: Callable[[Scene], None] = nothing
    every: tuple[float, float] = (1.0, 3.0)
    begin: Callable[[Scene], None] = nothing
    heal: Callable[[Scene], None] = nothing
    open_stage: OpenStage | None = None
    proxied: bool = False
    exact: bool = False
    made_good: bool = False
    clocks: Sequence[float] = (0.0,)
    replicas: int = 0
    bound: str = ""


def by_name(scenarios: Sequence[Scenario]) -> Mapping[str, Scenario]:
    """Return scenarios by their names."""
    return {scenario.name: scenario for scenario in scenarios}
