"""OpenTelemetry: spans for what is sent, asked and handled, and the trace context in messages.

Needs ``tta-agent-coordination[otel]``. By the semantic conventions for messaging, version 1.41,
of which the names here are part: https://opentelemetry.io/docs/specs/semconv/messaging/

The context goes into the headers of messages (``traceparent`` and ``tracestate`` with the usual
propagator). Headers of the user's stay, and a context that a message has already is left as it
is; so is its id.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Token
from typing import Any

import attrs

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider
    from opentelemetry.util.types import AttributeValue
except ImportError as error:
    raise ImportError(
        "OpenTelemetry is not installed: pip install 'tta-agent-coordination[otel]'"
    ) from error

from tta_agent_coordination.delivery import ReceivedMessage
from tta_agent_coordination.events import (
    DeadLettered,
    Event,
    HandlerBegun,
    HandlerEnded,
    Observable,
    RequestBegun,
    RequestEnded,
    SendBegun,
    SendEnded,
)
from tta_agent_coordination.identity import REPLY_TYPE, AgentId
from tta_agent_coordination.message import AgentMessage

__all__ = ["Tracing", "instrument"]

SYSTEM = "tta_agent_coordination"
"""``messaging.system``; attributes of ours stand under ``messaging.tta_agent_coordination``."""

Attributes = Mapping[str, AttributeValue]


@attrs.frozen
class _Open:
    span: Span
    attached: Token[Context]


class Tracing:
    """An observer that makes spans of events; see `instrument`."""

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        *,
        create_spans: bool = True,
        parent: bool = True,
    ) -> None:
        """Make spans.

        Args:
            tracer_provider: Whose spans; None: the global one.
            create_spans: Whether each message of a batch gets a short span of its own, which is
                what its handling refers to; otherwise all refer to the sending of the batch.
            parent: Whether handling belongs to the trace of the sender; otherwise it begins one
                of its own. It has a link to the sender's span in any case.
        """
        self._tracer = trace.get_tracer(SYSTEM, tracer_provider=tracer_provider)
        self._create_spans = create_spans
        self._parent = parent
        self._open: dict[Event, _Open] = {}
        self._steps: dict[type[Event], Callable[[Any], None]] = {
            SendBegun: self._send_begun,
            SendEnded: self._send_ended,
            RequestBegun: self._request_begun,
            RequestEnded: self._request_ended,
            HandlerBegun: self._handler_begun,
            HandlerEnded: self._handler_ended,
            DeadLettered: self._dead_lettered,
        }

    def __call__(self, event: Event) -> None:
        """Make what is to be made of an event."""
        step = self._steps.get(type(event))
        if step is not None:
            step(event)

    @contextmanager
    def processing(self, received: ReceivedMessage, inbox: AgentId) -> Generator[Span]:
        """Make the span of a message that was received, and is handled, without a worker.

        Where there is a current span it is the parent, as the conventions ask; the sender's is
        linked to.

        Args:
            received: The message.
            inbox: From which inbox.
        """
        span, around = self._process_span(received, inbox)
        attached = context.attach(trace.set_span_in_context(span, around))
        try:
            yield span
        except BaseException as error:
            _fail(span, error)
            raise
        finally:
            context.detach(attached)
            span.end()

    def _begin(self, event: Event, span: Span, around: Context | None = None) -> None:
        attached = context.attach(trace.set_span_in_context(span, around))
        self._open[event] = _Open(span, attached)

    def _end(
        self, event: Event, error: BaseException | None, attributes: Attributes | None = None
    ) -> None:
        found = self._open.pop(event, None)
        if found is None:  # it began before there was anybody to tell, or not all went well then
            return
        context.detach(found.attached)
        found.span.set_attributes(attributes or {})
        if error is not None:
            _fail(found.span, error)
        found.span.end()

    def _send_begun(self, event: SendBegun) -> None:
        messages, first = event.messages, event.messages[0]
        batch = len(messages) > 1
        fresh = [message for message in messages if not _has_context(message)]
        if batch and self._create_spans:
            for message in fresh:
                self._create(message)
            fresh.clear()
        origins = [message for message in messages if _has_context(message)]
        span = self._tracer.start_span(
            _name(event.operation, *(message.recipient for message in messages)),
            kind=SpanKind.PRODUCER if fresh else SpanKind.CLIENT,
            attributes={
                **_operation("send", event.operation),
                **_destination(*(message.recipient for message in messages)),
                **(_count(messages) if batch else _message(first)),
            },
            links=[link for message in origins for link in _links(_context_in(message))],
        )
        for message in fresh:
            propagate.inject(message.headers, trace.set_span_in_context(span))
        self._begin(event, span)

    def _create(self, message: AgentMessage) -> None:
        span = self._tracer.start_span(
            _name("create", message.recipient),
            kind=SpanKind.PRODUCER,
            attributes={
                **_operation("create", "create"),
                **_destination(message.recipient),
                **_message(message),
            },
        )
        propagate.inject(message.headers, trace.set_span_in_context(span))
        span.end()

    def _send_ended(self, event: SendEnded) -> None:
        found = self._open.get(event.begun)
        refused = event.outcomes.count("refused")
        attributes: dict[str, AttributeValue] = {}
        if duplicates := event.outcomes.count("duplicate"):
            attributes[f"messaging.{SYSTEM}.duplicates"] = duplicates
        if refused and found is not None:
            attributes[f"messaging.{SYSTEM}.refused"] = refused
            attributes["error.type"] = "queue_full"
            found.span.set_status(Status(StatusCode.ERROR, f"{refused} refused: queue full"))
        self._end(event.begun, event.error, attributes)

    def _request_begun(self, event: RequestBegun) -> None:
        span = self._tracer.start_span(
            _name("request", event.recipient),
            kind=SpanKind.CLIENT,
            attributes={
                "messaging.system": SYSTEM,
                "messaging.operation.name": "request",
                **_destination(event.recipient),
            },
        )
        self._begin(event, span)

    def _request_ended(self, event: RequestEnded) -> None:
        self._end(event.begun, event.error)

    def _handler_begun(self, event: HandlerBegun) -> None:
        span, around = self._process_span(event.received, event.inbox)
        self._begin(event, span, around)

    def _handler_ended(self, event: HandlerEnded) -> None:
        meant = event.outcome == "retry_later"
        attributes = {f"messaging.{SYSTEM}.outcome": event.outcome}
        self._end(event.begun, None if meant else event.error, attributes)

    def _dead_lettered(self, event: DeadLettered) -> None:
        trace.get_current_span().add_event(
            "dead_lettered", {"messaging.message.id": event.message_id, "reason": event.reason}
        )

    def _process_span(
        self, received: ReceivedMessage, inbox: AgentId
    ) -> tuple[Span, Context | None]:
        """Return the span of the handling, and the context in which it is current."""
        sent_in = _context_in(received.message)
        ambient = trace.get_current_span().get_span_context().is_valid
        around = sent_in if self._parent and not ambient else None
        attempt = received.queue_message.delivery_attempts
        span = self._tracer.start_span(
            _name("process", inbox),
            context=around,
            kind=SpanKind.CONSUMER,
            attributes={
                **_operation("process", "process"),
                **_destination(inbox),
                **_message(received.message),
                f"messaging.{SYSTEM}.message.delivery_attempt": attempt,
            },
            links=_links(sent_in),
        )
        return span, around


def instrument(
    *sources: Observable,
    tracer_provider: TracerProvider | None = None,
    create_spans: bool = True,
    parent: bool = True,
) -> Tracing:
    """Make spans of what coordinators, and the workers on them, do from now on.

    Args:
        sources: Coordinators.
        tracer_provider: Whose spans; None: the global one.
        create_spans: As for `Tracing`.
        parent: As for `Tracing`.

    Returns:
        The observer; ``source.events.remove`` it to end this.
    """
    tracing = Tracing(tracer_provider, create_spans=create_spans, parent=parent)
    for source in sources:
        source.events.add(tracing)
    return tracing


def _name(operation: str, *destinations: AgentId) -> str:
    """Return the name of a span, in which there are few values: types, and no instances."""
    types = {destination.type for destination in destinations}
    return f"{operation} {types.pop()}" if len(types) == 1 else operation


def _operation(kind: str, name: str) -> dict[str, AttributeValue]:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.type": kind,
        "messaging.operation.name": name,
    }


def _destination(*destinations: AgentId) -> dict[str, AttributeValue]:
    """Describe where messages go, unless it is to different places."""
    if len(set(destinations)) != 1:
        return {}
    [destination] = set(destinations)
    found: dict[str, AttributeValue] = {
        "messaging.destination.name": str(destination),
        "messaging.destination.template": destination.type,
    }
    if destination.type == REPLY_TYPE:
        found["messaging.destination.temporary"] = True
    return found


def _message(message: AgentMessage) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {"messaging.message.id": message.message_id}
    if message.correlation_id is not None:
        found["messaging.message.conversation_id"] = message.correlation_id
    return found


def _count(messages: Sequence[AgentMessage]) -> dict[str, AttributeValue]:
    return {"messaging.batch.message_count": len(messages)}


def _context_in(message: AgentMessage) -> Context:
    return propagate.extract(message.headers, context=Context())


def _has_context(message: AgentMessage) -> bool:
    return bool(_links(_context_in(message)))


def _links(found: Context) -> list[Link]:
    origin = trace.get_current_span(found).get_span_context()
    return [Link(origin)] if origin.is_valid else []


def _fail(span: Span, error: BaseException) -> None:
    span.record_exception(error)
    span.set_attribute("error.type", type(error).__qualname__)
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
