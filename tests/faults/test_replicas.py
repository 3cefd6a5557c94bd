"""Sends that wait for replicas, and say how many have what was sent."""

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fakeredis
import pytest
import redis

from tests.faults.calls import INBOX, OTHER, SENDER, message
from tests.faults.conftest import Coordinators
from tests.faults.test_gate import executions, taking
from tests.support.backends import Backend
from tests.support.servers import LocalServer, binary_of
from tests.support.waiting import eventually
from tta_agent_coordination import (
    ConfigurationError,
    FailureType,
    MessageType,
    RedisMessageCoordinator,
    RequestTimeoutError,
)
from tta_agent_coordination.proxy import FaultProxy

pytestmark = pytest.mark.guarantee("2.9")

TIMEOUT = 0.15
"""Seconds to wait for a replica that does not answer; servers look ten times a second."""


@pytest.fixture(scope="module", params=["valkey", "redis62"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[LocalServer, LocalServer]]:
    """A primary and its replica."""
    binary = binary_of(request.param)
    quick = ("--repl-diskless-sync-delay", "0")
    with LocalServer(binary, tcp=True, options=quick) as primary:
        host, port = primary.address
        with LocalServer(binary, tcp=True, options=("--replicaof", host, str(port))) as replica:
            eventually(lambda: primary.admin.wait(1, 100) == 1, timeout=20)
            yield primary, replica


@pytest.fixture
def sender(pair: tuple[LocalServer, LocalServer], coordinators: Coordinators) -> Any:
    """Make coordinators of one prefix that wait for a replica."""
    prefix = f"test-{secrets.token_hex(6)}"

    def make(client: Any = None, **options: Any) -> RedisMessageCoordinator:
        settings = {"replicas": 1, "replicas_timeout": TIMEOUT} | options
        return coordinators(client or pair[0].client(), prefix, **settings)

    return make


@contextmanager
def paused(replica: LocalServer) -> Iterator[None]:
    replica.pause()
    try:
        yield
    finally:
        replica.resume()


def test_every_kind_of_send_says_how_many_replicas_have_it(sender: Coordinators) -> None:
    coordinator = sender(replicas_timeout=1.0)
    coordinator.subscribe_to_messages(OTHER, [MessageType.EVENT])

    results = [
        coordinator.send_message(SENDER, INBOX, message(1)),
        coordinator.send_message(SENDER, INBOX, message(1)),
        coordinator.send_message(SENDER, INBOX, message(2), delay=60.0),
        *coordinator.send_many(SENDER, [message(3), message(4, OTHER)]),
        *coordinator.broadcast_message(SENDER, message(5), [INBOX, OTHER]),
        *coordinator.publish(SENDER, message(6)),
    ]

    assert [result.replicas for result in results] == [1] * 8
    assert [result.duplicate for result in results] == [False, True] + [False] * 6


def test_what_reaches_no_replica_in_time_is_stored_and_says_so(
    sender: Coordinators, pair: tuple[LocalServer, LocalServer]
) -> None:
    coordinator = sender()
    coordinator.send_message(SENDER, INBOX, message(1))
    with paused(pair[1]), taking(TIMEOUT, TIMEOUT + 0.2):
        result = coordinator.send_message(SENDER, INBOX, message(2))
    assert (result.delivered, result.duplicate, result.replicas) == (True, False, 0)
    assert len(coordinator.receive_many(INBOX, 10)) == 2


def test_a_full_inbox_has_no_replicas(sender: Coordinators) -> None:
    coordinator = sender(queue_size=1)
    coordinator.send_message(SENDER, INBOX, message(1))
    result = coordinator.send_message(SENDER, INBOX, message(2))
    assert (result.delivered, result.replicas) == (False, None)


def test_the_log_has_one_line_for_each_change(
    sender: Coordinators,
    pair: tuple[LocalServer, LocalServer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    coordinator = sender(replicas_timeout=TIMEOUT)
    with caplog.at_level(logging.INFO, "tta_agent_coordination"):
        coordinator.send_message(SENDER, INBOX, message(1))
        with paused(pair[1]):
            for number in (2, 3):
                coordinator.send_message(SENDER, INBOX, message(number))
        eventually(lambda: coordinator.send_message(SENDER, INBOX, message(4)).replicas == 1)
        coordinator.send_message(SENDER, INBOX, message(5))
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in lines] == ["WARNING", "INFO"]
    assert "reaches 0 of 1 replicas in time" in lines[0][1]
    assert "reaches 1 replicas again" in lines[1][1]


def test_a_repeated_send_waits_for_the_replica_too(
    sender: Coordinators, pair: tuple[LocalServer, LocalServer]
) -> None:
    """The second connection has written nothing of its own, so a bare WAIT would claim it."""
    primary, replica = pair
    with FaultProxy(primary.address) as proxy:
        coordinator = sender(redis.Redis.from_url(proxy.url))
        coordinator.send_message(SENDER, INBOX, message(1))
        lost = proxy.drop_reply_of("EVALSHA")
        with paused(replica):
            result = coordinator.send_message(SENDER, INBOX, message(2))
        assert lost.used_up
    assert (result.delivered, result.duplicate, result.replicas) == (True, False, 0)


def test_a_duplicate_waits_for_the_replica_too(
    sender: Coordinators, pair: tuple[LocalServer, LocalServer]
) -> None:
    with paused(pair[1]):
        assert sender().send_message(SENDER, INBOX, message(1)).replicas == 0
        again = sender().send_message(SENDER, INBOX, message(1))
    assert (again.duplicate, again.replicas) == (True, 0)


def test_a_send_whose_script_had_to_be_loaded_is_waited_for_again(
    sender: Coordinators, pair: tuple[LocalServer, LocalServer]
) -> None:
    """The first WAIT was for nothing: what it follows was not carried out."""
    with FaultProxy(pair[0].address) as proxy:
        coordinator = sender(redis.Redis.from_url(proxy.url))
        coordinator.send_message(SENDER, INBOX, message(1))
        pair[0].admin.script_flush()
        proxy.forget()
        assert coordinator.send_message(SENDER, INBOX, message(2)).replicas == 1
        names = [command.name for command in proxy.commands]
        assert names == ["EVALSHA", "SET", "WAIT", "SCRIPT", "EVALSHA", "SET", "WAIT"]
        coordinator.close()  # before the proxy goes


def test_requests_and_replays_wait_for_replicas(
    sender: Coordinators, pair: tuple[LocalServer, LocalServer]
) -> None:
    with FaultProxy(pair[0].address) as proxy:
        coordinator = sender(redis.Redis.from_url(proxy.url))
        with pytest.raises(RequestTimeoutError):
            coordinator.request(SENDER, OTHER, {}, timeout=0.01)
        asked = proxy.count("WAIT")
        assert asked
        coordinator.send_message(SENDER, INBOX, message(1))
        received = coordinator.receive(INBOX)
        assert received is not None
        coordinator.nack(INBOX, received.token, FailureType.PERMANENT)
        asked = proxy.count("WAIT")
        assert coordinator.replay_dead_letters(INBOX) == 1
        assert proxy.count("WAIT") > asked
        coordinator.close()  # before the proxy goes


def test_nothing_is_asked_unless_it_is_wished(
    sender: Coordinators, pair: tuple[LocalServer, LocalServer]
) -> None:
    coordinator, admin = sender(replicas=0), pair[0].admin
    before = executions(admin, "wait"), executions(admin, "set")
    result = coordinator.send_message(SENDER, INBOX, message(1))
    assert result.replicas is None
    assert (executions(admin, "wait"), executions(admin, "set")) == before


def test_the_wait_leaves_no_key_behind(
    sender: Coordinators, pair: tuple[LocalServer, LocalServer]
) -> None:
    coordinator = sender()
    coordinator.send_message(SENDER, INBOX, message(1))
    prefix = coordinator._calls.keys.prefix
    eventually(lambda: not list(pair[0].admin.scan_iter(f"{prefix}:*:replicated")))


@pytest.mark.backend("cluster")
def test_a_cluster_is_asked_at_the_node_of_each_inbox(backend: Backend, key_prefix: str) -> None:
    with RedisMessageCoordinator(
        backend.client(), key_prefix, replicas=1, replicas_timeout=0.01
    ) as coordinator:
        results = coordinator.send_many(SENDER, [message(1), message(2, OTHER)])
    assert [(result.delivered, result.replicas) for result in results] == [(True, 0)] * 2


# Options -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"replicas_timeout": 1.2}, "at most 1.16667 s, .* call_timeout .5 s.*, not 1.2 s"),
        ({"replicas_timeout": 0}, "more than 0 .* not 0 s"),
        ({"call_timeout": 1.0}, "at most 0 s.* call_timeout .1 s."),
    ],
)
def test_the_wait_must_fit_into_the_call(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        RedisMessageCoordinator.from_url("redis://localhost:1", replicas=1, **options)


def test_the_time_of_a_wait_that_is_not_wished_does_not_matter() -> None:
    RedisMessageCoordinator.from_url("redis://localhost:1", call_timeout=0.1).close()


@pytest.mark.parametrize(
    ("options", "error"),
    [({"replicas": -1}, ValueError), ({"replicas": True}, TypeError),
     ({"replicas": 1, "replicas_timeout": float("inf")}, ValueError)],
)  # fmt: skip
def test_wrong_values_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="replicas"):
        RedisMessageCoordinator.from_url("redis://localhost:1", **options)


def test_fakeredis_has_no_replicas() -> None:
    with pytest.raises(ConfigurationError, match="replicas must be 0 with fakeredis"):
        RedisMessageCoordinator(fakeredis.FakeRedis(), replicas=1)
