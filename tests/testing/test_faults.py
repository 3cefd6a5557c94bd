"""Faults on demand: what is tested with them is the library's own gate."""

import asyncio
import threading
import time
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.waiting import eventually
from tests.testing.given import WORKER, Holding, Noting, send, stored
from tta_agent_coordination import (
    Agent,
    CoordinatorUnavailableError,
    Liveness,
    RedisMessageCoordinator,
)
from tta_agent_coordination.testing import Sandbox, expire_lease, inbox_of, run_until_idle
from tta_agent_coordination.testing.trouble import commands_in


def test_a_lost_reply_is_repeated_and_changes_nothing(sandbox: Sandbox) -> None:
    fault = sandbox.faults.lose_reply("send", times=2)

    result = send(sandbox)

    assert (fault.hits, fault.left) == (2, 0)
    assert stored(result)
    assert len(inbox_of(sandbox.coordinator, WORKER).ready) == 1


def test_a_lost_reply_to_a_receive_brings_the_same_delivery(sandbox: Sandbox) -> None:
    send(sandbox)
    fault = sandbox.faults.lose_reply("claim")

    received = sandbox.coordinator.receive(WORKER)

    assert fault.hits == 1
    assert received is not None
    assert received.queue_message.delivery_attempts == 1


def test_a_refused_call_is_repeated(sandbox: Sandbox) -> None:
    fault = sandbox.faults.refuse(times=3)

    assert stored(send(sandbox))
    assert fault.hits == 3


def test_a_refused_command_does_not_arrive(sandbox: Sandbox) -> None:
    sandbox.faults.refuse("send", times=1000)

    with pytest.raises(CoordinatorUnavailableError, match="a fault of the test: the command was"):
        send(sandbox)

    with RedisMessageCoordinator(sandbox.redis) as other:  # its breaker has seen nothing
        assert inbox_of(other, WORKER).unfinished == ()


def test_a_slow_reply_comes_late(sandbox: Sandbox) -> None:
    fault = sandbox.faults.slow_reply(0.05, "send")
    began = time.monotonic()

    assert stored(send(sandbox))

    assert time.monotonic() - began >= 0.05
    assert fault.hits == 1


def test_a_reply_that_is_too_late_is_a_time_out_and_the_call_is_repeated(sandbox: Sandbox) -> None:
    fault = sandbox.faults.slow_reply(60.0, "send")

    assert stored(send(sandbox))
    assert fault.hits == 1


def test_a_slow_reply_to_a_client_of_the_users_own_has_no_deadline(sandbox: Sandbox) -> None:
    began = time.monotonic()
    sandbox.faults.slow_reply(0.05, "GET")

    assert sandbox.redis.get("nothing") is None

    assert time.monotonic() - began >= 0.05


def test_a_fault_befalls_only_what_is_meant(sandbox: Sandbox) -> None:
    fault = sandbox.faults.lose_reply("ack", "HGETALL")

    send(sandbox)
    received = sandbox.coordinator.receive(WORKER)
    assert fault.hits == 0

    assert received is not None
    assert sandbox.coordinator.ack(WORKER, received.token)
    assert fault.hits == 1


def test_a_fault_that_names_nothing_passes_over_waits(sandbox: Sandbox) -> None:
    fault = sandbox.faults.lose_reply("HGETALL")
    meant = sandbox.faults.lose_reply()

    assert sandbox.coordinator.receive(WORKER, wait=0.01) is None

    assert (fault.hits, meant.hits) == (0, 1)


def test_other_scripts_are_known_by_the_name_of_their_command(sandbox: Sandbox) -> None:
    fault = sandbox.faults.refuse("EVALSHA")
    own = sandbox.client(retry=Retry(NoBackoff(), 0)).register_script("return 1")

    with pytest.raises(redis.ConnectionError, match="the command was refused"):
        own()

    assert fault.hits == 1


def test_a_fault_can_be_taken_back(sandbox: Sandbox) -> None:
    fault = sandbox.faults.refuse(times=1000)

    sandbox.faults.clear()

    assert stored(send(sandbox))
    assert (fault.hits, fault.left) == (0, 0)


def test_a_move_that_does_not_exist_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match=r"no move 'sent'; there are ack, .*, send,"):
        sandbox.faults.lose_reply("sent")
    with pytest.raises(ValueError, match="times"):
        sandbox.faults.lose_reply(times=0)


def test_a_server_that_is_down_keeps_what_it_has(sandbox: Sandbox) -> None:
    send(sandbox)
    with sandbox.faults.server_down():
        assert sandbox.faults.is_down
        with pytest.raises(CoordinatorUnavailableError, match="the server is down"):
            send(sandbox)

    assert not sandbox.faults.is_down
    with RedisMessageCoordinator(sandbox.redis) as other:  # its breaker has seen nothing
        assert len(inbox_of(other, WORKER).ready) == 1


def _is_back(sandbox: Sandbox) -> bool:
    try:
        sandbox.coordinator.stats(WORKER)
    except CoordinatorUnavailableError:
        return False
    return True


