"""``receive_many`` takes as many as are asked for, in steps that hold no server up."""

import pytest

from tests.contract.conftest import Make
from tests.contract.given import LONG, SENDER, WORKER, message
from tests.support.backends import Backend
from tta_agent_coordination import RedisMessageCoordinator
from tta_agent_coordination.coordinator import inbox
from tta_agent_coordination.proxy import FaultProxy

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
