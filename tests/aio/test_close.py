"""6.4: closing, several loops, several processes."""

import asyncio
import os
import signal
import threading
import time

import pytest

from tests.aio.conftest import Make
from tests.aio.given import (
    LONG,
    ONE,
    PATIENCE,
    SENDER,
    WORKER,
    begun,
    finish_all,
    message,
    run,
    until,
)
from tests.faults.test_fork import in_child
from tests.support.backends import Backend
from tests.support.marks import ALL, ONE_BACKEND
from tests.workers.given import in_thread
from tta_agent_coordination import (
    ConfigurationError,
    LeaseOutcome,
    RedisAgentRegistry,
    RedisMessageCoordinator,
)
from tta_agent_coordination.aio import AsyncAgentRegistry, AsyncMessageCoordinator, pool
from tta_agent_coordination.proxy import FaultProxy

pytestmark = pytest.mark.guarantee("6.4")


@ALL
def test_closing_ends_those_who_wait_and_refuses_those_who_come(
    backend: Backend, key_prefix: str, coordinator: RedisMessageCoordinator
) -> None:
    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            receiving = [
                asyncio.create_task(adapter.receive(WORKER, LONG, wait=LONG)) for _ in range(5)
            ]
            asking = asyncio.create_task(adapter.request(SENDER, ONE, {}, timeout=LONG))
            await begun(adapter, 6)
            start = time.monotonic()
            await asyncio.gather(adapter.close(), adapter.close())
            for task in (*receiving, asking):
                with pytest.raises(ConfigurationError, match="closed"):
                    await task
            assert time.monotonic() - start < 5.0
        for call in (adapter.stats(WORKER), adapter.receive(WORKER), adapter._pool.sleep(0.0)):
            with pytest.raises(ConfigurationError, match="coordinator adapter for asyncio"):
                await call
        await adapter.close()

    run(main())
    assert coordinator.internals.held(ONE) == 0
    assert backend.keys(f"{key_prefix}*interrupt*") == []


@ONE_BACKEND
def test_closing_lets_short_calls_finish(far: Make, proxy: FaultProxy) -> None:
    coordinator = far()

    async def main() -> None:
        adapter = AsyncMessageCoordinator(coordinator)
        await adapter.stats(WORKER)
        proxy.delay(0.1)
        sending = asyncio.create_task(adapter.send_message(SENDER, WORKER, message(1)))
        await asyncio.sleep(0)
        await adapter.close()
        assert (await sending).delivered
        proxy.heal()

    run(main())
    assert finish_all(coordinator) == [1]


