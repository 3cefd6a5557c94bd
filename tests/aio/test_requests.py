"""6.1 and 6.2: requests wait for their replies without a thread, and end as they do elsewhere."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.aio.conftest import Make
from tests.aio.given import LONG, ONE, SENDER, WORKER, begun, message, run
from tests.support.marks import ALL, ONE_BACKEND
from tta_agent_coordination import (
    Agent,
    AgentWorker,
    ConfigurationError,
    CoordinatorUnavailableError,
    InboxFullError,
    RejectMessage,
    RemoteAgentError,
    RequestTimeoutError,
)
from tta_agent_coordination.aio import AsyncMessageCoordinator
from tta_agent_coordination.proxy import FaultProxy

pytestmark = pytest.mark.guarantee("6.1", "6.2")

WAITING = 200


class Echo(Agent):
    """Says what it is told, once it may."""

    agent_id = ONE

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        assert self.open.wait(LONG)
        if payload["n"] < 0:
            raise RejectMessage("below zero")
        return {"echo": payload["n"]}


@pytest.fixture
def echo(make: Make) -> Iterator[Echo]:
    """An agent that is served beside the test."""
    agent = Echo()
    with AgentWorker(agent, make(), threads=4):
        yield agent


@ALL
def test_many_who_ask_hold_no_threads_and_each_gets_its_own_reply(make: Make, echo: Echo) -> None:
    coordinator = make()

    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator, max_workers=4) as adapter:
            asking = [
                asyncio.create_task(adapter.request(SENDER, ONE, {"n": n}, timeout=LONG))
                for n in range(WAITING)
            ]
            await begun(adapter, WAITING)
            own = [each for each in threading.enumerate() if each.name.startswith("tta-aio")]
            assert len(own) <= 4
            assert (await adapter.send_message(SENDER, WORKER, message(1))).delivered
            echo.open.set()
            replies = await asyncio.gather(*asking)
            assert [each.payload["echo"] for each in replies] == list(range(WAITING))
            with pytest.raises(RemoteAgentError, match="below zero"):
                await adapter.request(SENDER, ONE, {"n": -1}, timeout=LONG)
            await adapter.purge(WORKER)
            await adapter.purge_dead_letters(ONE)

    run(main())


@ALL
def test_a_request_that_nobody_answers_is_taken_back(make: Make) -> None:
    coordinator = make(queue_size=1)

    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            start = time.monotonic()
            with pytest.raises(RequestTimeoutError, match=r"within 0.3 s"):
                await adapter.request(SENDER, ONE, {}, timeout=0.3)
            assert 0.3 <= time.monotonic() - start < 3.0
            assert await adapter.receive(ONE) is None
            await adapter.send_message(SENDER, ONE, message(1))
            with pytest.raises(InboxFullError):
                await adapter.request(SENDER, ONE, {}, timeout=LONG)
            assert await adapter.purge(ONE) == 1
        assert coordinator._requests._replies()._pending == {}

    run(main())


@ONE_BACKEND
def test_a_request_that_cannot_be_sent_says_so(far: Make, proxy: FaultProxy) -> None:
    coordinator = far(call_timeout=0.3)

    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            proxy.refuse()
            with pytest.raises(CoordinatorUnavailableError):
                await adapter.request(SENDER, ONE, {}, timeout=LONG)
            proxy.heal()

    run(main())


@ONE_BACKEND
def test_a_request_ends_when_the_coordinator_is_closed_elsewhere(make: Make) -> None:
    coordinator = make()

    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            asking = asyncio.create_task(adapter.request(SENDER, ONE, {}, timeout=LONG))
            await begun(adapter)
            threading.Thread(target=coordinator.close, name="closes").start()
            with pytest.raises(ConfigurationError, match="closed"):
                await asking

    run(main())
    make().purge(ONE)


@ONE_BACKEND
def test_a_request_taken_back_before_it_was_sent_is_never_sent(make: Make) -> None:
    coordinator = make()
    asking = coordinator.internals.steps.asking(SENDER, ONE, {}, timeout=LONG)
    for _ in range(2):
        asking.take_back()
    asking.send()
    assert coordinator.internals.held(ONE) == 0
