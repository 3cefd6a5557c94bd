"""Workers in a process that is forked: the parent serves on, the child holds nothing of it."""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import OwnServers
from tests.faults.test_fork import in_child
from tests.registry.given import PATIENCE
from tests.support.backends import Backend
from tests.support.waiting import eventually, holds_within
from tests.workers.given import (
    ASKER,
    LONG,
    OWN,
    Gate,
    Payload,
    Scripted,
    Serve,
    event,
    in_thread,
    is_empty,
    request,
    send,
)
from tta_agent_coordination import (
    Agent,
    AgentWorker,
    Liveness,
    RedisAgentRegistry,
    RedisMessageCoordinator,
    current_message,
    forks,
)
from tta_agent_coordination.worker.desk import Task
from tta_agent_coordination.worker.loop import WorkerLoop

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.guarantee("2.16"),
    pytest.mark.backend("valkey"),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork"),
    # Python 3.12 and newer; that it is dangerous is why these tests are here.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def test_the_child_of_a_worker_serves_nothing_and_says_so(
    coordinator: RedisMessageCoordinator, backend: Backend, key_prefix: str, serve: Serve
) -> None:
    # given a worker with a registry and a message in hand
    gate, agent = Gate(), Scripted()
    agent._act = gate
    with RedisAgentRegistry(backend.client(), key_prefix, heartbeat_ttl_s=PATIENCE) as registry:
        worker = serve(agent, coordinator, registry=registry, visibility_timeout=0.5)
        send(coordinator, event(1))
        gate.wait_for(1)

        # when a child looks at it, stops it and ends its registry
        def look() -> tuple[object, ...]:
            names = [thread.name for thread in threading.enumerate()]
            health = worker.health()
            ended = worker.stop()
            beats = registry.snapshot()
            registry.close()
            return names, health, ended, beats["local"], beats["heartbeat"]["running"], agent.life

        names, health, ended, local, beating, life = in_child(look)

        # then nothing runs there, and stopping it stops nothing
        assert len(names) == 1
        assert (health.running, health.busy_threads, ended) == (False, 0, True)
        assert f"forked from process {os.getpid()}" in health.last_error
        assert "call start()" in health.last_error
        assert (local, beating, life) == ([], False, ["start"])

        # and the parent serves on, registered, with its lease renewed
        assert worker.health().running
        assert registry.get(OWN).liveness is Liveness.ALIVE
        gate.open.set()
        eventually(lambda: is_empty(coordinator, OWN), timeout=LONG)
        assert agent.got == [{"number": 1}]
        worker.stop()
        assert agent.life == ["start", "stop"]


def test_a_child_serves_when_it_is_asked_to(
    coordinator: RedisMessageCoordinator, serve: Serve
) -> None:
    # given a worker that has stopped taking, so that only the child can
    agent = Scripted(lambda _: {"process": os.getpid()})
    worker = serve(agent, coordinator)
    worker.health()

    # when a child starts it and answers a request of its own
    def serve_too() -> tuple[int, bool, bool]:
        with worker:
            running = worker.health().running
            while True:
                reply = coordinator.request(ASKER, OWN, {}, timeout=LONG)
                if reply.payload["process"] == os.getpid():  # both serve this inbox
                    return os.getpid(), running, worker.stop()

    child, running, stopped = in_child(serve_too)

    # then it was served there, and the parent is still there
    assert (running, stopped) == (True, True)
    assert child != os.getpid()
    assert coordinator.request(ASKER, OWN, {}, timeout=LONG).payload == {"process": os.getpid()}


def status_of(child: int) -> int:
    """Wait for the end of a child, and kill it if it does not come."""
    ended: list[int] = []

    def look() -> bool:
        pid, status = os.waitpid(child, os.WNOHANG)
        ended.append(os.waitstatus_to_exitcode(status))
        return pid == child

    if not holds_within(LONG, look):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return -signal.SIGKILL
    return ended[-1]


