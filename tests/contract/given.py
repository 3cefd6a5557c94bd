"""What the tests of the contract have in common."""

import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from tests.support.servers import Client
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    FailureType,
    MessageCoordinator,
    MessageResult,
    ReceivedMessage,
)
from tta_agent_coordination.keys import Keys

T = TypeVar("T")

SENDER = AgentId("planner", "main")
WORKER = AgentId("worker")
ONE = AgentId("worker", "1")
TWO = AgentId("worker", "2")

FAILED = FailureType.PERMANENT

LONG = 60.0
"""Seconds of a lease that does not end while a test runs."""
PATIENCE = 10.0
"""Seconds that a test waits at most for what must come."""


def message(number: int = 0, *, to: AgentId = WORKER, **fields: Any) -> AgentMessage:
    """A message that can be told by its number."""
    return AgentMessage(SENDER, to, {"n": number}, **fields)


def send(
    coordinator: MessageCoordinator, *numbers: int, to: AgentId = WORKER, **fields: Any
) -> list[MessageResult]:
    """Send numbered messages, of which each must be stored."""
    results = coordinator.send_many(SENDER, [message(n, to=to, **fields) for n in numbers])
    assert all(result.delivered and not result.duplicate for result in results)
    return results


def take(
    coordinator: MessageCoordinator, agent_id: AgentId = WORKER, lease: float = LONG
) -> ReceivedMessage:
    """Receive a message, which must be there."""
    received = coordinator.receive(agent_id, lease)
    assert received is not None, f"nothing in {agent_id}"
    return received


def lapsed(coordinator: MessageCoordinator, later: Callable[[float], None]) -> str:
    """Send a message, take it, and return the token once its lease has passed."""
    send(coordinator, 1)
    token = take(coordinator, lease=10).token
    later(11)
    return token


def drain(
    coordinator: MessageCoordinator, agent_id: AgentId = WORKER, lease: float = LONG
) -> list[int]:
    """Receive all that is ready; return the numbers in the order of handing out."""
    return numbers(coordinator.receive_many(agent_id, 1000, lease))


def numbers(received: Iterable[ReceivedMessage]) -> list[int]:
    return [each.message.payload["n"] for each in received]


def bury(
    coordinator: MessageCoordinator, *numbers: int, to: AgentId = WORKER, **fields: Any
) -> None:
    """Make dead letters, in the order given, in an inbox where nothing else is ready."""
    for number in numbers:
        send(coordinator, number, to=to, **fields)
        coordinator.nack(to, take(coordinator, to).token, FAILED, f"error {number}")


def together(count: int, job: Callable[[int], T]) -> list[T]:
    """Run ``job(0)`` to ``job(count - 1)`` in threads that start at once; return the answers."""
    gate = threading.Barrier(count)
    answers: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(index: int) -> None:
        try:
            gate.wait(PATIENCE)
            answers[index] = job(index)
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            errors.append(error)

    threads = [
        threading.Thread(target=run, args=(index,), name=f"together-{index}")
        for index in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * PATIENCE)
    if errors:
        raise errors[0]
    return [answers[index] for index in range(count)]


class InBackground:
    """A call in a thread of its own: ``with InBackground(call) as answer: ...; answer()``."""

    def __init__(self, call: Callable[[], Any], name: str = "in-background") -> None:
        self._answers: list[Any] = []
        self._errors: list[BaseException] = []
        self._call = call
        self._thread = threading.Thread(target=self._run, name=name)

    def __enter__(self) -> Callable[[], Any]:
        self._thread.start()
        return self.answer

    def __exit__(self, *_: object) -> None:
        self._thread.join(3 * PATIENCE)

    def answer(self) -> Any:
        """What the call returned or raised, once it has."""
        self._thread.join(3 * PATIENCE)
        assert not self._thread.is_alive(), f"{self._thread.name} does not end"
        if self._errors:
            raise self._errors[0]
        return self._answers[0]

    def _run(self) -> None:
        try:
            self._answers.append(self._call())
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            self._errors.append(error)


def server_time(client: Client, prefix: str, agent_id: AgentId = WORKER) -> float:
    """The clock of the server that holds an inbox, in seconds since 1970."""
    key = Keys(prefix).inbox(agent_id)["messages"]
    seconds, micro = client.eval("return redis.call('TIME')", 1, key)
    return int(seconds) + int(micro) / 1_000_000


def due_in(client: Client, prefix: str, place: str, agent_id: AgentId = WORKER) -> float:
    """Seconds until the first entry of ``delayed`` or ``leased`` is due."""
    key = Keys(prefix).inbox(agent_id)[place]
    [(_, score)] = client.zrange(key, 0, 0, withscores=True)
    return score / 1_000_000 - server_time(client, prefix, agent_id)
