"""Running a worker until it is idle, and looking into inboxes: on every back end."""

import threading
from typing import Any

import pytest

from tests.support.backends import Backend
from tests.testing.given import OTHER, SENDER, WORKER, Failing, Holding, Noting, send
from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentMessage,
    AgentWorker,
    MessageDecodeError,
    RedisMessageCoordinator,
)
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.testing import (
    InboxContents,
    Sandbox,
    WorkSummary,
    expire_lease,
    inbox_of,
    run_until_idle,
)


def test_everything_that_is_ready_is_handled(sandbox: Sandbox) -> None:
    agent = Noting()
    for n in range(20):
        send(sandbox, n=n)

    done = run_until_idle(sandbox.worker(agent, threads=3))

    assert done == WorkSummary(handled=20, failed=0, dead=0, delayed=0)
    assert sorted(payload["n"] for payload in agent.got) == list(range(20))


def test_a_worker_that_it_started_is_stopped_and_one_that_ran_goes_on(sandbox: Sandbox) -> None:
    worker = sandbox.worker(Noting())
    run_until_idle(worker)
    assert not worker.health().running

    worker.start()
    send(sandbox)
    assert run_until_idle(worker).handled == 1
    send(sandbox)
    assert run_until_idle(worker).handled == 1
    assert worker.health().running


class Relay(Agent):
    """Sends on what it gets, some times over, to the other of two."""

    def __init__(self, agent_id: AgentId, to: AgentId, sandbox: Sandbox) -> None:
        super().__init__(agent_id)
        self._to, self._sandbox = to, sandbox

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        if payload["left"]:
            send(self._sandbox, self._to, left=payload["left"] - 1)
        return {}


def test_what_handlers_send_to_agents_of_the_worker_is_handled_too(sandbox: Sandbox) -> None:
    agents = [Relay(WORKER, OTHER, sandbox), Relay(OTHER, WORKER, sandbox)]
    send(sandbox, left=30)

    assert run_until_idle(sandbox.worker(agents, threads=2)).handled == 31


def test_failures_and_dead_letters_are_counted_and_retries_wait(sandbox: Sandbox) -> None:
    worker = sandbox.worker(Failing(WORKER))
    sandbox.coordinator.configure(retry_attempts=1)
    send(sandbox)

    first = run_until_idle(worker)
    sandbox.clock.advance(10)
    second = run_until_idle(worker)

    assert first == WorkSummary(handled=0, failed=1, dead=0, delayed=1)
    assert second == WorkSummary(handled=0, failed=1, dead=1, delayed=0)


def test_one_that_does_not_become_idle_is_told_with_what_is_left(sandbox: Sandbox) -> None:
    agent = Holding()
    worker = sandbox.worker(agent, threads=1)
    send(sandbox)
    send(sandbox)
    threading.Timer(0.3, agent.let_go.set).start()

    with pytest.raises(TimeoutError, match=r"within 0.1 s: worker has 1 ready and 1 leased"):
        run_until_idle(worker, timeout=0.1)

    assert not worker.health().running


def test_a_lease_of_the_tests_own_counts_as_left(sandbox: Sandbox) -> None:
    send(sandbox)
    sandbox.coordinator.receive(WORKER)

    with pytest.raises(TimeoutError, match="0 ready and 1 leased; the last error: None"):
        run_until_idle(sandbox.worker(Noting()), timeout=0.05)


def test_bad_arguments_are_refused(sandbox: Sandbox) -> None:
    with pytest.raises(TypeError, match="worker"):
        run_until_idle(Noting())
    with pytest.raises(ValueError, match="timeout"):
        run_until_idle(sandbox.worker(Noting()), timeout=-1.0)
    with pytest.raises(TypeError, match="agent_id"):
        inbox_of(sandbox.coordinator, "worker")


def test_it_all_works_on_any_server(backend: Backend, key_prefix: str) -> None:
    with RedisMessageCoordinator(backend.client(), key_prefix) as coordinator:
        agent = Noting(AgentId("worker", "1"))

        def submit(**payload: Any) -> AgentMessage:
            message = AgentMessage(SENDER, agent.agent_id, payload)
            coordinator.send_message(SENDER, agent.agent_id, message, delay=payload.get("in", 0.0))
            return message

        leased, ready, delayed = submit(n=1), submit(n=2), submit(**{"in": 300.0})
        received = coordinator.receive(agent.agent_id, 300.0)
        assert received is not None
        assert received.message == leased

        assert inbox_of(coordinator, agent.agent_id) == InboxContents(
            (ready,), (delayed,), (leased,)
        )
        expire_lease(coordinator, received)
        done = run_until_idle(AgentWorker(agent, coordinator, threads=2), timeout=30.0)

        assert done == WorkSummary(handled=2, failed=0, dead=0, delayed=1)
        assert inbox_of(coordinator, agent.agent_id).unfinished == (delayed,)
        coordinator.purge(agent.agent_id)


def test_an_inbox_shows_its_dead(sandbox: Sandbox) -> None:
    sandbox.coordinator.configure(retry_attempts=0)
    send(sandbox, n=1)
    run_until_idle(sandbox.worker(Failing(WORKER)))

    (dead,) = inbox_of(sandbox.coordinator, WORKER).dead

    assert dead.queue_message is not None
    assert dead.queue_message.message.payload == {"n": 1}


def test_an_inbox_with_bytes_that_are_no_message_says_so(sandbox: Sandbox) -> None:
    send(sandbox)
    key = Keys("tta-coord").inbox(WORKER)["messages"]
    (name,) = sandbox.redis.hkeys(key)
    sandbox.redis.hset(key, name, b"1 0 x {")

    with pytest.raises(MessageDecodeError):
        inbox_of(sandbox.coordinator, WORKER)


def test_a_worker_whose_replies_are_lost_handles_each_message_once(sandbox: Sandbox) -> None:
    agent = Noting()
    lost = sandbox.faults.lose_reply("claim", "exchange", times=3)
    for n in range(10):
        send(sandbox, n=n)

    done = run_until_idle(sandbox.worker(agent, threads=2))

    assert lost.hits == 3
    assert done == WorkSummary(handled=10, failed=0, dead=0, delayed=0)
    assert sorted(payload["n"] for payload in agent.got) == list(range(10))
