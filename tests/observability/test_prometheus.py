"""Counters, histograms and gauges."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.observability.conftest import Make, Serve
from tests.observability.given import LONG, ONE, SENDER, WORKER, Acting, Recorder, message
from tests.support.backends import Backend
from tests.support.registry_clock import let_pass
from tests.support.servers import Client
from tests.support.waiting import eventually
from tta_agent_coordination import (
    AgentId,
    FailureType,
    LeaseOutcome,
    MessagePriority,
    RedisAgentRegistry,
    RedisMessageCoordinator,
    RejectMessage,
    events,
)
from tta_agent_coordination.prometheus import InboxCollector, instrument
from tta_agent_coordination.proxy import FaultProxy

pytestmark = pytest.mark.backend("valkey")

Value = Callable[..., float | None]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def metrics() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def value(metrics: CollectorRegistry) -> Value:
    """The value of a metric with these labels; None when there is none."""
    return lambda name, **labels: metrics.get_sample_value(name, labels)


@pytest.fixture
def counted(make: Make, metrics: CollectorRegistry) -> RedisMessageCoordinator:
    """A coordinator whose doings are counted."""
    coordinator = make()
    instrument(coordinator, registry=metrics)
    return coordinator


def test_sends_are_counted_by_what_came_of_them(
    counted: RedisMessageCoordinator, value: Value
) -> None:
    counted.configure(queue_size=1)
    given = message()
    for sent in (given, given, message()):
        counted.send_message(SENDER, WORKER, sent)

    outcomes = {
        outcome: value("tta_messages_sent_total", agent_type="worker", outcome=outcome)
        for outcome in ("stored", "duplicate", "refused", "failed")
    }
    assert outcomes == {"stored": 1, "duplicate": 1, "refused": 1, "failed": None}


def test_deliveries_and_their_ends_are_counted(
    counted: RedisMessageCoordinator, value: Value, later: Callable[..., None]
) -> None:
    counted.send_message(SENDER, WORKER, message())
    counted.receive(WORKER, 1.0)
    later(2.0)
    counted.recover_pending()
    second = counted.receive(WORKER, LONG)
    assert second is not None
    counted.extend(WORKER, second.token, LONG)
    counted.release(WORKER, second.token)
    third = counted.receive(WORKER, LONG)
    assert third is not None
    counted.nack(WORKER, third.token, FailureType.PERMANENT)
    counted.ack(WORKER, third.token)

    worker = {"agent_type": "worker"}
    assert value("tta_messages_received_total", **worker) == 3
    assert value("tta_messages_redelivered_total", **worker) == 2
    assert value("tta_leases_recovered_total", **worker) == 1
    assert value("tta_lease_renewals_total", **worker, outcome="done") == 1
    assert value("tta_messages_released_total", **worker) == 1
    assert value("tta_messages_nacked_total", **worker, failure="permanent") == 1
    assert value("tta_messages_dead_lettered_total", **worker, reason="permanent") == 1
    assert value("tta_messages_acked_total", **worker, outcome="stale") == 1


def test_the_time_in_the_inbox_is_that_of_first_deliveries(
    counted: RedisMessageCoordinator, value: Value, later: Callable[..., None]
) -> None:
    counted.send_message(SENDER, WORKER, message())
    later(7.0)
    counted.receive(WORKER, 1.0)
    later(2.0)
    counted.receive(WORKER, LONG)

    assert value("tta_message_inbox_seconds_count", agent_type="worker") == 1
    assert value("tta_message_inbox_seconds_bucket", agent_type="worker", le="5.0") == 0
    assert value("tta_message_inbox_seconds_bucket", agent_type="worker", le="60.0") == 1


def test_handlers_and_requests_are_timed(
    counted: RedisMessageCoordinator, value: Value, serve: Serve
) -> None:
    busy: list[float | None] = []

    def act(payload: dict[str, Any]) -> dict[str, Any]:
        busy.append(value("tta_handlers_busy", agent_type="worker"))
        if payload:
            raise RejectMessage
        return {}

    serve(Acting(act), counted)

    def ended(outcome: str) -> float | None:
        return value("tta_handler_seconds_count", agent_type="worker", outcome=outcome)

    counted.request(SENDER, ONE, {}, timeout=LONG)
    eventually(lambda: ended("done") == 1)
    counted.send_message(SENDER, ONE, message(to=ONE))
    eventually(lambda: ended("rejected") == 1)
    assert busy == [1, 1]
    assert value("tta_handlers_busy", agent_type="worker") == 0
    assert value("tta_request_seconds_count", agent_type="worker", outcome="answered") == 1


def test_a_handler_that_began_before_it_was_counted_is_not_taken_off(
    make: Make, metrics: CollectorRegistry, value: Value, recorder: Recorder, serve: Serve
) -> None:
    coordinator = make()
    coordinator.events.add(recorder)

    def act(payload: dict[str, Any]) -> dict[str, Any]:
        instrument(coordinator, registry=metrics)
        return payload

    coordinator.send_message(SENDER, ONE, message(to=ONE))
    serve(Acting(act), coordinator)
    recorder.wait_for(events.HandlerEnded)

    eventually(lambda: value("tta_handler_seconds_count", agent_type="worker", outcome="done"))
    assert value("tta_handlers_busy", agent_type="worker") is None


def test_what_is_rarer_is_counted_too(counted: RedisMessageCoordinator, value: Value) -> None:
    told = [
        events.MessageReceived(inbox=ONE, message_id="message-1", attempts=1, inbox_seconds=None),
        events.LeaseLost(inbox=ONE, message_id="message-1", why="for the test"),
        events.DeadLettersDropped(inbox=ONE, count=3),
        events.LeaseRenewed(inbox=ONE, message_id="message-1", outcome=LeaseOutcome.ALREADY_DONE),
        events.BreakerChanged(breaker="model", old="closed", new="open"),
        events.BreakerChanged(breaker="model", old="open", new="half-open"),
        events.BreakerChanged(breaker="other", old="half-open", new="closed"),
        events.HeartbeatsFailed(error="for the test"),
        events.AgentSuperseded(agent_id=ONE),
        events.AgentsRecovered(unhealthy=5, restarted=2, given_up=1, failed=1, moved=7),
    ]
    for event in told:
        counted.events.tell(event)

    worker = {"agent_type": "worker"}
    assert value("tta_messages_received_total", **worker) == 1
    assert value("tta_message_inbox_seconds_count", **worker) is None
    assert value("tta_leases_lost_total", **worker) == 1
    assert value("tta_dead_letters_dropped_total", **worker) == 3
    assert value("tta_lease_renewals_total", **worker, outcome="already_done") == 1
    assert value("tta_breaker_changes_total", breaker="model", state="open") == 1
    assert value("tta_breaker_open", breaker="model") == 1
    assert value("tta_breaker_open", breaker="other") == 0
    assert value("tta_heartbeat_failures_total") == 1
    assert value("tta_heartbeats_failing") == 1
    assert value("tta_agents_superseded_total", **worker) == 1
    assert value("tta_agent_restarts_total", outcome="given_up") == 1
    assert value("tta_messages_moved_total") == 7
    counted.events.tell(events.HeartbeatsRecovered())
    assert value("tta_heartbeats_failing") == 0


def test_labels_take_few_values_whatever_is_sent(
    make: Make, metrics: CollectorRegistry, value: Value
) -> None:
    coordinator = make()
    instrument(coordinator, registry=metrics, agent_types=2)

    for name in ("first", "second", "third", "fourth", "first"):
        to = AgentId(name, "instance")
        coordinator.send_message(SENDER, to, message(to=to))

    sent = {
        name: value("tta_messages_sent_total", agent_type=name, outcome="stored")
        for name in ("first", "second", "third", "(other)")
    }
    assert sent == {"first": 2, "second": 1, "third": None, "(other)": 2}
    assert b"instance" not in generate_latest(metrics)


def test_counting_twice_in_one_registry_is_refused(
    counted: RedisMessageCoordinator, metrics: CollectorRegistry
) -> None:
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        instrument(counted, registry=metrics)


# Gauges that are read from Redis ---------------------------------------------------------------


@pytest.fixture
def agents(client: Client, key_prefix: str, closing: ExitStack) -> RedisAgentRegistry:
    return closing.enter_context(RedisAgentRegistry(client, key_prefix))


def test_a_scrape_counts_inboxes_and_agents_by_type(
    make: Make,
    agents: RedisAgentRegistry,
    metrics: CollectorRegistry,
    value: Value,
    client: Client,
    key_prefix: str,
    later: Callable[..., None],
) -> None:
    coordinator = make()
    metrics.register(InboxCollector(coordinator, agents))
    for to in (WORKER, ONE):
        coordinator.send_message(SENDER, to, message(1, priority=MessagePriority.HIGH))
        coordinator.send_message(SENDER, to, message(2), delay=60.0)
    coordinator.send_many(SENDER, [message(n) for n in (3, 4, 5)])
    coordinator.nack(
        WORKER, coordinator.receive_many(WORKER, 2, LONG)[0].token, FailureType.PERMANENT
    )
    later(50.0)
    agents.register(Acting())
    let_pass(client, key_prefix, 100.0)
    agents.register(Acting(agent_id=AgentId("worker", "2")))

    ready = {
        priority: value("tta_inbox_ready_messages", agent_type="worker", priority=priority)
        for priority in ("high", "normal", "low")
    }
    held = {
        state: value("tta_inbox_messages", agent_type="worker", state=state)
        for state in ("delayed", "leased", "dead")
    }
    assert value("tta_redis_up") == 1
    assert ready == {"high": 1, "normal": 2, "low": 0}
    assert held == {"delayed": 2, "leased": 1, "dead": 1}
    oldest = value("tta_inbox_oldest_ready_seconds", agent_type="worker")
    assert oldest is not None
    assert 50.0 <= oldest < 60.0
    assert value("tta_inboxes_not_counted") == 0
    assert value("tta_agents", agent_type="worker", liveness="alive") == 1
    assert value("tta_agents", agent_type="worker", liveness="dead") == 1


def test_a_scrape_is_bounded_and_looks_at_shared_inboxes_first(
    make: Make, metrics: CollectorRegistry, value: Value
) -> None:
    coordinator = make()
    metrics.register(InboxCollector(coordinator, inboxes=1))
    own = [message(n, to=AgentId("another", str(n))) for n in range(3)]
    coordinator.send_many(SENDER, [*own, message()])

    assert value("tta_inbox_ready_messages", agent_type="worker", priority="normal") == 1
    assert value("tta_inbox_ready_messages", agent_type="another", priority="normal") is None
    assert value("tta_inboxes_not_counted") == 3
    assert value("tta_agents", agent_type="worker", liveness="alive") is None


def test_many_inboxes_take_few_round_trips(
    make: Make, metrics: CollectorRegistry, value: Value, backend: Backend, proxy: FaultProxy
) -> None:
    make().send_many(SENDER, [message(n, to=AgentId("worker", str(n))) for n in range(150)])
    coordinator = make(backend.client_through(proxy))
    metrics.register(InboxCollector(coordinator))
    proxy.delay(0.1)
    began_at = time.monotonic()

    assert value("tta_inbox_ready_messages", agent_type="worker", priority="normal") == 150

    assert time.monotonic() - began_at < 7.5, "150 round trips would take 15 s and more"


def test_a_scrape_says_that_redis_is_away_and_does_not_fail(
    make: Make, metrics: CollectorRegistry, backend: Backend, proxy: FaultProxy
) -> None:
    coordinator = make(backend.client_through(proxy), call_timeout=0.3)
    metrics.register(InboxCollector(coordinator))
    proxy.refuse()

    text = generate_latest(metrics).decode()

    assert [line for line in text.splitlines() if not line.startswith("#")] == ["tta_redis_up 0.0"]


def test_registering_asks_nothing(
    make: Make,
    agents: RedisAgentRegistry,
    metrics: CollectorRegistry,
    backend: Backend,
    proxy: FaultProxy,
) -> None:
    metrics.register(InboxCollector(make(backend.client_through(proxy)), agents))

    assert proxy.commands == []


# Several processes ------------------------------------------------------------------------------


@pytest.fixture
def two_processes(backend: Backend, key_prefix: str, tmp_path: Path) -> Iterator[Path]:
    """Two processes that have counted, and run; where they count."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-m", "tests.observability.process"]
    with ExitStack() as running:
        started = [
            running.enter_context(
                subprocess.Popen(
                    [*command, str(backend.url), key_prefix],
                    env=environment,
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(2)
        ]
        try:
            for process in started:
                assert process.stdout is not None
                assert process.stdout.readline() == "counted\n"
            yield tmp_path
        finally:
            for process in started:
                assert process.stdin is not None
                process.stdin.close()
                assert process.wait(10.0) == 0


SCRAPE = """
import sys
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from tta_agent_coordination import RedisMessageCoordinator
from tta_agent_coordination.prometheus import InboxCollector
registry = CollectorRegistry()
MultiProcessCollector(registry)
with RedisMessageCoordinator.from_url(*sys.argv[1:]) as coordinator:
    registry.register(InboxCollector(coordinator))
    print(generate_latest(registry).decode())
"""


def test_processes_are_added_up_and_the_gauges_of_redis_are_not(
    make: Make, two_processes: Path, backend: Backend, key_prefix: str
) -> None:
    make().send_message(SENDER, WORKER, message())

    scraped = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRAPE, str(backend.url), key_prefix],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(two_processes)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout.splitlines()

    assert 'tta_messages_sent_total{agent_type="worker",outcome="stored"} 2.0' in scraped
    assert 'tta_handlers_busy{agent_type="worker"} 2.0' in scraped, "live processes, added up"
    assert 'tta_breaker_open{breaker="model"} 1.0' in scraped, "in any process"
    assert 'tta_inbox_ready_messages{agent_type="worker",priority="normal"} 1.0' in scraped
