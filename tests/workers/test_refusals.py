"""What a worker refuses when it is made or run."""

import pytest

from tests.support.marks import ONE_BACKEND
from tests.workers.given import OWN, Scripted, in_thread
from tta_agent_coordination import (
    Agent,
    AgentMessage,
    AgentWorker,
    ConfigurationError,
    RedisMessageCoordinator,
)

Coordinator = RedisMessageCoordinator


@pytest.mark.guarantee("4.3")
@pytest.mark.backend("fakeredis")
def test_wrong_arguments_are_refused(coordinator: Coordinator) -> None:
    agent = Scripted()
    with pytest.raises(ValueError, match="at least one agent"):
        AgentWorker([], coordinator)
    with pytest.raises(TypeError, match="each agent"):
        AgentWorker([object()], coordinator)
    with pytest.raises(TypeError, match="an agent or several, not 5"):
        AgentWorker(5, coordinator)
    with pytest.raises(TypeError, match="make one, Scripted"):
        AgentWorker(Scripted, coordinator)
    with pytest.raises(ValueError, match="2 agents of a worker have the id greeter:1"):
        AgentWorker([agent, Scripted()], coordinator)
    with pytest.raises(TypeError, match="coordinator"):
        AgentWorker(agent, object())
    for wrong in (
        {"threads": 0},
        {"visibility_timeout": 0.0},
        {"visibility_timeout": -1.0},
        {"max_handler_seconds": -1.0},
        {"drain_timeout": float("inf")},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            AgentWorker(agent, coordinator, **wrong)


class Eventful(Agent):
    """Writes no ``process``, for nobody asks it anything."""

    def on_event(self, message: AgentMessage) -> None:
        del message


@pytest.mark.guarantee("4.1")
@pytest.mark.backend("fakeredis")
def test_an_agent_that_handles_nothing_is_refused(coordinator: Coordinator) -> None:
    bare = Agent(OWN)
    with pytest.raises(TypeError, match="greeter:1 handles nothing: write its process"):
        AgentWorker(bare, coordinator)

    AgentWorker(Eventful(OWN), coordinator)
    bare.on(topic="news")(lambda _: None)
    AgentWorker(bare, coordinator)
    assigned = Agent(OWN)
    assigned.process = lambda payload: payload
    AgentWorker(assigned, coordinator)


@pytest.mark.guarantee("4.3")
@ONE_BACKEND
def test_a_worker_of_a_closed_coordinator_does_not_start(coordinator: Coordinator) -> None:
    agent = Scripted()
    worker = AgentWorker(agent, coordinator)
    coordinator.close()
    for begin in (worker.start, worker.run, worker.__enter__):
        with pytest.raises(ConfigurationError, match="is closed: make a new one"):
            begin()
    assert agent.life == []
    assert not worker.health().running


@pytest.mark.guarantee("4.3")
@ONE_BACKEND
def test_run_is_for_the_main_thread(coordinator: Coordinator) -> None:
    worker = AgentWorker(Scripted(), coordinator)
    with pytest.raises(ConfigurationError, match="main thread"):
        in_thread(worker.run, "not-main")()
