"""What is told, and traced, where calls are made with asyncio."""

import asyncio
from typing import Any

import pytest
from opentelemetry import trace

from tests.observability.conftest import Make, Serve
from tests.observability.given import LONG, ONE, SENDER, WORKER, Acting, Recorder, message
from tests.observability.test_otel import Spans, ids, parent
from tests.support.waiting import eventually
from tta_agent_coordination import Agent, RedisMessageCoordinator, RequestTimeoutError
from tta_agent_coordination.aio import AsyncMessageCoordinator
from tta_agent_coordination.events import (
    HandlerEnded,
    LeasesRecovered,
    MessageReceived,
    RequestBegun,
    RequestEnded,
    SendBegun,
)
from tta_agent_coordination.otel import instrument

pytestmark = pytest.mark.backend("valkey")


@pytest.fixture
def spans() -> Spans:
    return Spans()


class Later(Agent):
    """Answers from an event loop, with the span it sees there."""

    agent_id = ONE

    async def process(self, _payload: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"span": trace.get_current_span().get_span_context().span_id}


def test_a_request_is_told_and_ends_in_the_trace_in_which_it_began(
    make: Make, recorder: Recorder, spans: Spans, serve: Serve
) -> None:
    coordinator = make()
    instrument(coordinator, tracer_provider=spans.provider)
    coordinator.events.add(recorder)
    serve(Later(), coordinator)

    async def ask() -> list[dict[str, Any]]:
        async with AsyncMessageCoordinator(coordinator) as aio:
            asked = (aio.request(SENDER, ONE, {}, timeout=LONG) for _ in range(5))
            return [answer.payload for answer in await asyncio.gather(*asked)]

    answers = asyncio.run(ask())
    eventually(lambda: len(spans.named("process worker")) == 5)

    assert [event.outcome for event in recorder.of(RequestEnded)] == ["answered"] * 5
    handled = spans.named("process worker")
    assert {answer["span"] for answer in answers} == {ids(span)[1] for span in handled}
    questions = {ids(span): span for span in spans.named("send worker")}
    asking = {ids(span) for span in spans.named("request worker")}
    assert {parent(span) for span in handled} == set(questions)
    assert {parent(span) for span in questions.values()} == asking
    assert {parent(span) for span in spans.named("request worker")} == {None}


def test_requests_that_time_out_or_are_cancelled_have_an_end(
    make: Make, recorder: Recorder
) -> None:
    coordinator = make()
    coordinator.events.add(recorder)

    async def ask() -> None:
        async with AsyncMessageCoordinator(coordinator) as aio:
            with pytest.raises(RequestTimeoutError):
                await aio.request(SENDER, ONE, {}, timeout=0.05)
            task = asyncio.create_task(aio.request(SENDER, ONE, {}, timeout=LONG))
            while len(recorder.of(SendBegun)) < 2:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(ask())

    ended = recorder.of(RequestEnded)
    assert [event.outcome for event in ended] == ["timed_out", "error"]
    assert [event.begun for event in ended] == recorder.of(RequestBegun)


def test_what_happens_during_a_wait_is_told_in_every_thread_of_it(
    coordinator: RedisMessageCoordinator, make: Make, recorder: Recorder
) -> None:
    # The steps of a wait are made in different threads: what one holds back it tells itself.
    coordinator.send_message(SENDER, WORKER, message())
    make().receive(WORKER, 0.2)

    async def wait() -> None:
        async with AsyncMessageCoordinator(coordinator, max_workers=2) as aio:
            first, second = await asyncio.gather(
                aio.receive(WORKER, LONG, wait=5.0), aio.receive(ONE, LONG, wait=0.5)
            )
            assert (first is None, second is None) == (False, True)
            for n in range(10):
                await aio.send_message(SENDER, ONE, message(n, to=ONE))

    asyncio.run(wait())

    assert recorder.one(LeasesRecovered).count == 1
    assert recorder.one(MessageReceived).attempts == 2
    assert len(recorder.of(SendBegun)) == 11


def test_an_agent_that_is_asynchronous_is_told_like_any_other(
    make: Make, recorder: Recorder, serve: Serve
) -> None:
    coordinator = make()
    coordinator.events.add(recorder)
    serve([Later(), Acting(agent_id=SENDER)], coordinator)

    coordinator.request(SENDER, ONE, {}, timeout=LONG)
    recorder.wait_for(HandlerEnded)

    told = [name for name in recorder.names if name.startswith(("handler", "request"))]
    assert told[:2] == ["request_begun", "handler_begun"]
    assert set(told) == {"request_begun", "handler_begun", "handler_ended", "request_ended"}