@ONE_BACKEND
def test_closing_waits_for_a_loop_that_stands_still_but_not_for_ever(
    coordinator: RedisMessageCoordinator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(pool, "_CLOSE_PATIENCE", 0.1)
    adapter = AsyncMessageCoordinator(coordinator)
    loop = asyncio.new_event_loop()
    task = loop.create_task(adapter.receive(WORKER, LONG, wait=LONG))
    loop.run_until_complete(begun(adapter))

    run(adapter.close())
    assert "closed with 1 calls under way" in caplog.text

    # and when it goes on, it learns of it
    with pytest.raises(ConfigurationError, match="closed"):
        loop.run_until_complete(task)
    loop.close()
    assert "was not cleaned up after" in caplog.text
    # the wait went on until the connections were closed
    coordinator.close()


@pytest.mark.backend("fakeredis")
def test_what_closing_meets_is_told(
    coordinator: RedisMessageCoordinator, caplog: pytest.LogCaptureFixture
) -> None:
    class BrokenError(Exception):
        pass

    def fail() -> None:
        raise BrokenError

    async def main() -> None:
        adapter = AsyncMessageCoordinator(coordinator)
        await adapter._pool.clean_up(fail, None)
        with pytest.raises(BrokenError):
            await adapter._pool.close(fail)
        await adapter.close()

    run(main())
    assert "what ends a call failed" in caplog.text


@ALL
def test_one_loop_after_another_can_use_an_adapter(coordinator: RedisMessageCoordinator) -> None:
    adapter = AsyncMessageCoordinator(coordinator)

    async def once(number: int) -> None:
        receiving = asyncio.create_task(adapter.receive(WORKER, LONG, wait=PATIENCE))
        await begun(adapter)
        await adapter.send_message(SENDER, WORKER, message(number))
        received = await receiving
        assert received is not None
        assert await adapter.ack(WORKER, received.token) is LeaseOutcome.DONE

    for number in range(3):
        run(once(number))
    run(adapter.close())


@ALL
def test_several_loops_can_use_an_adapter_at_once(coordinator: RedisMessageCoordinator) -> None:
    adapter = AsyncMessageCoordinator(coordinator, max_workers=4)
    count = 20

    async def consume(number: int) -> set[int]:
        got = set[int]()
        for _ in range(count):
            received = await adapter.receive(WORKER, LONG, wait=PATIENCE)
            assert received is not None, f"consumer {number} waits in vain"
            await adapter.ack(WORKER, received.token)
            got.add(received.message.payload["n"])
        return got

    consumers = [
        in_thread(lambda number=number: run(consume(number)), f"loop-{number}")
        for number in range(2)
    ]

    async def produce() -> None:
        for number in range(2 * count):
            await adapter.send_message(SENDER, WORKER, message(number))

    run(produce())
    assert set[int]().union(*(result() for result in consumers)) == set(range(2 * count))
    run(adapter.close())


@ONE_BACKEND
def test_closing_in_one_loop_ends_calls_of_another(coordinator: RedisMessageCoordinator) -> None:
    adapter = AsyncMessageCoordinator(coordinator)
    waiting = in_thread(
        lambda: run(adapter.receive(WORKER, LONG, wait=LONG)),
        "another-loop",
    )

    async def main() -> None:
        await begun(adapter)
        await adapter.close()

    run(main())
    with pytest.raises(ConfigurationError, match="closed"):
        waiting()


@ONE_BACKEND
def test_a_forked_process_has_threads_of_its_own(coordinator: RedisMessageCoordinator) -> None:
    adapter = AsyncMessageCoordinator(coordinator)
    run(adapter.send_message(SENDER, WORKER, message(0)))

    async def child() -> None:
        receiving = asyncio.create_task(adapter.receive(ONE, LONG, wait=PATIENCE))
        await begun(adapter)
        await adapter.send_message(SENDER, ONE, message(1, to=ONE))
        received = await receiving
        assert received is not None
        assert await adapter.ack(ONE, received.token)
        await adapter.send_message(SENDER, WORKER, message(1))
        await adapter.close()

    pid = os.fork()
    if not pid:
        code = 1
        try:
            run(child())
            code = 0
        finally:
            os._exit(code)
    timer = threading.Timer(PATIENCE, os.kill, (pid, signal.SIGKILL))
    timer.start()
    _, status = os.waitpid(pid, 0)
    timer.cancel()
    timer.join()
    assert os.waitstatus_to_exitcode(status) == 0
    # the parent's goes on
    run(adapter.send_message(SENDER, WORKER, message(2)))
    assert finish_all(coordinator) == [0, 1, 2]
    run(adapter.close())


def test_what_a_child_has_of_calls_of_its_parent_ends_without_waiting_for_a_lock() -> None:
    # given a call and a sleeper, and another thread that has the lock while the process forks
    calls, loop = pool.Pool("test", 1), asyncio.new_event_loop()
    call, sleeper = calls.call(), calls._asleep((loop, loop.create_future()))
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with calls._process.get().changed:
            held.set()
            go_on.wait(PATIENCE)

    with call, sleeper:
        holds = in_thread(hold, "holds")
        assert held.wait(PATIENCE)

        def leave() -> int:
            sleeper.__exit__(None, None, None)
            call.__exit__(None, None, None)
            return calls.sleeping

        try:
            assert in_child(leave) == 0
        finally:
            go_on.set()
            holds()
        assert (calls.sleeping, calls._process.get().calls) == (1, 1)
    assert (calls.sleeping, calls._process.get().calls) == (0, 0)
    calls.shut_down()
    loop.close()


@ONE_BACKEND
def test_a_close_that_is_cancelled_goes_on_by_itself(far: Make, proxy: FaultProxy) -> None:
    coordinator = far()

    async def main() -> None:
        adapter = AsyncMessageCoordinator(coordinator)
        await adapter.stats(WORKER)
        proxy.delay(0.2)
        busy = asyncio.create_task(adapter.stats(WORKER))
        await asyncio.sleep(0)
        closing = asyncio.create_task(adapter.close())
        await until(lambda: adapter._pool.closed)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert (await busy).delayed == 0
        proxy.heal()

    run(main())


@pytest.mark.backend("fakeredis")
def test_a_closed_registry_adapter_refuses_calls(registry: RedisAgentRegistry) -> None:
    async def main() -> None:
        async with AsyncAgentRegistry(registry) as adapter:
            assert await adapter.list_registered() == []
        with pytest.raises(ConfigurationError, match="registry adapter for asyncio is closed"):
            await adapter.list_registered()

    run(main())
