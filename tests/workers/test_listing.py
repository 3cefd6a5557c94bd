"""3.3, 4.3: a worker registers its agents while it serves them, and ends what it still holds."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.backends import Backend
from tests.support.waiting import eventually
from tests.workers.given import OWN, SHARED, Scripted, Serve
from tta_agent_coordination import AgentId, AgentWorker, RedisAgentRegistry, RedisMessageCoordinator

ALL = pytest.mark.backend("fakeredis", "valkey", "redis62", "cluster")
ONE = pytest.mark.backend("fakeredis")

Coordinator = RedisMessageCoordinator
Registries = Callable[..., RedisAgentRegistry]


@pytest.fixture
def registries(backend: Backend, key_prefix: str) -> Iterator[Registries]:
    """Make registries on the back end, each like a process of its own."""
    with ExitStack() as made:

        def make(**options: Any) -> RedisAgentRegistry:
            return made.enter_context(RedisAgentRegistry(backend.client(), key_prefix, **options))

        yield make


def beats(registry: RedisAgentRegistry) -> bool:
    """Whether its heartbeat thread runs."""
    return registry.snapshot()["heartbeat"]["running"]


@pytest.mark.guarantee("3.3", "4.3")
@ALL
def test_a_worker_does_not_end_what_another_process_has_registered_since(
    coordinator: Coordinator, registries: Registries, serve: Serve
) -> None:
    # given a worker whose registration was ended by hand, and another one that serves the agent
    first, second = registries(), registries()
    worker = serve(Scripted(), coordinator, registry=first)
    assert first.deregister(OWN)
    serve(Scripted(), coordinator, registry=second)
    epoch = second.get(OWN).epoch

    # when the first stops
    assert worker.stop()

    # then the other is registered as before
    assert second.get(OWN).epoch == epoch
    assert second.get(OWN).status == "running"
    assert second.heartbeat(OWN)


@pytest.mark.guarantee("3.3", "4.3")
@ONE
@pytest.mark.parametrize("way", ["stop", "abandon"])
def test_a_worker_does_not_end_what_somebody_registered_here_since(
    coordinator: Coordinator, registries: Registries, serve: Serve, way: str
) -> None:
    registry = registries()
    worker = serve(Scripted(), coordinator, registry=registry)
    assert registry.deregister(OWN)
    registry.register(Scripted())
    if way == "stop":
        assert worker.stop()
    else:
        for thread in worker.internals.abandon(lambda _: coordinator.close()):
            thread.join(10)
    assert registry.snapshot()["local"] == [str(OWN)]
    assert registry.get(OWN).status == "running"
    assert beats(registry), "it is needed"


@pytest.mark.guarantee("4.3")
@ONE
def test_the_same_agent_registered_again_by_hand_is_still_the_worker_s(
    coordinator: Coordinator, registries: Registries, serve: Serve
) -> None:
    agent, registry = Scripted(), registries()
    worker = serve(agent, coordinator, registry=registry)
    registry.register(agent)
    assert worker.stop()
    assert registry.get(OWN) is None


@pytest.mark.guarantee("4.3")
@ONE
def test_a_worker_that_stopped_is_kept_by_nobody(
    coordinator: Coordinator, registries: Registries
) -> None:
    registry = registries()
    left: list[weakref.ref[AgentWorker]] = []
    for _ in range(3):
        worker = AgentWorker(Scripted(), coordinator, registry, threads=1)
        with worker:
            pass
        left.append(weakref.ref(worker))
    del worker
    gc.collect()
    assert [one() for one in left] == [None] * 3
    assert registry._pulse.parting == ()
    assert registry._pulses.get().refreshing == ()


@pytest.mark.guarantee("3.4", "4.3")
@ALL
def test_the_heartbeats_end_with_the_worker_for_which_they_began(
    coordinator: Coordinator, registries: Registries, serve: Serve
) -> None:
    registry = registries()
    worker = serve(Scripted(), coordinator, registry=registry)
    assert beats(registry)
    assert worker.stop()
    assert not beats(registry)

    # and begin again with the next
    worker.start()
    assert beats(registry)
    assert worker.stop()
    assert not beats(registry)


@pytest.mark.guarantee("3.4", "4.3")
@ONE
def test_the_heartbeats_go_on_as_long_as_somebody_needs_them(
    coordinator: Coordinator, registries: Registries, serve: Serve
) -> None:
    # given two workers with one registry
    registry = registries()
    first = serve(Scripted(), coordinator, registry=registry)
    second = serve(Scripted(agent_id=AgentId("other", "1")), coordinator, registry=registry)

    # then the first takes nothing from the second
    assert first.stop()
    assert beats(registry)
    assert second.stop()
    assert not beats(registry)

    # and no worker ends what was started by hand, before it or after
    registry.start_heartbeats()
    first.start()
    assert first.stop()
    assert beats(registry)
    registry.stop_heartbeats()
    first.start()
    registry.start_heartbeats()
    assert first.stop()
    assert beats(registry)


@pytest.mark.guarantee("3.4", "4.3")
@ONE
def test_an_agent_that_was_registered_by_hand_is_beaten_for_when_a_worker_has_stopped(
    coordinator: Coordinator, registries: Registries, serve: Serve
) -> None:
    registry = registries(heartbeat_ttl_s=0.3)
    worker = serve(Scripted(), coordinator, registry=registry)
    last = registry.register(Scripted(agent_id=SHARED)).last_beat
    assert worker.stop()
    eventually(lambda: registry.get(SHARED).last_beat > last)
