"""4.5: who gets no reply in time is told what had become of the request."""

import pytest

from tests.support.backends import Backend
from tests.support.marks import ALL, ONE_BACKEND
from tests.support.waiting import eventually
from tests.workers.conftest import Coordinators
from tests.workers.given import ASKER, LONG, OWN, Gate, Payload, Scripted, Serve
from tta_agent_coordination import (
    FailureType,
    RedisMessageCoordinator,
    RejectMessage,
    RequestTimeoutError,
)
from tta_agent_coordination.coordinator import requests
from tta_agent_coordination.coordinator.requests import Asking

pytestmark = pytest.mark.guarantee("4.5")


Coordinator = RedisMessageCoordinator


def sent(coordinator: Coordinator) -> Asking:
    """A request that was sent, and for whose end the test does not have to wait."""
    asking = coordinator.internals.steps.asking(ASKER, OWN, {"none": 1}, timeout=LONG)
    asking.send()
    return asking


def time_is_up(asking: Asking) -> RequestTimeoutError:
    asking.take_back()
    return asking.timed_out()


def fail(_: Payload) -> Payload:
    raise KeyError("none")


def fails_before_the_time_is_up(coordinator: Coordinator) -> RequestTimeoutError:
    """Ask an agent that fails, with more time until it had enough to fail."""
    for timeout in (0.5, 2.0, 8.0):
        with pytest.raises(RequestTimeoutError) as raised:
            coordinator.request(ASKER, OWN, {"none": 1}, timeout=timeout)
        if raised.value.attempts:
            return raised.value
    raise AssertionError("nobody took the request")


@ALL
def test_a_handler_that_failed_and_is_to_try_again_is_no_riddle(
    coordinator: Coordinator, serve: Serve
) -> None:
    # given an agent whose first retry comes after the time is up
    coordinator.configure(backoff_base=30.0)
    serve(Scripted(fail), coordinator)
    error = fails_before_the_time_is_up(coordinator)
    assert (error.attempts, error.error_type) == (1, "KeyError")
    assert error.last_error == "KeyError: 'none'"
    assert "it failed and was to be tried again (attempts: 1, last error: KeyError" in str(error)
    assert coordinator.internals.held(OWN) == 0


@ALL
def test_a_request_that_nobody_took_has_no_error_to_tell_of(coordinator: Coordinator) -> None:
    error = time_is_up(sent(coordinator))
    assert (error.attempts, error.error_type, error.last_error) == (0, "", None)
    assert "nobody took it" in str(error)
    assert coordinator.receive(OWN) is None


@ALL
def test_a_request_of_which_ctrl_c_ends_the_wait_is_taken_back(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_pending: object, _timeout: float) -> object:
        assert coordinator.internals.held(OWN) == 1
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(requests.Future, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            coordinator.request(ASKER, OWN, {}, timeout=LONG)
    assert coordinator.internals.held(OWN) == 0


@ALL
def test_a_request_that_is_tried_again_just_now_tells_of_the_try_before(
    coordinator: Coordinator, serve: Serve
) -> None:
    # given a handler that fails once, and takes long the second time
    gate = Gate()
    tries = iter([fail, gate])

    def act(payload: Payload) -> Payload:
        return next(tries)(payload)

    serve(Scripted(act), coordinator)
    asking = sent(coordinator)
    gate.wait_for(1)
    error = time_is_up(asking)
    assert (error.attempts, error.last_error) == (2, "KeyError: 'none'")
    assert "its agent is at work, or died (attempts: 2, last error" in str(error)
    gate.open.set()


@ALL
def test_a_request_that_came_back_without_an_error_was_tried_all_the_same(
    coordinator: Coordinator,
) -> None:
    asking = sent(coordinator)
    received = coordinator.receive(OWN)
    assert received is not None
    coordinator.nack(OWN, received.token, delay=60.0)
    error = time_is_up(asking)
    assert (error.attempts, error.error_type, error.last_error) == (1, "", None)
    assert "it was not finished and was to be tried again (attempts: 1)" in str(error)


@ALL
def test_a_request_that_died_says_of_what(coordinator: Coordinator, serve: Serve) -> None:
    def reject(_: Payload) -> Payload:
        raise RejectMessage("never")

    worker = serve(Scripted(reject), coordinator)
    asking = sent(coordinator)
    eventually(lambda: coordinator.stats(OWN).dead)
    worker.stop()
    error = time_is_up(asking)
    assert (error.attempts, error.last_error) == (1, "RejectMessage: never")
    assert "it is among the dead letters as permanent (attempts: 1, last error" in str(error)


@ALL
def test_a_request_that_was_finished_without_a_reply_says_so(coordinator: Coordinator) -> None:
    asking = sent(coordinator)
    received = coordinator.receive(OWN)
    assert received is not None
    coordinator.ack(OWN, received.token)
    error = time_is_up(asking)
    assert error.attempts == 0
    assert "it was finished, and whoever did so sent no reply in time" in str(error)


@ONE_BACKEND
@pytest.mark.parametrize(
    ("given", "error_type"),
    [("out of paper", ""), ("OSError: out of paper", "OSError"), ("at 9: out of paper", "")],
)
def test_the_class_of_an_error_is_told_where_it_is_one(
    coordinator: Coordinator, given: str, error_type: str
) -> None:
    asking = sent(coordinator)
    received = coordinator.receive(OWN)
    assert received is not None
    coordinator.nack(OWN, received.token, FailureType.TRANSIENT, given, delay=60.0)
    error = time_is_up(asking)
    assert (error.error_type, error.last_error) == (error_type, given)


@ONE_BACKEND
@pytest.mark.parametrize("tried", [True, False])
def test_what_is_known_survives_a_lost_reply(
    backend: Backend, proxy, key_prefix: str, coordinators: Coordinators, tried: bool
) -> None:
    near = coordinators(backend.client(), key_prefix)
    far = coordinators(backend.client_through(proxy), key_prefix)
    asking = sent(far)
    if tried:
        received = near.receive(OWN)
        assert received is not None
        near.nack(OWN, received.token, FailureType.TRANSIENT, "OSError: full", delay=60.0)
    fault = proxy.drop_reply_of("EVALSHA")
    error = time_is_up(asking)
    assert fault.used_up
    assert error.attempts == int(tried)
    assert ("OSError: full" if tried else "nobody took it") in str(error)


@ONE_BACKEND
def test_where_redis_cannot_be_asked_nothing_is_claimed(
    backend: Backend, proxy, key_prefix: str, coordinators: Coordinators
) -> None:
    far = coordinators(backend.client_through(proxy), key_prefix, call_timeout=0.3)
    asking = sent(far)
    proxy.refuse()
    error = time_is_up(asking)
    assert (error.attempts, error.last_error) == (0, None)
    assert "Redis could not be asked" in str(error)