def test_a_handler_that_forks_is_settled_by_the_parent_alone(
    coordinator: RedisMessageCoordinator, serve: Serve
) -> None:
    # given handlers that fork, and go on as if nothing were
    ended: list[int] = []

    def act(payload: Payload) -> Payload:
        child = os.fork()
        if child == 0:
            os.environ["LEASE_LOST"] = str(current_message().lease_lost)
            if payload["number"] == 2:
                raise ValueError("the child fails")
            return {"by": "child", "lost": os.environ["LEASE_LOST"]}
        ended.append(status_of(child))
        return {"by": "parent", "lost": str(current_message().lease_lost)}

    serve(Scripted(act), coordinator, threads=1)

    # then one answer comes, the parent's, and each child has ended
    for number in (1, 2):
        reply = coordinator.request(ASKER, OWN, {"number": number}, timeout=LONG)
        assert reply.payload == {"by": "parent", "lost": "False"}
    assert ended == [0, 0]
    eventually(lambda: is_empty(coordinator, OWN), timeout=LONG)
    assert coordinator.dead_letters(OWN) == []


class Forking(Agent):
    """Forks in a coroutine; its children go on as if nothing were."""

    agent_id = OWN

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[int] = []
        self.never: asyncio.Event | None = None

    async def process(self, payload: Payload) -> Payload:
        self.never = asyncio.Event()
        child = os.fork()
        if child == 0:
            if payload["child"] == "raises":
                raise ValueError("the child fails")
            if payload["child"] == "waits":
                await self.never.wait()
            return {"by": "child"}
        self.ended.append(await asyncio.to_thread(status_of, child))
        return {"by": "parent"}


def test_a_coroutine_that_forks_leaves_its_loop_to_the_parent(
    coordinator: RedisMessageCoordinator, serve: Serve
) -> None:
    agent = Forking()
    serve(agent, coordinator, threads=3)
    ways = ("returns", "raises", "waits") * 3

    def ask(way: str) -> Payload:
        return coordinator.request(ASKER, OWN, {"child": way}, timeout=LONG).payload

    # when it forks again and again, with others on its loop
    with ThreadPoolExecutor(3, thread_name_prefix="asker") as askers:
        replies = list(askers.map(ask, ways))

    # then the parent has answered each, once, and every child has ended by itself
    assert replies == [{"by": "parent"}] * len(ways)
    assert agent.ended == [0] * len(ways)
    eventually(lambda: is_empty(coordinator, OWN), timeout=LONG)
    assert coordinator.dead_letters(OWN) == []


@pytest.mark.parametrize("way", ["returns", "waits"])
def test_what_a_child_inherits_of_a_loop_is_left_as_it_is(way: str) -> None:
    # given a loop as a child has it, whose coroutine has just forked
    loop = WorkerLoop("greeter:1")

    async def forks() -> None:
        running._pid = -1
        loop.disown()
        if way == "waits":
            await asyncio.sleep(LONG)

    async def nothing() -> None: ...

    loop.finish(nothing())
    running = loop._running
    assert running is not None
    loop.disown()  # which is for the thread of the loop only
    outcome = running.begin(forks())

    # then its thread ends, nobody is told of anything, and what it waits on is not closed
    running.thread.join(LONG)
    assert not running.thread.is_alive()
    assert not outcome.done()
    left = running._loop
    assert not left.is_closed()
    for task in asyncio.all_tasks(left):
        task.cancel()
    with contextlib.suppress(SystemExit):
        left.run_until_complete(asyncio.sleep(0))
    left.run_until_complete(asyncio.sleep(0))
    left.close()


