"""Spans, and the trace context in messages."""

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.observability.conftest import Make, Serve
from tests.observability.given import LONG, ONE, SENDER, WORKER, Acting, Recorder, message
from tests.support.waiting import eventually
from tta_agent_coordination import (
    MessageTooLargeError,
    MessageType,
    RedisMessageCoordinator,
    RejectMessage,
    RequestTimeoutError,
    RetryLater,
)
from tta_agent_coordination.events import HandlerBegun, HandlerEnded
from tta_agent_coordination.identity import REPLY_TYPE
from tta_agent_coordination.otel import Tracing, instrument

pytestmark = pytest.mark.backend("valkey")

OURS = "messaging.tta_agent_coordination"


class Spans:
    """What was traced."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def all(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.all]

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        eventually(lambda: self.named(name), what=f"no span {name} in {self.names}")
        [span] = self.named(name)
        return span


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def traced(make: Make, spans: Spans) -> RedisMessageCoordinator:
    """A coordinator whose doings are traced."""
    coordinator = make()
    instrument(coordinator, tracer_provider=spans.provider)
    return coordinator


def ids(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def linked(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def parent(span: ReadableSpan) -> tuple[int, int] | None:
    return span.parent and (span.parent.trace_id, span.parent.span_id)


def origin(coordinator: RedisMessageCoordinator) -> tuple[int, int]:
    """The context in the next message of the worker."""
    received = coordinator.receive(WORKER, LONG)
    assert received is not None
    found = trace.get_current_span(propagate.extract(received.message.headers))
    return found.get_span_context().trace_id, found.get_span_context().span_id


def test_a_message_is_sent_in_a_span_whose_context_it_carries(
    traced: RedisMessageCoordinator, spans: Spans
) -> None:
    sent = traced.send_message(SENDER, ONE, message(headers={"mine": "1"}, correlation_id="talk"))

    span = spans.one("send worker")
    assert span.kind is SpanKind.PRODUCER
    assert span.attributes == {
        "messaging.system": "tta_agent_coordination",
        "messaging.operation.type": "send",
        "messaging.operation.name": "send",
        "messaging.destination.name": "worker:1",
        "messaging.destination.template": "worker",
        "messaging.message.id": sent.message_id,
        "messaging.message.conversation_id": "talk",
    }
    received = traced.receive(ONE, LONG)
    assert received is not None
    headers = received.message.headers
    assert headers.keys() == {"mine", "traceparent"}
    trace_id, span_id = ids(span)
    assert headers["traceparent"].startswith(f"00-{trace_id:032x}-{span_id:016x}-")


def test_a_context_that_the_message_has_already_is_kept(
    traced: RedisMessageCoordinator, spans: Spans
) -> None:
    known = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    traced.send_message(SENDER, WORKER, message(headers={"traceparent": known}))

    span = spans.one("send worker")
    theirs = (0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331)
    assert origin(traced) == theirs
    assert (span.kind, linked(span)) == (SpanKind.CLIENT, [theirs])


def test_a_batch_gives_each_message_a_context_of_its_own(
    traced: RedisMessageCoordinator, spans: Spans
) -> None:
    traced.send_many(SENDER, [message(1), message(2, to=ONE)])

    batch, created = spans.one("send worker"), spans.named("create worker")
    assert (batch.kind, batch.attributes["messaging.batch.message_count"]) == (SpanKind.CLIENT, 2)
    assert "messaging.destination.name" not in batch.attributes, "there are two"
    assert [span.kind for span in created] == [SpanKind.PRODUCER] * 2
    assert linked(batch) == [ids(span) for span in created]
    assert origin(traced) == ids(created[0])


def test_an_observer_that_was_made_by_hand_does_the_same(make: Make, spans: Spans) -> None:
    coordinator = make()
    coordinator.events.add(Tracing(spans.provider))
    coordinator.send_many(SENDER, [message(1), message(2, to=ONE)])
    assert len(spans.named("create worker")) == 2


def test_a_batch_can_be_one_span(make: Make, spans: Spans) -> None:
    coordinator = make()
    instrument(coordinator, tracer_provider=spans.provider, create_spans=False)
    coordinator.subscribe_to_messages(ONE, [MessageType.EVENT])
    coordinator.subscribe_to_messages(WORKER, [MessageType.EVENT])

    coordinator.publish(SENDER, message())

    assert spans.names == ["publish worker"]
    assert spans.all[0].kind is SpanKind.PRODUCER
    assert origin(coordinator) == ids(spans.all[0])


def test_messages_to_agents_of_different_types_are_sent_in_a_span_that_names_none(
    traced: RedisMessageCoordinator, spans: Spans
) -> None:
    traced.broadcast_message(SENDER, message(), [ONE, SENDER])

    assert spans.names[-1] == "send"


def test_what_came_of_a_send_is_in_its_span(traced: RedisMessageCoordinator, spans: Spans) -> None:
    given = message()
    traced.configure(queue_size=1)
    for sent in (given, given, message()):
        traced.send_message(SENDER, WORKER, sent)
    traced.configure(max_message_bytes=64)
    with pytest.raises(MessageTooLargeError):
        traced.send_message(SENDER, WORKER, given)

    stored, duplicate, refused, failed = spans.all
    assert stored.status.status_code is StatusCode.UNSET
    assert duplicate.attributes[f"{OURS}.duplicates"] == 1
    assert refused.attributes["error.type"] == "queue_full"
    assert refused.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "MessageTooLargeError"
    assert [event.name for event in failed.events] == ["exception"]


def test_handling_belongs_to_the_trace_of_the_sender(
    traced: RedisMessageCoordinator, spans: Spans, serve: Serve
) -> None:
    seen: list[tuple[int, int]] = []

    def act(payload: dict[str, Any]) -> dict[str, Any]:
        current = trace.get_current_span().get_span_context()
        seen.append((current.trace_id, current.span_id))
        return payload

    sent = traced.send_message(SENDER, ONE, message(to=ONE))
    serve(Acting(act), traced)

    span, sending = spans.one("process worker"), spans.one("send worker")
    assert span.kind is SpanKind.CONSUMER
    assert (parent(span), linked(span)) == (ids(sending), [ids(sending)])
    assert span.attributes == {
        "messaging.system": "tta_agent_coordination",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "worker:1",
        "messaging.destination.template": "worker",
        "messaging.message.id": sent.message_id,
        f"{OURS}.message.delivery_attempt": 1,
        f"{OURS}.outcome": "done",
    }
    assert seen == [ids(span)]


def test_handling_can_begin_a_trace_of_its_own(make: Make, spans: Spans, serve: Serve) -> None:
    coordinator = make()
    instrument(coordinator, tracer_provider=spans.provider, parent=False)
    coordinator.send_message(SENDER, ONE, message(to=ONE))

    serve(Acting(), coordinator)

    span, sending = spans.one("process worker"), spans.one("send worker")
    assert (parent(span), linked(span)) == (None, [ids(sending)])


def test_a_request_is_one_trace_from_question_to_answer(
    traced: RedisMessageCoordinator, spans: Spans, serve: Serve
) -> None:
    serve(Acting(), traced)

    traced.request(SENDER, ONE, {}, timeout=LONG)

    asking, question = spans.one("request worker"), spans.one("send worker")
    answer, handling = spans.one(f"send {REPLY_TYPE}"), spans.one("process worker")
    assert asking.kind is SpanKind.CLIENT
    assert [parent(span) for span in (asking, question, handling, answer)] == [
        None,
        ids(asking),
        ids(question),
        ids(handling),
    ]
    assert answer.attributes["messaging.destination.temporary"] is True
    assert trace.get_current_span().get_span_context().is_valid is False


def test_a_request_without_an_answer_is_an_error(
    traced: RedisMessageCoordinator, spans: Spans
) -> None:
    with pytest.raises(RequestTimeoutError):
        traced.request(SENDER, ONE, {}, timeout=0.05)

    asking = spans.one("request worker")
    assert asking.attributes["error.type"] == "RequestTimeoutError"
    assert asking.status.status_code is StatusCode.ERROR


def test_each_delivery_has_a_span_that_says_how_it_ended(
    traced: RedisMessageCoordinator, spans: Spans, serve: Serve
) -> None:
    errors = [ValueError("broken"), RetryLater(0.0), RejectMessage("never")]

    def act(_payload: Any) -> Any:
        raise errors.pop(0)

    traced.configure(backoff_base=0.0)
    traced.send_message(SENDER, ONE, message(to=ONE))
    serve(Acting(act), traced, threads=1)  # one after the other
    eventually(lambda: len(spans.named("process worker")) == 3)

    failed, later, rejected = spans.named("process worker")
    attempts = [span.attributes[f"{OURS}.message.delivery_attempt"] for span in spans.all[1:]]
    assert attempts == [1, 2, 3]
    assert failed.attributes["error.type"] == "ValueError"
    assert failed.status.description == "ValueError: broken"
    assert later.attributes[f"{OURS}.outcome"] == "retry_later"
    assert later.status.status_code is StatusCode.UNSET, "it was meant"
    assert rejected.attributes[f"{OURS}.outcome"] == "rejected"
    assert [event.name for event in rejected.events] == ["dead_lettered", "exception"]


def test_a_message_that_is_handled_without_a_worker_can_have_its_span(
    make: Make, spans: Spans
) -> None:
    coordinator, tracing = make(), Tracing(spans.provider)
    coordinator.events.add(tracing)
    coordinator.send_message(SENDER, WORKER, message())
    received = coordinator.receive(WORKER, LONG)
    assert received is not None

    with tracing.processing(received, WORKER):
        coordinator.ack(WORKER, received.token)

    span, sending = spans.one("process worker"), spans.one("send worker")
    assert (parent(span), linked(span)) == (ids(sending), [ids(sending)])


def test_an_error_in_such_a_span_is_recorded_and_goes_on(make: Make, spans: Spans) -> None:
    coordinator, tracing = make(), Tracing(spans.provider)
    coordinator.send_message(SENDER, WORKER, message())
    received = coordinator.receive(WORKER, LONG)
    assert received is not None

    def fails() -> None:
        with tracing.processing(received, WORKER):
            raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        fails()

    span = spans.one("process worker")
    assert span.attributes["error.type"] == "OSError"
    assert (parent(span), linked(span)) == (None, []), "the sender was not traced"


def test_where_there_is_a_span_already_handling_is_part_of_that(
    traced: RedisMessageCoordinator, spans: Spans
) -> None:
    traced.send_message(SENDER, WORKER, message())
    received = traced.receive(WORKER, LONG)
    assert received is not None
    tracer = spans.provider.get_tracer("test")

    with (
        tracer.start_as_current_span("ambient"),
        Tracing(spans.provider).processing(received, WORKER),
    ):
        pass

    span = spans.one("process worker")
    assert parent(span) == ids(spans.one("ambient"))
    assert linked(span) == [ids(spans.one("send worker"))]


def test_an_end_whose_beginning_was_not_traced_makes_no_span(
    make: Make, spans: Spans, serve: Serve, recorder: Recorder
) -> None:
    coordinator, tracing = make(), Tracing(spans.provider)
    coordinator.events.add(recorder)

    def act(payload: dict[str, Any]) -> dict[str, Any]:
        coordinator.events.add(tracing)
        return payload

    coordinator.send_message(SENDER, ONE, message(to=ONE))
    serve(Acting(act), coordinator)
    recorder.wait_for(HandlerEnded)

    assert len(recorder.of(HandlerBegun)) == 1
    assert spans.names == []


def test_sends_that_are_refused_before_they_were_traced_do_no_harm(
    make: Make, spans: Spans
) -> None:
    coordinator = make(queue_size=1)
    tracing = Tracing(spans.provider)
    added: list[Callable[[], None]] = [lambda: coordinator.events.add(tracing)]

    def late(_event: object) -> None:
        if added:
            added.pop()()

    coordinator.events.add(late)
    results = coordinator.send_many(SENDER, [message(), message()])

    assert [result.delivered for result in results] == [True, False]
    assert spans.names == []


def test_what_is_not_traced_any_more_makes_no_spans(make: Make, spans: Spans) -> None:
    coordinator = make()
    tracing = instrument(coordinator, tracer_provider=spans.provider)

    coordinator.events.remove(tracing)
    coordinator.send_message(SENDER, WORKER, message())

    assert spans.names == []
    received = coordinator.receive(WORKER, LONG)
    assert received is not None
    assert received.message.headers == {}
