"""A copy of a claim that the network held back hands nothing out when nobody waits for it."""

from typing import Any

import pytest

from tests.contract.given import LONG, WORKER, send, take
from tests.faults.conftest import Coordinators
from tests.support.backends import Backend
from tests.support.waiting import eventually
from tta_agent_coordination import AgentId, RedisMessageCoordinator, policy
from tta_agent_coordination.coordinator.clocks import ServerClocks
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.proxy import Command, FaultProxy
from tta_agent_coordination.transport import scripts
from tta_agent_coordination.transport.deadline import until
from tta_agent_coordination.transport.scripts import Script

pytestmark = [pytest.mark.guarantee("2.9"), pytest.mark.backend("valkey", "redis62")]

CALL_TIMEOUT, ATTEMPTS = 9.0, 30
"""So nobody waits for an answer for more than 0.3 s, and a slow machine has time all the same."""
YEAR_2001 = 10**15
"""Microseconds: an idea of the server's clock that cannot be right."""


@pytest.fixture(autouse=True)
def short_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "ATTEMPTS_IN_A_CALL", ATTEMPTS)


def is_call_of(command: Command, script: Script) -> bool:
    return command.name == "EVALSHA" and command.args[0].decode() == script.sha


def last_call_of(proxy: FaultProxy, script: Script) -> Command:
    return [command for command in proxy.commands if is_call_of(command, script)][-1]


def argument(command: Command, script: Script, name: str) -> bytes:
    return command.args[2 + len(script.keys) + script.arguments.index(name)]


def wait_until_late(backend: Backend, copy: Command, script: Script) -> None:
    """Return when the server's clock is beyond what the sender would have waited for."""
    answer_by = int(argument(copy, script, "answer_by"))
    assert answer_by > YEAR_2001
    admin = backend.client()

    def late() -> bool:
        seconds, micros = admin.time()
        return seconds * 1_000_000 + micros > answer_by

    eventually(late)


def arrive(backend: Backend, copy: Command) -> Any:
    """Let the server get the copy, from a connection of which nobody reads the answer."""
    return backend.client().execute_command(copy.name, *copy.args)


def assert_nobody_lost_anything(coordinator: RedisMessageCoordinator, *numbers: int) -> None:
    """All that there is can be received now, and no attempt was counted."""
    assert coordinator.stats(WORKER).leased == 0
    found = coordinator.receive_many(WORKER, 10, LONG)
    assert [one.message.payload["n"] for one in found] == list(numbers)
    assert {one.queue_message.delivery_attempts for one in found} == {1}