def test_what_a_child_inherits_of_a_handler_is_put_away_unsettled(
    coordinator: RedisMessageCoordinator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a handler thread as a child has it
    begun = threading.Semaphore(0)

    def act(payload: Payload) -> Payload:
        crew = worker._crew
        assert crew is not None
        crew.disown()
        assert current_message().lease_lost
        begun.release()
        if payload["number"] == 2:
            raise ValueError("the child fails")
        if payload["number"] == 3:
            raise SystemExit
        return {}

    worker = serve(Scripted(act), coordinator, threads=3, visibility_timeout=LONG)
    put_away: list[Task] = []
    crew = worker._crew
    assert crew is not None
    monkeypatch.setattr(crew.desk, "finish", lambda task, **_: put_away.append(task))

    # when it comes to its end, or to an error
    for number in (1, 2, 3):
        send(coordinator, request(number))
        assert begun.acquire(timeout=LONG)
    eventually(lambda: not any(thread.is_alive() for thread in crew._handlers), timeout=LONG)

    # then its thread ends, and nobody is told of anything
    assert put_away == []
    assert coordinator.stats(OWN).leased == 3
    assert worker.health().last_error == "ValueError: the child fails"
    assert is_empty(coordinator, ASKER)
    worker.stop(drain=False)


def test_a_fork_beside_a_worker_is_warned_of_once(
    coordinator: RedisMessageCoordinator, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    idle = AgentWorker(Scripted(), coordinator)
    in_child(os.getpid)
    assert caplog.text == ""
    serve(Scripted(), coordinator)
    for _ in range(3):
        in_child(os.getpid)
    [record] = caplog.records
    assert "greeter:1 was started before a fork" in record.getMessage()
    assert "post_fork" in record.getMessage()
    assert not idle.health().running


def test_a_fork_that_python_is_not_told_of_is_warned_of_in_the_child(
    coordinator: RedisMessageCoordinator,
    serve: Serve,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = serve(Scripted(), coordinator)
    monkeypatch.setattr(forks._before, "_known", {})
    assert "greeter:1 was started before a fork" in in_child(lambda: caplog.text)
    assert caplog.text == ""
    assert worker.health().running


def test_a_child_is_not_kept_by_the_lock_of_a_worker_that_starts(
    coordinator: RedisMessageCoordinator,
) -> None:
    # given a worker that is being started by another thread
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Scripted):
        def start(self) -> None:
            begun.set()
            go_on.wait(LONG)

    worker = AgentWorker(Slow(), coordinator, threads=1)
    start = in_thread(worker.start, "start")
    assert begun.wait(LONG)

    # then a child can stop it, and start it
    def use() -> bool:
        go_on.set()
        return worker.stop() and (worker.start() or worker.stop())

    try:
        assert in_child(use)
    finally:
        go_on.set()
        start()
        worker.stop()


def nothing_else(ready: object) -> None:
    ready.set()
    threading.Event().wait(LONG)


def test_processes_of_multiprocessing_are_ended_without_ending_the_parent(
    coordinator: RedisMessageCoordinator, serve: Serve
) -> None:
    # given a handler that runs a process of multiprocessing, and ends it
    context = multiprocessing.get_context("fork")

    def act(_: Payload) -> Payload:
        ready = context.Event()
        process = context.Process(target=nothing_else, args=(ready,), name="child")
        process.start()
        assert ready.wait(LONG)
        process.terminate()
        process.join(LONG)
        return {"status": process.exitcode}

    serve(Scripted(act), coordinator, threads=1)
    reply = coordinator.request(ASKER, OWN, {}, timeout=LONG)
    assert reply.payload == {"status": -signal.SIGTERM}


RUNNING = textwrap.dedent(
    """
    import multiprocessing, sys, threading, warnings
    from tta_agent_coordination import Agent, AgentId, AgentWorker, RedisMessageCoordinator
    warnings.simplefilter("ignore")
    context = multiprocessing.get_context("fork")

    class Forking(Agent):
        agent_id = AgentId("greeter", "1")

        def process(self, payload):
            ready = context.Event()
            child = context.Process(target=wait, args=(ready,))
            child.start()
            ready.wait(10)
            child.terminate()
            child.join(10)
            return {"status": child.exitcode}

    def wait(ready):
        ready.set()
        threading.Event().wait(10)

    with RedisMessageCoordinator.from_url(sys.argv[1], "forks") as coordinator:
        AgentWorker(Forking(), coordinator).run()
    """
)


def test_a_signal_for_a_child_does_not_end_the_worker_that_runs_in_the_parent(
    own_server: OwnServers,
) -> None:
    # given a worker that runs until SIGTERM, and whose handler forks and ends a process
    server = own_server()
    with RedisMessageCoordinator.from_url(server.url, "forks") as coordinator:
        parent = subprocess.Popen(
            [sys.executable, "-c", RUNNING, server.url], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        try:
            # when it does so twice
            for _ in range(2):
                reply = coordinator.request(ASKER, OWN, {}, timeout=LONG)
                assert reply.payload == {"status": -signal.SIGTERM}

            # then it is still there, until it gets a SIGTERM itself
            assert parent.poll() is None
            parent.terminate()
            assert parent.wait(LONG) == 0
        finally:
            parent.kill()
            parent.wait()
