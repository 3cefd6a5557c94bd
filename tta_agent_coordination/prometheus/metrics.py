"""Counters and histograms of events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from prometheus_client import REGISTRY as DEFAULT_REGISTRY
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tta_agent_coordination import events
from tta_agent_coordination.delivery import LeaseOutcome
from tta_agent_coordination.events import Event, Observable
from tta_agent_coordination.prometheus.labels import DEFAULT_AGENT_TYPES, Labels

BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800)
"""Seconds; handlers may take milliseconds or many minutes."""
_TYPE = "agent_type"
"""The label of whom it is about."""

_COUNTERS = {
    "sent": ("tta_messages_sent_total", "Messages sent, by what came of it.", _TYPE, "outcome"),
    "received": ("tta_messages_received_total", "Messages handed out, again or not.", _TYPE),
    "redelivered": ("tta_messages_redelivered_total", "Messages handed out once more.", _TYPE),
    "acked": ("tta_messages_acked_total", "Messages acknowledged.", _TYPE, "outcome"),
    "nacked": ("tta_messages_nacked_total", "Messages given back as failed.", _TYPE, "failure"),
    "released": ("tta_messages_released_total", "Messages given back unhandled.", _TYPE),
    "dead": ("tta_messages_dead_lettered_total", "New dead letters.", _TYPE, "reason"),
    "dropped": (
        "tta_dead_letters_dropped_total",
        "Dead letters for which there was no room.",
        _TYPE,
    ),
    "renewed": ("tta_lease_renewals_total", "Leases that were to be renewed.", _TYPE, "outcome"),
    "lost": ("tta_leases_lost_total", "Leases that a worker lost.", _TYPE),
    "recovered": ("tta_leases_recovered_total", "Expired leases that were moved back.", _TYPE),
    "breaker_changes": (
        "tta_breaker_changes_total",
        "Changes of circuit breakers.",
        "breaker",
        "state",
    ),
    "heartbeat_failures": ("tta_heartbeat_failures_total", "How often heartbeats began to fail."),
    "superseded": ("tta_agents_superseded_total", "Agents that another process took over.", _TYPE),
    "restarts": ("tta_agent_restarts_total", "Restarts of agents, by what came of it.", "outcome"),
    "moved": ("tta_messages_moved_total", "Messages moved out of inboxes of dead agents."),
}
"""Name, text and labels of each."""
_HISTOGRAMS = {
    "inbox": ("tta_message_inbox_seconds", "From storing to the first handing out.", _TYPE),
    "handler": ("tta_handler_seconds", "What handlers took.", _TYPE, "outcome"),
    "request": ("tta_request_seconds", "From a request to its end.", _TYPE, "outcome"),
}
_Mode = Literal["livesum", "livemax"]
_GAUGES: dict[str, tuple[_Mode, str, str, *tuple[str, ...]]] = {
    "busy": ("livesum", "tta_handlers_busy", "Handlers at work.", _TYPE),
    "breaker_open": (
        "livemax",
        "tta_breaker_open",
        "Whether a circuit breaker is not closed, in any process.",
        "breaker",
    ),
    "heartbeats_failing": (
        "livemax",
        "tta_heartbeats_failing",
        "Whether heartbeats fail, in any process.",
    ),
}
"""How the values of several processes become one, then as for the others: name, text, labels."""


class Metrics:
    """An observer that counts events; see `instrument`."""

    def __init__(
        self,
        registry: CollectorRegistry = DEFAULT_REGISTRY,
        *,
        agent_types: int = DEFAULT_AGENT_TYPES,
    ) -> None:
        """Register the metrics.

        Args:
            registry: Of prometheus-client; the same metrics can be in it once.
            agent_types: Different values of the label ``agent_type``.

        Raises:
            ValueError: They are in the registry already.
        """
        self._labels = Labels(agent_types)
        self._handling = set[Event]()
        self._counters = {
            key: Counter(name, text, labels, registry=registry)
            for key, (name, text, *labels) in _COUNTERS.items()
        }
        self._seconds = {
            key: Histogram(name, text, labels, registry=registry, buckets=BUCKETS)
            for key, (name, text, *labels) in _HISTOGRAMS.items()
        }
        self._gauges = {
            key: Gauge(name, text, labels, registry=registry, multiprocess_mode=mode)
            for key, (mode, name, text, *labels) in _GAUGES.items()
        }
        self._steps = self._by_event()

    def __call__(self, event: Event) -> None:
        """Count an event."""
        step = self._steps.get(type(event))
        if step is not None:
            step(event)

    def _by_event(self) -> dict[type[Event], Callable[[Any], None]]:
        return {
            events.SendEnded: self._send_ended,
            events.MessageReceived: self._message_received,
            events.MessageAcked: self._message_acked,
            events.MessageNacked: self._message_nacked,
            events.MessageReleased: self._message_released,
            events.DeadLettered: self._dead_lettered,
            events.DeadLettersDropped: self._dead_letters_dropped,
            events.LeaseRenewed: self._lease_renewed,
            events.LeaseLost: self._lease_lost,
            events.LeasesRecovered: self._leases_recovered,
            events.HandlerBegun: self._handler_begun,
            events.HandlerEnded: self._handler_ended,
            events.RequestEnded: self._request_ended,
            events.BreakerChanged: self._breaker_changed,
            events.HeartbeatsFailed: self._heartbeats_failed,
            events.HeartbeatsRecovered: self._heartbeats_recovered,
            events.AgentSuperseded: self._agent_superseded,
            events.AgentsRecovered: self._agents_recovered,
        }

    def _send_ended(self, event: events.SendEnded) -> None:
        for message, outcome in zip(event.begun.messages, event.outcomes, strict=True):
            self._counters["sent"].labels(self._labels.of(message.recipient), outcome).inc()

    def _message_received(self, event: events.MessageReceived) -> None:
        agent_type = self._labels.of(event.inbox)
        self._counters["received"].labels(agent_type).inc()
        if event.attempts > 1:
            self._counters["redelivered"].labels(agent_type).inc()
        elif event.inbox_seconds is not None:
            self._seconds["inbox"].labels(agent_type).observe(event.inbox_seconds)

    def _message_acked(self, event: events.MessageAcked) -> None:
        self._counters["acked"].labels(self._labels.of(event.inbox), _word(event.outcome)).inc()

    def _message_nacked(self, event: events.MessageNacked) -> None:
        self._counters["nacked"].labels(self._labels.of(event.inbox), event.failure.value).inc()

    def _message_released(self, event: events.MessageReleased) -> None:
        self._counters["released"].labels(self._labels.of(event.inbox)).inc()

    def _dead_lettered(self, event: events.DeadLettered) -> None:
        self._counters["dead"].labels(self._labels.of(event.inbox), event.reason).inc()

    def _dead_letters_dropped(self, event: events.DeadLettersDropped) -> None:
        self._counters["dropped"].labels(self._labels.of(event.inbox)).inc(event.count)

    def _lease_renewed(self, event: events.LeaseRenewed) -> None:
        self._counters["renewed"].labels(self._labels.of(event.inbox), _word(event.outcome)).inc()

    def _lease_lost(self, event: events.LeaseLost) -> None:
        self._counters["lost"].labels(self._labels.of(event.inbox)).inc()

    def _leases_recovered(self, event: events.LeasesRecovered) -> None:
        self._counters["recovered"].labels(self._labels.of(event.inbox)).inc(event.count)

    def _handler_begun(self, event: events.HandlerBegun) -> None:
        self._handling.add(event)
        self._gauges["busy"].labels(self._labels.of(event.agent_id)).inc()

    def _handler_ended(self, event: events.HandlerEnded) -> None:
        agent_type = self._labels.of(event.begun.agent_id)
        if event.begun in self._handling:  # it may have begun before it was counted
            self._handling.discard(event.begun)
            self._gauges["busy"].labels(agent_type).dec()
        self._seconds["handler"].labels(agent_type, event.outcome).observe(event.seconds)

    def _request_ended(self, event: events.RequestEnded) -> None:
        agent_type = self._labels.of(event.begun.recipient)
        self._seconds["request"].labels(agent_type, event.outcome).observe(event.seconds)

    def _breaker_changed(self, event: events.BreakerChanged) -> None:
        self._counters["breaker_changes"].labels(event.breaker, event.new).inc()
        self._gauges["breaker_open"].labels(event.breaker).set(event.new != "closed")

    def _heartbeats_failed(self, _event: events.HeartbeatsFailed) -> None:
        self._counters["heartbeat_failures"].inc()
        self._gauges["heartbeats_failing"].set(1)

    def _heartbeats_recovered(self, _event: events.HeartbeatsRecovered) -> None:
        self._gauges["heartbeats_failing"].set(0)

    def _agent_superseded(self, event: events.AgentSuperseded) -> None:
        self._counters["superseded"].labels(self._labels.of(event.agent_id)).inc()

    def _agents_recovered(self, event: events.AgentsRecovered) -> None:
        self._counters["restarts"].labels("restarted").inc(event.restarted)
        self._counters["restarts"].labels("given_up").inc(event.given_up)
        self._counters["restarts"].labels("failed").inc(event.failed)
        self._counters["moved"].inc(event.moved)


def _word(outcome: LeaseOutcome) -> str:
    return outcome.name.lower()


def instrument(
    *sources: Observable,
    registry: CollectorRegistry = DEFAULT_REGISTRY,
    agent_types: int = DEFAULT_AGENT_TYPES,
) -> Metrics:
    """Count what happens in coordinators, registries and circuit breakers from now on.

    Args:
        sources: All that this process has of them.
        registry: Of prometheus-client; the same metrics can be in it once.
        agent_types: Different values of the label ``agent_type``.

    Returns:
        The observer; ``source.events.remove`` it to end this.

    Raises:
        ValueError: The metrics are in the registry already: instrument once, with all sources.
    """
    metrics = Metrics(registry, agent_types=agent_types)
    for source in sources:
        source.events.add(metrics)
    return metrics