def test_one_that_comes_after_the_ack_hands_nothing_out(
    backend: Backend, proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy(call_timeout=CALL_TIMEOUT)
    send(coordinator, 1, 2, 3)
    for _ in range(2):  # at the first answer the time at the server becomes known
        assert coordinator.ack(WORKER, take(coordinator).token)
    copy = last_call_of(proxy, scripts.CLAIM)

    wait_until_late(backend, copy, scripts.CLAIM)
    arrive(backend, copy)

    assert_nobody_lost_anything(coordinator, 3)


def test_one_that_was_answered_with_nothing_hands_nothing_out_either(
    backend: Backend, proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy(call_timeout=CALL_TIMEOUT)
    for _ in range(2):
        assert coordinator.receive(WORKER) is None
    copy = last_call_of(proxy, scripts.CLAIM)
    send(coordinator, 1)

    wait_until_late(backend, copy, scripts.CLAIM)
    arrive(backend, copy)

    assert_nobody_lost_anything(coordinator, 1)


def test_one_of_a_worker_finishes_nothing_twice_and_hands_nothing_out(
    backend: Backend, proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy(call_timeout=CALL_TIMEOUT)
    send(coordinator, 1, 2, 3)
    [feed] = coordinator.internals.feed([WORKER])
    acks = {}
    for _ in range(2):
        found, _ = feed.exchange(acks, 1, LONG)
        acks = {WORKER: [delivery for _, delivery in found]}
    assert feed.ack(acks) == []
    copy = last_call_of(proxy, scripts.EXCHANGE)

    wait_until_late(backend, copy, scripts.EXCHANGE)
    arrive(backend, copy)

    assert_nobody_lost_anything(coordinator, 3)


def test_one_that_took_a_wake_up_before_passes_it_on(
    backend: Backend, proxy: FaultProxy, key_prefix: str, through_proxy: Coordinators
) -> None:
    """It came with a wait, which ended at once and left those who wait without a wake-up."""
    coordinator = through_proxy(call_timeout=CALL_TIMEOUT)
    for _ in range(2):
        assert coordinator.receive(WORKER) is None
    copy = last_call_of(proxy, scripts.CLAIM)
    send(coordinator, 1)
    client, wake = backend.client(), Keys(key_prefix).inbox(WORKER)["wake"]
    assert client.bzpopmin(wake, 1) is not None

    wait_until_late(backend, copy, scripts.CLAIM)
    arrive(backend, copy)

    assert client.exists(wake) == 1


def test_one_that_comes_to_an_empty_inbox_leaves_nothing_there(
    backend: Backend, proxy: FaultProxy, key_prefix: str, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy(call_timeout=CALL_TIMEOUT)
    for _ in range(2):
        assert coordinator.receive(WORKER) is None
    copy = last_call_of(proxy, scripts.CLAIM)

    wait_until_late(backend, copy, scripts.CLAIM)
    arrive(backend, copy)

    assert backend.keys(f"{key_prefix}*") == []


def test_a_wait_is_answered_for_as_long_as_it_lasts(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy(call_timeout=CALL_TIMEOUT)
    assert coordinator.receive(WORKER) is None
    proxy.forget()
    coordinator.receive(WORKER, wait=0.05)
    look, claim = [c for c in proxy.commands if is_call_of(c, scripts.CLAIM)][:2]

    ends = [int(argument(one, scripts.CLAIM, "answer_by")) for one in (look, claim)]

    assert ends[1] - ends[0] > 50_000


def test_a_copy_that_comes_while_the_message_is_on_lease_is_the_same_delivery(
    backend: Backend, proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy(call_timeout=CALL_TIMEOUT)
    assert coordinator.receive(WORKER) is None
    send(coordinator, 1, 2)
    received = take(coordinator)
    copy = last_call_of(proxy, scripts.CLAIM)

    wait_until_late(backend, copy, scripts.CLAIM)
    answer = arrive(backend, copy)

    assert answer[0] > 0
    assert coordinator.stats(WORKER).leased == 1
    assert coordinator.ack(WORKER, received.token)
    assert_nobody_lost_anything(coordinator, 2)


@pytest.mark.parametrize("wait", [0.0, 30.0])
def test_who_is_wrong_about_the_time_at_the_server_looks_again_and_knows_it(
    proxy: FaultProxy, through_proxy: Coordinators, wait: float
) -> None:
    """The server's clock was set, say, or another server took its place."""
    coordinator = through_proxy()
    send(coordinator, 1, 2)
    coordinator._inbox._clocks.note(WORKER, YEAR_2001)
    proxy.forget()

    for number in (1, 2):
        received = coordinator.receive(WORKER, LONG, wait=wait)
        assert received is not None
        assert received.message.payload == {"n": number}
        assert received.queue_message.delivery_attempts == 1

    claims = [command for command in proxy.commands if is_call_of(command, scripts.CLAIM)]
    assert len(claims) == 3
    assert coordinator.stats(WORKER).leased == 2


def test_a_claim_that_was_carried_out_is_repeated_though_the_time_is_wrong(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy()
    send(coordinator, 1, 2)

    def wrong_from_now_on(command: Command) -> bool:
        claims = is_call_of(command, scripts.CLAIM)
        if claims:
            coordinator._inbox._clocks.note(WORKER, YEAR_2001)
        return claims

    proxy.drop_reply_of(wrong_from_now_on)
    received = take(coordinator)

    assert received.message.payload == {"n": 1}
    assert coordinator.stats(WORKER).leased == 1


def test_a_worker_that_is_wrong_about_the_time_finds_the_message_next_time(
    through_proxy: Coordinators,
) -> None:
    coordinator = through_proxy()
    send(coordinator, 1)
    [feed] = coordinator.internals.feed([WORKER])
    feed.inbox._clocks.note(WORKER, YEAR_2001)

    assert feed.exchange({}, 1, LONG) == ([], [])
    found, _ = feed.exchange({}, 1, LONG)

    assert [delivery.attempts for _, delivery in found] == [1]


def test_nothing_is_refused_before_the_time_at_the_server_is_known() -> None:
    clocks = ServerClocks()
    with until(10**9):
        assert str(clocks.answer_by(WORKER)) == "0"
        clocks.note(WORKER, YEAR_2001)
        assert int(str(clocks.answer_by(WORKER))) > YEAR_2001
        clocks.forget(WORKER)
        assert str(clocks.answer_by(WORKER)) == "0"


def test_without_a_deadline_there_is_no_limit() -> None:
    clocks = ServerClocks()
    clocks.note(WORKER, YEAR_2001)
    assert str(clocks.answer_by(WORKER)) == "0"


def test_who_receives_from_ever_new_inboxes_forgets_the_times_of_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tta_agent_coordination.coordinator.clocks._MOST_REMEMBERED", 2)
    clocks = ServerClocks()
    for number in range(10):
        clocks.note(AgentId("worker", str(number)), YEAR_2001)
    assert len(clocks._offsets) <= 3
