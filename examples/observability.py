"""What happens is seen: in events, spans, metrics and the log.

A shop asks a pricing agent, which answers one question and rejects another. Both are told to an
observer, traced with OpenTelemetry, counted for Prometheus and logged as JSON.
"""

import json
import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentMessage,
    AgentWorker,
    RedisAgentRegistry,
    RedisMessageCoordinator,
    RejectMessage,
    RemoteAgentError,
    otel,
    prometheus,
)
from tta_agent_coordination.embedded import EmbeddedServer
from tta_agent_coordination.events import DeadLettered, Event

SHOP, PRICING = AgentId("shop"), AgentId("pricing")


class Pricing(Agent):
    """Knows one price."""

    agent_id = PRICING

    def process(self, payload: dict[str, str]) -> dict[str, int]:
        """Answer with the price of an item."""
        if payload["item"] != "apple":
            raise RejectMessage(f"no such item: {payload['item']}")
        return {"price": 3}


# [observer]
def tell_somebody(event: Event) -> None:
    """Be told of everything, and choose."""
    if isinstance(event, DeadLettered):
        print(f"{event.name}: a message to {event.inbox} is dead: {event.reason}")


def observe(coordinator: RedisMessageCoordinator) -> None:
    """Let it be told what happens in this coordinator and its workers."""
    coordinator.events.add(tell_somebody)


# [/observer]


# [logs]
class Json(logging.Formatter):
    """One JSON object a line: the event, and whatever belongs to it."""

    usual = frozenset(vars(logging.makeLogRecord({})))

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {name: value for name, value in vars(record).items() if name not in self.usual}
        return json.dumps({"level": record.levelname, **fields, "text": record.getMessage()})


def log_as_json() -> None:
    """Write the library's log to standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Json())
    logger = logging.getLogger("tta_agent_coordination")
    logger.addHandler(handler)
    logger.propagate = False


# [/logs]


@contextmanager
def tracing(coordinator: RedisMessageCoordinator) -> Generator[InMemorySpanExporter]:
    """Trace, and keep the spans; a real program sends them to a collector."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace_calls(coordinator, provider)
    yield kept
    provider.shutdown()


# [tracing]
def trace_calls(coordinator: RedisMessageCoordinator, provider: TracerProvider) -> None:
    """Make spans of what this coordinator and its workers do."""
    trace.set_tracer_provider(provider)  # as your program does anyway
    otel.instrument(coordinator)


# [/tracing]


# [metrics]
def count(coordinator: RedisMessageCoordinator, agents: RedisAgentRegistry) -> CollectorRegistry:
    """Count what happens, for Prometheus."""
    registry = CollectorRegistry()  # or prometheus_client.REGISTRY
    prometheus.instrument(coordinator, agents, registry=registry)
    registry.register(prometheus.InboxCollector(coordinator, agents))
    return registry


# [/metrics]


# [forked]
def metrics_page(coordinator: RedisMessageCoordinator, registry: CollectorRegistry) -> bytes:
    """Return what a scrape gets, under a server that forks as well."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # adds up what all processes counted
        registry.register(prometheus.InboxCollector(coordinator))  # asks Redis, here and now
    return generate_latest(registry)


# [/forked]


def ask(coordinator: RedisMessageCoordinator, item: str) -> None:
    """Ask for a price, and print the answer."""
    try:
        answer = coordinator.request(SHOP, PRICING, {"item": item}, timeout=10.0)
        print(f"{item}: {answer.payload['price']}")
    except RemoteAgentError as error:
        print(f"{item}: {error}")


def main() -> None:
    """Ask twice, and show what was seen of it."""
    with (
        EmbeddedServer() as server,
        RedisMessageCoordinator.from_url(server.url) as coordinator,
        RedisAgentRegistry.from_url(server.url) as agents,
        tracing(coordinator) as spans,
    ):
        log_as_json()
        observe(coordinator)
        registry = count(coordinator, agents)
        with AgentWorker(Pricing(), coordinator, agents):
            ask(coordinator, "apple")
            ask(coordinator, "pear")
            coordinator.send_message(SHOP, SHOP, AgentMessage(SHOP, SHOP, {"for": "later"}))
            page = metrics_page(coordinator, registry).decode()
        for span in spans.get_finished_spans():
            print(f"span {span.name}: {span.status.status_code.name}")
        print(*(line for line in page.splitlines() if "_messages{" in line), sep="\n")


if __name__ == "__main__":
    main()
