"""After the server lost everything, whatever is sent is listed, so that recovery finds it."""

from collections.abc import Callable

import pytest

from tests.contract.given import ONE, SENDER, WORKER, message, send, take
from tests.faults.conftest import Coordinators
from tests.support.backends import Backend
from tta_agent_coordination import (
    AgentId,
    CoordinatorUnavailableError,
    RedisMessageCoordinator,
)
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.proxy import Command, FaultProxy
from tta_agent_coordination.transport import scripts

pytestmark = pytest.mark.guarantee("2.4")

Send = Callable[[RedisMessageCoordinator, int], object]

WAYS: dict[str, Send] = {
    "send_message": lambda c, n: c.send_message(SENDER, WORKER, message(n)),
    "send_message with a delay": lambda c, n: c.send_message(SENDER, WORKER, message(n), delay=60),
    "send_many": lambda c, n: c.send_many(SENDER, [message(n), message(n + 1)]),
    "broadcast_message": lambda c, n: c.broadcast_message(SENDER, message(n), [WORKER, ONE]),
}


def listed(backend: Backend, key_prefix: str) -> set[str]:
    return {name.decode() for name in backend.client().zrange(Keys(key_prefix).inboxes, 0, -1)}


def is_note(command: Command) -> bool:
    return command.name == "EVALSHA" and command.args[0].decode() == scripts.TOUCH.sha


def test_each_inbox_is_noted_once_however_many_a_sender_has(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    sender = through_proxy()
    for _ in range(3):
        for inbox in (WORKER, ONE):
            send(sender, 1, to=inbox)

    assert len([command for command in proxy.commands if is_note(command)]) == 2


@pytest.mark.parametrize("way", WAYS)
def test_what_is_sent_next_is_listed(
    backend: Backend, key_prefix: str, coordinators: Coordinators, way: str
) -> None:
    sender = coordinators(backend.client(), key_prefix)
    WAYS[way](sender, 0)
    backend.delete_keys(f"{key_prefix}*")

    WAYS[way](sender, 10)

    asked = {str(WORKER), str(ONE)} if way == "broadcast_message" else {str(WORKER)}
    assert listed(backend, key_prefix) == asked


@pytest.mark.parametrize("way", WAYS)
def test_it_is_listed_though_the_reply_to_the_send_was_lost(
    backend: Backend, key_prefix: str, proxy: FaultProxy, through_proxy: Coordinators, way: str
) -> None:
    sender = through_proxy()
    WAYS[way](sender, 0)
    backend.delete_keys(f"{key_prefix}*")

    lost = proxy.drop_reply_of("EVALSHA")
    WAYS[way](sender, 10)

    assert lost.used_up
    assert str(WORKER) in listed(backend, key_prefix)


@pytest.mark.backend("valkey")
@pytest.mark.parametrize("way", ["send_message", "send_many"])
def test_a_send_that_could_not_list_its_inbox_says_so_and_lists_it_when_repeated(
    backend: Backend, key_prefix: str, proxy: FaultProxy, through_proxy: Coordinators, way: str
) -> None:
    sender = through_proxy(call_timeout=0.4)
    WAYS[way](sender, 0)
    backend.delete_keys(f"{key_prefix}*")

    proxy.lose_request(is_note, times=1000)
    with pytest.raises(CoordinatorUnavailableError):
        WAYS[way](sender, 10)
    assert listed(backend, key_prefix) == set()
    proxy.heal()

    with through_proxy() as other:  # as the same process would, once its breaker is closed
        other._directory._noted.update(sender._directory._noted)
        WAYS[way](other, 10)
    assert listed(backend, key_prefix) == {str(WORKER)}


@pytest.mark.backend("valkey")
def test_a_send_to_an_inbox_that_was_emptied_a_moment_ago_takes_one_round_trip(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy()
    send(coordinator, 1)
    assert coordinator.ack(WORKER, take(coordinator).token)
    proxy.forget()

    send(coordinator, 9)
    coordinator.send_message(SENDER, WORKER, message(10))
    send(coordinator, 11, 12)

    assert not [command for command in proxy.commands if is_note(command)]
    assert len(proxy.commands) == 3


@pytest.mark.backend("valkey")
def test_the_first_send_to_an_inbox_lists_it_once(
    proxy: FaultProxy, through_proxy: Coordinators
) -> None:
    coordinator = through_proxy()
    send(coordinator, 1, to=AgentId("worker", "new"))
    assert len([command for command in proxy.commands if is_note(command)]) == 1
