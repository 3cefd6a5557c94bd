"""4.1: an agent that could not handle its first message is refused when it is given to a worker."""

import functools
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from typing import Any, cast

import pytest

from tests.workers.given import OWN, Payload, Scripted
from tta_agent_coordination import (
    Agent,
    AgentWorker,
    RedisAgentRegistry,
    RedisMessageCoordinator,
    handles,
)
from tta_agent_coordination.glue.surrounded import SurroundedAgent

pytestmark = [pytest.mark.guarantee("4.1"), pytest.mark.backend("fakeredis")]

Coordinator = RedisMessageCoordinator


def nothing() -> None: ...


def pair(first: object, second: object) -> None: ...


def named(*, payload: object) -> None: ...


def generator(payload: object) -> Iterator[object]:
    yield payload


async def asynchronous_generator(payload: object) -> AsyncIterator[object]:
    yield payload


UNFIT = [
    (None, "process of agent greeter:1 must be a function, not None"),
    ("text", "process of agent greeter:1 must be a function, not 'text'"),
    (nothing, r"called with one argument, the payload, but takes \(\)"),
    (pair, r"but takes \(first: object, second: object\).*: missing .*'second'"),
    (named, r"but takes \(\*, payload: object\)"),
    (generator, "is a generator function"),
    (asynchronous_generator, "is a generator function"),
]


@pytest.mark.parametrize(("process", "text"), UNFIT)
def test_an_agent_whose_process_cannot_be_called_is_refused_before_its_first_message(
    coordinator: Coordinator, process: Any, text: str
) -> None:
    agent = Scripted()
    agent.process = process
    with pytest.raises(TypeError, match=text):
        AgentWorker(agent, coordinator)
    with pytest.raises(TypeError, match=text):
        SurroundedAgent(agent, nullcontext)


@pytest.mark.parametrize("known", [{}, {"agent_id": OWN}])
def test_so_is_one_whose_constructor_forgot_that_of_agent(
    coordinator: Coordinator, known: dict[str, Any]
) -> None:
    def forgetful(self: object) -> None: ...

    agent = type("Forgetful", (Agent,), {**known, "__init__": forgetful})()
    text = r"Forgetful is not ready: call super\(\).__init__\(…\) in Forgetful.__init__"
    with pytest.raises(TypeError, match=text):
        AgentWorker(agent, coordinator)
    registry = RedisAgentRegistry.from_url("redis://127.0.0.1")
    with registry, pytest.raises(TypeError, match=text):
        registry.register(agent)


@pytest.mark.parametrize("kind", [Agent, Scripted])
def test_so_is_a_class_in_place_of_an_agent(kind: Any) -> None:
    registry = RedisAgentRegistry.from_url("redis://127.0.0.1")
    text = rf"an agent is needed, not <class .*: make one, {kind.__name__}\(…\)"
    with registry, pytest.raises(TypeError, match=text):
        registry.register(kind)


def test_so_is_one_that_forgot_itself_and_one_with_such_a_handler(
    coordinator: Coordinator,
) -> None:
    class Selfless(Agent):
        def process(payload: Payload) -> Payload:  # noqa: N805 - the mistake
            return payload

    with pytest.raises(TypeError, match=r"process of agent greeter:1 .* but takes \(\)"):
        AgentWorker(Selfless(OWN), coordinator)
    agent = Scripted()
    agent.on_event = nothing
    with pytest.raises(TypeError, match=r"on_event of agent greeter:1 .*, the message, but"):
        AgentWorker(agent, coordinator)
    with pytest.raises(TypeError, match="registry must be a RedisAgentRegistry, not 'redis://x'"):
        AgentWorker(Scripted(), coordinator, cast("Any", "redis://x"))
    with pytest.raises(TypeError, match="the handler pair is called with one argument"):
        Agent(OWN).on(topic="news")(pair)
    with pytest.raises(TypeError, match=r"handler given to on\(\) must be a function, not 5"):
        Agent(OWN).on(topic="news")(5)

    class Marked(Agent):
        @handles(topic="news")
        def news(self) -> None: ...

    with pytest.raises(TypeError, match=r"the handler .*Marked.news is called with one argument"):
        Marked(OWN)


@pytest.mark.parametrize(
    "process",
    [
        lambda payload, more=None: more or payload,
        lambda *args: args[0],
        functools.wraps(pair)(lambda *args: args[0]),  # which gives the second itself
        functools.partial(pair, 1),
        dict,  # has no signature that could be read
    ],
)
def test_whatever_can_be_called_with_a_payload_is_taken(
    coordinator: Coordinator, process: Any
) -> None:
    agent = Scripted()
    agent.process = process
    AgentWorker(agent, coordinator)
