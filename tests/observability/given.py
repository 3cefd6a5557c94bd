"""What the tests of observability share."""

import threading
from typing import Any, TypeVar

from tests.support.waiting import eventually
from tta_agent_coordination import Agent, AgentId, AgentMessage
from tta_agent_coordination.events import Event

SENDER = AgentId("planner", "main")
WORKER = AgentId("worker")
ONE = AgentId("worker", "1")
LONG = 60.0
"""Seconds of a lease that does not end while a test runs."""

E = TypeVar("E", bound=Event)


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.threads: list[str] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self.threads.append(threading.current_thread().name)

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def one(self, kind: type[E]) -> E:
        [found] = self.of(kind)
        return found

    def wait_for(self, kind: type[E], count: int = 1) -> list[E]:
        eventually(lambda: len(self.of(kind)) >= count, what=f"too few {kind.name}")
        return self.of(kind)

    def clear(self) -> None:
        self.events.clear()


class Acting(Agent):
    """Does with every payload what the test says."""

    def __init__(self, act: Any = lambda payload: payload, agent_id: AgentId = ONE) -> None:
        super().__init__(agent_id)
        self._act = act

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        return self._act(payload)


def message(number: int = 0, *, to: AgentId = WORKER, **fields: Any) -> AgentMessage:
    return AgentMessage(SENDER, to, {"n": number}, **fields)
