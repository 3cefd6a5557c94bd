"""``receive_many`` takes as many as are asked for, in steps that hold no server up."""

import signal
import threading
from collections.abc import Callable

import pytest

from tests.contract.conftest import Make
from tests.contract.given import LONG, SENDER, WORKER, drain, message
from tests.support.backends import Backend
from tests.support.waiting import eventually
from tta_agent_coordination import RedisMessageCoordinator
from tta_agent_coordination.coordinator import inbox, records
from tta_agent_coordination.proxy import Command, FaultProxy

pytestmark = pytest.mark.guarantee("2.4")


@pytest.mark.backend("valkey")
def test_more_than_one_step_takes_are_received_at_once(make: Make) -> None:
    coordinator = make()
    coordinator.send_many(SENDER, [message(number) for number in range(1200)])

    received = coordinator.receive_many(WORKER, 2000, LONG)

    assert [one.message.payload for one in received] == [
        message(number).payload for number in range(1200)
    ]


def test_steps_end_when_all_are_received(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "MOST_A_CLAIM", 2)
    coordinator = make()
    coordinator.send_many(SENDER, [message(number) for number in range(4)])

    assert len(coordinator.receive_many(WORKER, 9, LONG)) == 4


@pytest.mark.backend("valkey")
def test_what_the_first_steps_brought_is_kept_when_a_later_one_fails(
    backend: Backend, proxy: FaultProxy, key_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "MOST_A_CLAIM", 1)
    client = backend.client_through(proxy)
    with RedisMessageCoordinator(client, key_prefix, call_timeout=0.4) as coordinator:
        coordinator.send_many(SENDER, [message(1), message(2)])
        claims = 0

        def later_claims(_command: object) -> bool:
            nonlocal claims
            claims += 1
            return claims > 1

        proxy.drop_reply_of(later_claims, times=1000)
        assert len(coordinator.receive_many(WORKER, 2, LONG)) == 1
        proxy.heal()


def nth_claim(number: int, then: Callable[[], object]) -> Callable[[Command], bool]:
    """Choose one script by its number, and do something before the server gets it."""
    claims = 0

    def chosen(command: Command) -> bool:
        nonlocal claims
        claims += command.name == "EVALSHA"
        if claims != number:
            return False
        then()
        return True

    return chosen


def press_ctrl_c() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.mark.backend("valkey")
@pytest.mark.parametrize("step", [1, 2, 3])
def test_ctrl_c_between_two_steps_leaves_nothing_to_its_lease(
    backend: Backend,
    proxy: FaultProxy,
    key_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
) -> None:
    monkeypatch.setattr(inbox, "MOST_A_CLAIM", 2)
    client = backend.client_through(proxy)
    with (
        RedisMessageCoordinator(client, key_prefix) as coordinator,
        RedisMessageCoordinator(backend.client(), key_prefix) as other,
    ):
        other.send_many(SENDER, [message(number) for number in range(6)])
        coordinator.stats(WORKER)  # connected, and the scripts are known
        assert other.receive_many(WORKER, 1, 0.0)

        interrupted = proxy.drop_reply_of(nth_claim(step, press_ctrl_c))
        with pytest.raises(KeyboardInterrupt):
            coordinator.receive_many(WORKER, 6, LONG)
        eventually(lambda: interrupted.used_up)

        # what came is there for all again, and what did not come for the next receive here
        eventually(lambda: other.stats(WORKER).leased == 2)
        first = coordinator.receive_many(WORKER, 2, LONG)
        assert first[0].message.payload["n"] == 2 * step - 2
        rest = other.receive_many(WORKER, 10, LONG)
        assert len({one.message.message_id for one in (*first, *rest)}) == 6
        attempts = [one.queue_message.delivery_attempts for one in (*first, *rest)]
        assert sorted(attempts) == [1, 1, 1, 1, 1, 2]


@pytest.mark.backend("valkey")
def test_ctrl_c_while_an_answer_is_read_leaves_it_to_the_next_receive(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = make()
    coordinator.send_many(SENDER, [message(number) for number in range(2)])
    really = records.Delivery.open

    def interrupted(_delivery: records.Delivery) -> object:
        monkeypatch.setattr(records.Delivery, "open", really)
        raise KeyboardInterrupt

    monkeypatch.setattr(records.Delivery, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        coordinator.receive_many(WORKER, 2, LONG)

    assert drain(coordinator) == [0, 1]
