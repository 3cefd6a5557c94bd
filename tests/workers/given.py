"""Agents, messages and looks at Redis that the tests of workers share."""

import threading
from collections.abc import Callable
from typing import Any

from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentMessage,
    AgentWorker,
    MessageType,
    RedisMessageCoordinator,
)
from tta_agent_coordination.worker.desk import Desk, Task

ASKER = AgentId("asker", "1")
OWN, SHARED = AgentId("greeter", "1"), AgentId("greeter")
LONG = 10.0
"""Seconds that nothing here takes, unless it hangs."""

Payload = dict[str, Any]
Serve = Callable[..., AgentWorker]


def event(number: int = 0, to: AgentId = OWN, **fields: Any) -> AgentMessage:
    return AgentMessage(ASKER, to, {"number": number}, **fields)


def request(number: int = 0, to: AgentId = OWN, **fields: Any) -> AgentMessage:
    return event(number, to, message_type=MessageType.REQUEST, **fields)


def send(coordinator: RedisMessageCoordinator, message: AgentMessage) -> None:
    assert coordinator.send_message(message.sender, message.recipient, message).delivered


class Scripted(Agent):
    """Does with every message what the test says; keeps what it got."""

    def __init__(
        self, act: Callable[[Payload], Payload | None] | None = None, agent_id: AgentId = OWN
    ) -> None:
        super().__init__(agent_id)
        self.got: list[Payload] = []
        self.events: list[AgentMessage] = []
        self.life: list[str] = []
        self._act = act or (lambda payload: {"echo": payload})

    def start(self) -> None:
        self.life.append("start")

    def stop(self) -> None:
        self.life.append("stop")

    def process(self, payload: Payload) -> Payload:
        self.got.append(payload)
        return self._act(payload)

    def on_event(self, message: AgentMessage) -> None:
        self.events.append(message)
        self.process(message.payload)


class Gate:
    """A handler that is held up until the test lets it go on."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, payload: Payload) -> Payload:
        self.begun.release()
        assert self.open.wait(LONG), "the test never opened the gate"
        return {"echo": payload}

    def wait_for(self, count: int) -> None:
        """Return once so many handlers are held up."""
        for _ in range(count):
            assert self.begun.acquire(timeout=LONG), "too few handlers began"


def is_empty(coordinator: RedisMessageCoordinator, *inboxes: AgentId) -> bool:
    """Whether nothing is ready, delayed or leased there."""
    return not any(coordinator.internals.held(inbox) for inbox in inboxes)


def in_thread(work: Callable[[], Any], name: str) -> Callable[[], Any]:
    """Begin `work` in a thread; return what waits for its result, or raises its error."""
    came: list[Any] = []

    def run() -> None:
        try:
            came.append((work(), None))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            came.append((None, error))

    thread = threading.Thread(target=run, name=name)
    thread.start()

    def result() -> Any:
        thread.join(LONG)
        assert came, f"{name} does not end"
        value, error = came[0]
        if error is not None:
            raise error
        return value

    return result


def begins_nothing(desk: Desk) -> Task | None:
    """Take nothing, for a `Desk` of which the threads are to begin nothing."""
    while not desk.stopping:
        threading.Event().wait(0.01)
    return None
