"""Counters and histograms of events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import REGISTRY as DEFAULT_REGISTRY
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tta_agent_coordination import events
from tta_agent_coordination.delivery import LeaseOutcome
from tta_agent_coordination.events import Event, Observable
from tta_agent_coordination.prometheus.labels import DEFAULT_AGENT_TYPES, Labels

BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800)
"""Seconds; handlers may take milliseconds or many minutes."""


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

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(name, text, labels, registry=registry, buckets=BUCKETS)

        by_type = "agent_type"
        self._sent = counter(
            "tta_messages_sent_total", "Messages sent, by what came of it.", by_type, "outcome"
        )
        self._received = counter(
            "tta_messages_received_total", "Messages handed out, again or not.", by_type
        )
        self._redelivered = counter(
            "tta_messages_redelivered_total", "Messages handed out once more.", by_type
        )
        self._inbox_seconds = histogram(
            "tta_message_inbox_seconds", "From storing to the first handing out.", by_type
        )
        self._acked = counter(
            "tta_messages_acked_total", "Messages acknowledged.", by_type, "outcome"
        )
        self._nacked = counter(
            "tta_messages_nacked_total", "Messages given back as failed.", by_type, "failure"
        )
        self._released = counter(
            "tta_messages_released_total", "Messages given back unhandled.", by_type
        )
        self._dead = counter(
            "tta_messages_dead_lettered_total", "New dead letters.", by_type, "reason"
        )
        self._dropped = counter(
            "tta_dead_letters_dropped_total", "Dead letters for which there was no room.", by_type
        )
        self._renewed = counter(
            "tta_lease_renewals_total", "Leases that were to be renewed.", by_type, "outcome"
        )
        self._lost = counter("tta_leases_lost_total", "Leases that a worker lost.", by_type)
        self._recovered = counter(
            "tta_leases_recovered_total", "Expired leases that were moved back.", by_type
        )
        self._handler_seconds = histogram(
            "tta_handler_seconds", "What handlers took.", by_type, "outcome"
        )
        self._busy = Gauge(
            "tta_handlers_busy",
            "Handlers at work.",
            [by_type],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._request_seconds = histogram(
            "tta_request_seconds", "From a request to its end.", by_type, "outcome"
        )
        self._breaker_changes = counter(
            "tta_breaker_changes_total", "Changes of circuit breakers.", "breaker", "state"
        )
        self._breaker_open = Gauge(
            "tta_breaker_open",
            "Whether a circuit breaker is not closed, in any process.",
            ["breaker"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._heartbeats_failing = Gauge(
            "tta_heartbeats_failing",
            "Whether heartbeats fail, in any process.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._heartbeat_failures = counter(
            "tta_heartbeat_failures_total", "How often heartbeats began to fail."
        )
        self._superseded = counter(
            "tta_agents_superseded_total", "Agents that another process took over.", by_type
        )
        self._restarts = counter(
            "tta_agent_restarts_total", "Restarts of agents, by what came of it.", "outcome"
        )
        self._moved = counter(
            "tta_messages_moved_total", "Messages moved out of inboxes of dead agents."
        )
        self._steps: dict[type[Event], Callable[[Any], None]] = {
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

    def __call__(self, event: Event) -> None:
        """Count an event."""
        step = self._steps.get(type(event))
        if step is not None:
            step(event)

    def _send_ended(self, event: events.SendEnded) -> None:
        for message, outcome in zip(event.begun.messages, event.outcomes, strict=True):
            self._sent.labels(self._labels.of(message.recipient), outcome).inc()

    def _message_received(self, event: events.MessageReceived) -> None:
        agent_type = self._labels.of(event.inbox)
        self._received.labels(agent_type).inc()
        if event.attempts > 1:
            self._redelivered.labels(agent_type).inc()
        elif event.inbox_seconds is not None:
            self._inbox_seconds.labels(agent_type).observe(event.inbox_seconds)

    def _message_acked(self, event: events.MessageAcked) -> None:
        self._acked.labels(self._labels.of(event.inbox), _word(event.outcome)).inc()

    def _message_nacked(self, event: events.MessageNacked) -> None:
        self._nacked.labels(self._labels.of(event.inbox), event.failure.value).inc()

    def _message_released(self, event: events.MessageReleased) -> None:
        self._released.labels(self._labels.of(event.inbox)).inc()

    def _dead_lettered(self, event: events.DeadLettered) -> None:
        self._dead.labels(self._labels.of(event.inbox), event.reason).inc()

    def _dead_letters_dropped(self, event: events.DeadLettersDropped) -> None:
        self._dropped.labels(self._labels.of(event.inbox)).inc(event.count)

    def _lease_renewed(self, event: events.LeaseRenewed) -> None:
        self._renewed.labels(self._labels.of(event.inbox), _word(event.outcome)).inc()

    def _lease_lost(self, event: events.LeaseLost) -> None:
        self._lost.labels(self._labels.of(event.inbox)).inc()

    def _leases_recovered(self, event: events.LeasesRecovered) -> None:
        self._recovered.labels(self._labels.of(event.inbox)).inc(event.count)

    def _handler_begun(self, event: events.HandlerBegun) -> None:
        self._handling.add(event)
        self._busy.labels(self._labels.of(event.agent_id)).inc()

    def _handler_ended(self, event: events.HandlerEnded) -> None:
        agent_type = self._labels.of(event.begun.agent_id)
        if event.begun in self._handling:  # it may have begun before it was counted
            self._handling.discard(event.begun)
            self._busy.labels(agent_type).dec()
        self._handler_seconds.labels(agent_type, event.outcome).observe(event.seconds)

    def _request_ended(self, event: events.RequestEnded) -> None:
        agent_type = self._labels.of(event.begun.recipient)
        self._request_seconds.labels(agent_type, event.outcome).observe(event.seconds)

    def _breaker_changed(self, event: events.BreakerChanged) -> None:
        self._breaker_changes.labels(event.breaker, event.new).inc()
        self._breaker_open.labels(event.breaker).set(event.new != "closed")

    def _heartbeats_failed(self, _event: events.HeartbeatsFailed) -> None:
        self._heartbeat_failures.inc()
        self._heartbeats_failing.set(1)

    def _heartbeats_recovered(self, _event: events.HeartbeatsRecovered) -> None:
        self._heartbeats_failing.set(0)

    def _agent_superseded(self, event: events.AgentSuperseded) -> None:
        self._superseded.labels(self._labels.of(event.agent_id)).inc()

    def _agents_recovered(self, event: events.AgentsRecovered) -> None:
        self._restarts.labels("restarted").inc(event.restarted)
        self._restarts.labels("given_up").inc(event.given_up)
        self._restarts.labels("failed").inc(event.failed)
        self._moved.inc(event.moved)


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
