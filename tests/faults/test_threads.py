"""Calls that go on side by side, are interrupted, or meet a client with options of its own."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from tests.faults.calls import INBOX, OTHER, SENDER, message
from tests.faults.conftest import Coordinators
from tests.faults.test_breaker_opens import in_threads, open_breaker
from tests.support.backends import Backend
from tests.support.strikes import striking
from tests.support.waiting import SLACK, eventually
from tta_agent_coordination import (
    ConfigurationError,
    CoordinatorUnavailableError,
    RedisMessageCoordinator,
)
from tta_agent_coordination.proxy import FaultProxy
from tta_agent_coordination.transport.deadline import until


@contextmanager
def beside(name: str, action: Callable[[], object]) -> Iterator[None]:
    """Run an action in a thread meanwhile, and join it."""
    thread = threading.Thread(target=action, name=name)
    thread.start()
    try:
        yield
    finally:
        thread.join(30.0)
        assert not thread.is_alive(), f"{name} does not end"


@contextmanager
def interrupting(error: type[BaseException], after: Callable[[], object]) -> Iterator[None]:
    """Raise an error in the main thread as soon as `after` has returned in another."""

    def strike(_number: int, _frame: object) -> None:
        raise error

    def act() -> None:
        after()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, strike)
    try:
        with beside("interrupter", act), pytest.raises(error):
            yield
    finally:
        signal.signal(signal.SIGUSR1, before)


# Side by side -------------------------------------------------------------------------------


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
def test_twenty_slow_calls_take_the_time_of_one(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy()
    coordinator.stats(INBOX)
    in_threads(20, lambda: coordinator.stats(INBOX))
    proxy.delay(0.3)

    began = time.monotonic()
    assert not in_threads(20, lambda: coordinator.stats(INBOX))

    # Opening a connection takes three replies more.
    assert time.monotonic() - began < 6 * 0.3 + SLACK  # and not 20 times


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
def test_a_wait_holds_back_no_other_call(proxy: FaultProxy, through_proxy: Coordinators) -> None:
    coordinator = through_proxy()
    received: list[Any] = []

    def wait() -> None:
        received.append(coordinator.receive(INBOX, wait=10.0))

    with beside("waiter", wait):
        proxy.wait_for("BZPOPMIN")
        began = time.monotonic()
        for _ in range(100):
            coordinator.stats(OTHER)
        assert time.monotonic() - began < 10.0 / 2
        assert not received
        coordinator.send_message(SENDER, INBOX, message(1))

    assert [got.message.message_id for got in received] == ["message-0001"]


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
def test_more_threads_may_wait_than_a_pool_of_redis_py_has_connections(
    through_proxy: Coordinators, proxy: FaultProxy
) -> None:
    coordinator = through_proxy()
    assert not in_threads(105, lambda: coordinator.receive(INBOX, wait=1.0))
    assert proxy.connections > 100


@pytest.mark.backend("valkey")
def test_close_ends_a_wait_in_another_thread(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy()
    ends: list[float] = []

    def wait() -> None:
        with pytest.raises(ConfigurationError, match="closed"):
            coordinator.receive(INBOX, wait=30.0)
        ends.append(time.monotonic())

    with beside("waiter", wait):
        proxy.wait_for("BZPOPMIN")
        closed = time.monotonic()
        coordinator.close()
    assert ends[0] - closed < 1.0


@pytest.mark.backend("valkey")
def test_close_ends_the_calls_of_other_threads_and_leaves_no_connection(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy()
    proxy.delay(0.2)
    with beside("callers", lambda: in_threads(8, lambda: keep_calling(coordinator))):
        proxy.wait_for("EVALSHA", count=8)
        coordinator.close()
        coordinator.close()
    # That every connection is gone is seen by no_connection_left_behind.


def keep_calling(coordinator: RedisMessageCoordinator) -> None:
    with pytest.raises(ConfigurationError, match="closed"):
        any(coordinator.stats(INBOX) is None for _ in count())


@pytest.mark.backend("valkey")
def test_close_ends_the_pause_between_two_attempts(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy(call_timeout=30.0)
    proxy.refuse()

    def call() -> None:
        with pytest.raises(ConfigurationError, match="closed"):
            coordinator.stats(INBOX)

    with beside("caller", call):
        eventually(lambda: proxy.connections >= 3)
        closed = time.monotonic()
        coordinator.close()
    assert time.monotonic() - closed < SLACK


# Interrupted --------------------------------------------------------------------------------


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_call_is_not_counted_and_leaves_no_reply_to_the_next(
    proxy: FaultProxy, through_proxy: Coordinators, error: type[BaseException]
) -> None:
    # given calls that are interrupted after they were sent and before their reply
    coordinator = through_proxy()
    coordinator.send_message(SENDER, INBOX, message(1))
    coordinator.dead_letters(INBOX)
    for _ in range(7):
        proxy.delay(5.0)
        proxy.forget()
        with interrupting(error, lambda: proxy.wait_for("EVALSHA")):
            coordinator.dead_letters(INBOX)
        proxy.heal()

        # then the next gets its own reply
        assert coordinator.stats(INBOX).ready[message(1).priority] == 1

    link = coordinator._calls.link
    assert link.commands.state == "closed"


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
@pytest.mark.parametrize("command", ["SELECT", "CLIENT"])
def test_a_connection_whose_opening_was_interrupted_is_not_used(
    backend: Backend,
    proxy: FaultProxy,
    key_prefix: str,
    coordinators: Coordinators,
    command: str,
) -> None:
    client = backend.client_through(proxy, db=1)
    coordinator = coordinators(client, key_prefix)
    proxy.drip(200.0)  # the replies before it pass, it is caught in the middle of its own
    with interrupting(KeyboardInterrupt, lambda: proxy.wait_for(command)):
        coordinator.stats(INBOX)
    proxy.heal()

    coordinator.send_message(SENDER, INBOX, message(1))

    in_db_1, in_db_0 = backend.client(db=1), backend.client()
    assert in_db_1.unlink(*in_db_1.keys(f"{key_prefix}*"))
    assert not in_db_0.keys(f"{key_prefix}*")


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
@pytest.mark.parametrize("event", ["call", "return"])
@pytest.mark.parametrize("method", [until.__enter__, until.__exit__])
def test_ctrl_c_where_a_deadline_begins_or_ends_bounds_no_later_call(
    through_proxy: Coordinators, method: Callable[..., None], event: str
) -> None:
    coordinator = through_proxy(call_timeout=0.3)
    coordinator.stats(INBOX)

    with striking(method, event):
        coordinator.stats(INBOX)
    threading.Event().wait(0.15)  # the deadline of the attempt has passed

    assert coordinator.stats(INBOX).dead == 0


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
def test_an_interrupted_trial_gives_its_place_to_the_next_call(
    proxy: FaultProxy, through_proxy: Coordinators, quick_reset: float
) -> None:
    coordinator = through_proxy()
    coordinator.stats(INBOX)
    link = coordinator._calls.link
    for _ in range(5):
        link.commands._breaker.failed(ConnectionError("lost"), trial=False)
    threading.Event().wait(quick_reset)
    proxy.delay(5.0)
    proxy.forget()

    with interrupting(KeyboardInterrupt, lambda: proxy.wait_for("EVALSHA")):
        coordinator.stats(INBOX)
    assert link.commands.state == "half-open"

    proxy.heal()
    coordinator.stats(INBOX)
    assert link.commands.state == "closed"


@pytest.mark.guarantee("2.9")
@pytest.mark.backend("valkey")
def test_an_interrupted_receive_is_answered_by_the_next(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy()
    coordinator.send_message(SENDER, INBOX, message(1))
    assert coordinator.receive(OTHER) is None
    proxy.delay(5.0)
    proxy.forget()
    with interrupting(KeyboardInterrupt, lambda: proxy.wait_for("EVALSHA")):
        coordinator.receive(INBOX, 60.0)
    proxy.heal()

    received = coordinator.receive(INBOX, 60.0)

    assert received is not None
    assert received.queue_message.delivery_attempts == 1


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
def test_an_interrupted_wait_leaves_no_reply_to_the_next_call(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy()
    with interrupting(KeyboardInterrupt, lambda: proxy.wait_for("BZPOPMIN")):
        coordinator.receive(INBOX, wait=30.0)

    coordinator.send_message(SENDER, INBOX, message(1))
    assert coordinator.receive(INBOX) is not None


# Clients with options of their own ----------------------------------------------------------

OPTIONS: dict[str, dict[str, Any]] = {
    "decoding": {"decode_responses": True, "encoding": "utf-16"},
    "retrying": {"retry": Retry(ExponentialBackoff(), 10), "retry_on_timeout": True},
    "retrying-on-errors": {"retry_on_error": [redis.ConnectionError, redis.TimeoutError]},
    "impatient": {"socket_timeout": 0.1, "socket_connect_timeout": 0.1},
    "patient": {"socket_timeout": None, "socket_connect_timeout": None},
    "resp3": {"protocol": 3},
    "health-checks": {"health_check_interval": 1},
    "named": {"client_name": "somebody"},
    "single": {"single_connection_client": True},
}


def works_as_promised(coordinator: RedisMessageCoordinator, proxy: FaultProxy) -> None:
    # one repeat after one lost reply, and no more
    coordinator.stats(INBOX)
    proxy.forget()
    proxy.drop_reply_of("EVALSHA")
    coordinator.stats(INBOX)
    assert [command.name for command in proxy.commands] == ["EVALSHA"] * 2

    # a wait that is longer than the client's time-outs
    proxy.forget()
    assert coordinator.receive(INBOX, wait=0.3) is None
    assert proxy.count("BZPOPMIN") == 1

    # text comes back as it was
    coordinator.send_message(SENDER, INBOX, message(1, headers={"text": "Gruß, 世界"}))
    received = coordinator.receive(INBOX)
    assert received is not None
    assert received.message.headers == {"text": "Gruß, 世界"}


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
@pytest.mark.parametrize("options", OPTIONS)
def test_options_of_the_client_change_nothing(
    backend: Backend, proxy: FaultProxy, key_prefix: str, coordinators: Coordinators, options: str
) -> None:
    client = backend.client_through(proxy, **OPTIONS[options])
    works_as_promised(coordinators(client, key_prefix), proxy)


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
def test_a_pool_of_one_connection_holds_nobody_up(
    proxy: FaultProxy, key_prefix: str, coordinators: Coordinators
) -> None:
    pool = redis.BlockingConnectionPool.from_url(proxy.url, max_connections=1, timeout=0.1)
    coordinator = coordinators(redis.Redis(connection_pool=pool), key_prefix)
    works_as_promised(coordinator, proxy)

    assert not in_threads(10, lambda: coordinator.receive(OTHER, wait=0.3))


@pytest.mark.backend("valkey")
def test_a_client_that_its_owner_closed_still_tells_where_the_server_is(
    backend: Backend, proxy: FaultProxy, key_prefix: str, coordinators: Coordinators
) -> None:
    client = backend.client_through(proxy)
    coordinator = coordinators(client, key_prefix)
    client.close()
    assert coordinator.receive(INBOX) is None


@pytest.mark.guarantee("2.13")
@pytest.mark.backend("valkey")
def test_an_open_breaker_ends_a_wait(proxy: FaultProxy, through_proxy: Coordinators) -> None:
    coordinator = through_proxy(call_timeout=0.3)
    coordinator.stats(INBOX)
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            coordinator.receive(INBOX, wait=30.0)
        except CoordinatorUnavailableError as error:
            raised.append(error)

    with beside("waiter", wait):
        proxy.wait_for("BZPOPMIN")
        proxy.refuse()
        open_breaker(coordinator)
    assert raised