def test_who_waits_notices_that_the_server_is_down_and_goes_on_afterwards(
    sandbox: Sandbox,
) -> None:
    agent = Noting()
    worker = sandbox.worker(agent, threads=1)
    worker.start()
    eventually(lambda: any(sock._blocked for sock in sandbox._server.sockets))

    with sandbox.faults.server_down():
        eventually(lambda: worker.health().last_error is not None)

    eventually(lambda: _is_back(sandbox))
    send(sandbox, n=1)
    eventually(lambda: agent.got == [{"n": 1}], timeout=10.0)


def test_a_lease_can_be_ended(sandbox: Sandbox) -> None:
    coordinator = sandbox.coordinator
    send(sandbox)
    received = coordinator.receive(WORKER, visibility_timeout=300.0)
    assert received is not None

    expire_lease(coordinator, received)
    again = coordinator.receive(WORKER, visibility_timeout=300.0)

    assert again is not None
    assert again.queue_message.delivery_attempts == 2
    with pytest.raises(ValueError, match=r"in worker is not on this lease any more: stale"):
        expire_lease(coordinator, received, WORKER)


def test_an_abandoned_worker_settles_nothing(sandbox: Sandbox) -> None:
    agent = Holding()
    worker = sandbox.worker(agent, sandbox.registry, threads=1)
    worker.start()
    send(sandbox, n=1)
    send(sandbox, n=2)
    assert agent.began.wait(10.0)
    before = set(threading.enumerate())

    threading.Timer(0.05, agent.let_go.set).start()
    sandbox.abandon(worker)

    assert not [thread for thread in before if thread.is_alive() and "worker" in thread.name]
    contents = inbox_of(sandbox.coordinator, WORKER)
    assert [message.payload for message in contents.leased] == [{"n": 1}]
    assert [message.payload for message in contents.ready] == [{"n": 2}]
    record = sandbox.registry.get(WORKER)
    assert record is not None
    sandbox.clock.advance(61)
    record = sandbox.registry.get(WORKER)
    assert record is not None
    assert record.liveness is Liveness.DEAD


def test_what_an_abandoned_worker_held_comes_back(sandbox: Sandbox) -> None:
    killed = sandbox.worker(Holding(), threads=1)
    agent = killed._agents[0]
    killed.start()
    send(sandbox, n=1)
    assert agent.began.wait(10.0)
    agent.let_go.set()
    sandbox.abandon(killed)
    heir = Noting()

    if not inbox_of(sandbox.coordinator, WORKER).unfinished:
        pytest.fail("it was acknowledged after all")
    sandbox.clock.advance(31)
    done = run_until_idle(sandbox.worker(heir))

    assert done.handled == 1
    assert heir.got == [{"n": 1}]


class Sleeping(Agent):
    """Waits, on the event loop, for what never comes."""

    def __init__(self) -> None:
        super().__init__(WORKER)
        self.began = threading.Event()

    async def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        self.began.set()
        await asyncio.Event().wait()
        return payload


def test_a_coroutine_of_an_abandoned_worker_ends_and_nothing_of_it_arrives(
    sandbox: Sandbox,
) -> None:
    agent = Sleeping()
    worker = sandbox.worker(agent, threads=1)
    worker.start()
    send(sandbox, n=1)
    assert agent.began.wait(10.0)

    sandbox.abandon(worker)

    assert [message.payload for message in inbox_of(sandbox.coordinator, WORKER).leased] == [
        {"n": 1}
    ]


def test_a_worker_can_be_abandoned_twice_before_it_began_and_started_again(
    sandbox: Sandbox,
) -> None:
    agent = Noting()
    worker = sandbox.worker(agent, threads=1)
    sandbox.abandon(worker)
    worker.start()
    eventually(lambda: any(sock._blocked for sock in sandbox._server.sockets))
    sandbox.abandon(worker)
    sandbox.abandon(worker)

    send(sandbox, n=1)
    assert run_until_idle(worker).handled == 1
    assert agent.got == [{"n": 1}]


def test_a_packet_is_read_into_its_commands() -> None:
    packet = b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n*1\r\n$4\r\nPING\r\n"

    assert list(commands_in(packet)) == [[b"GET", b"a\r\nb"], [b"PING"]]


def test_an_agent_can_be_left_to_its_registration(sandbox: Sandbox) -> None:
    sandbox.registry.register(Noting())

    sandbox.registry.internals.disown(WORKER, None)
    sandbox.registry.internals.disown(WORKER, None)

    assert not sandbox.registry.heartbeat(WORKER)
    assert sandbox.registry.get(WORKER) is not None


def test_a_wait_that_is_interrupted_ends_with_an_error(sandbox: Sandbox) -> None:
    errors: list[Exception] = []

    def wait() -> None:
        try:
            sandbox.redis.bzpopmin("nothing", 600)
        except redis.RedisError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait, name="waiting")
    waiting.start()

    def is_over() -> bool:
        sandbox._server.interrupt()  # it may not have begun yet
        return not waiting.is_alive()

    eventually(is_over)
    waiting.join()
    assert len(errors) == 1
