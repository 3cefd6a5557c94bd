"""6.3: event loops that end with calls under way."""

import asyncio
import threading
import time

import pytest

from tests.aio.given import LONG, PATIENCE, SENDER, WORKER, begun, message, run
from tests.support.marks import ONE_BACKEND, REAL
from tta_agent_coordination import RedisMessageCoordinator
from tta_agent_coordination.aio import AsyncMessageCoordinator

pytestmark = pytest.mark.guarantee("6.3")

SOON = 3.0
"""Seconds: much less than the 12 after which one who waits looks by itself."""


@REAL
def test_a_loop_that_is_closed_with_calls_under_way_loses_no_message(
    coordinator: RedisMessageCoordinator, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = AsyncMessageCoordinator(coordinator)
    loop = asyncio.new_event_loop()
    task = loop.create_task(adapter.receive(WORKER, LONG, wait=LONG))
    loop.run_until_complete(begun(adapter))
    sending = loop.create_task(adapter.send_message(SENDER, WORKER, message(1)))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    for each in (task, sending):  # what the end of the program does
        each.get_coro().close()

    async def again() -> None:
        received = await adapter.receive(WORKER, LONG, wait=PATIENCE)
        if received is None:
            assert await adapter.send_message(SENDER, WORKER, message(1))
        else:
            assert received.queue_message.delivery_attempts == 1
        await adapter.purge(WORKER)
        await adapter.close()

    del caplog
    run(again())


@ONE_BACKEND
def test_a_program_that_ends_with_calls_under_way_is_not_held_up(
    coordinator: RedisMessageCoordinator,
) -> None:
    adapter = AsyncMessageCoordinator(coordinator)

    async def main() -> None:
        asyncio.create_task(adapter.receive(WORKER, LONG, wait=LONG))  # noqa: RUF006 - forgotten
        await begun(adapter)

    start = time.monotonic()
    asyncio.run(main())  # which cancels what is left
    assert time.monotonic() - start < SOON
    run(adapter.close())
    assert not [each for each in threading.enumerate() if each.name.startswith("tta-aio")]
