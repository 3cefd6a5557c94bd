"""One deadline for everything that a call does."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.strikes import striking
from tests.support.waiting import SLACK
from tta_agent_coordination.transport.deadline import DeadlineSocket, remaining, until, within


@pytest.fixture
def ends() -> Iterator[tuple[DeadlineSocket, socket.socket]]:
    """A socket under test, with a time-out of ten seconds, and its peer."""
    near, far = socket.socketpair()
    with near, far:
        near.settimeout(10.0)
        yield DeadlineSocket(near), far


def soon() -> float:
    return time.monotonic() + 0.05


def test_outside_of_any_deadline_nothing_is_bounded() -> None:
    assert remaining() is None


def test_what_is_left_shrinks_to_a_millisecond_and_then_it_is_over() -> None:
    with until(time.monotonic() + 100.0):
        assert 99.0 < (remaining() or 0.0) <= 100.0
    with until(time.monotonic() + 0.0005):
        assert remaining() == 0.001
    with until(time.monotonic() - 1.0), pytest.raises(TimeoutError, match="deadline"):
        remaining()
    assert remaining() is None


def test_that_of_a_part_may_be_nearer_but_not_farther() -> None:
    now = time.monotonic()
    with until(now + 10.0):
        with within(now + 99.0):
            assert (remaining() or 99.0) <= 10.0
        with within(now + 1.0):
            assert (remaining() or 99.0) <= 1.0
        assert (remaining() or 0.0) > 9.0
    with within(now + 10.0):
        assert (remaining() or 99.0) <= 10.0


def test_a_call_of_a_signal_handler_has_its_own_and_leaves_that_of_the_call_it_interrupts() -> None:
    now = time.monotonic()
    with until(now + 10.0):
        with until(now + 99.0):
            assert (remaining() or 0.0) > 90.0
        assert 9.0 < (remaining() or 0.0) <= 10.0


@pytest.mark.guarantee("2.13")
@pytest.mark.parametrize("event", ["call", "line", "return"])
@pytest.mark.parametrize("method", [until.__enter__, until.__exit__])
@pytest.mark.parametrize("left", [-1.0, 50.0])
def test_what_ctrl_c_leaves_in_force_does_not_bound_the_next_call(
    method: Callable[..., None], event: str, left: float
) -> None:
    began = time.monotonic()
    with striking(method, event), until(began + left):
        pass

    with until(began + 100.0):
        assert 90.0 < (remaining() or 0.0) <= 100.0
    with until(began - 1.0), pytest.raises(TimeoutError):
        remaining()


@pytest.mark.parametrize("method", [until.__enter__, until.__exit__])
def test_what_ctrl_c_leaves_in_force_is_gone_after_the_next_call_when_it_has_passed(
    method: Callable[..., None],
) -> None:
    with striking(method, "return"), until(time.monotonic() - 1.0):
        pass
    with until(time.monotonic() + 1.0):
        pass
    assert remaining() is None


def test_a_deadline_is_forgotten_though_the_block_raises() -> None:
    with pytest.raises(KeyError), until(time.monotonic()):
        raise KeyError
    assert remaining() is None


def test_each_thread_has_its_own() -> None:
    seen: list[float | None] = []
    with until(time.monotonic() + 10.0):
        thread = threading.Thread(target=lambda: seen.append(remaining()), name="other")
        thread.start()
        thread.join()
    assert seen == [None]


def test_reading_ends_with_the_deadline(ends: tuple[DeadlineSocket, socket.socket]) -> None:
    near, _ = ends
    for read in (lambda: near.recv(10), lambda: near.recv_into(bytearray(10))):
        with until(soon()), pytest.raises(TimeoutError):
            read()
        with until(time.monotonic() - 1.0), pytest.raises(TimeoutError):
            read()


def test_bytes_that_trickle_in_do_not_lengthen_it(
    ends: tuple[DeadlineSocket, socket.socket],
) -> None:
    near, far = ends
    began = time.monotonic()

    def read_ten() -> None:
        for _ in range(10):
            far.sendall(b"x")
            near.recv(1)
            threading.Event().wait(0.03)

    with until(began + 0.1), pytest.raises(TimeoutError):
        read_ten()
    assert time.monotonic() - began < 0.3 + SLACK  # it ends by itself otherwise, without an error


def test_sending_ends_with_the_deadline(ends: tuple[DeadlineSocket, socket.socket]) -> None:
    near, _ = ends
    with until(soon()), pytest.raises(TimeoutError):
        near.sendall(bytes(50_000_000))


def test_a_deadline_may_be_later_than_the_time_out_of_the_socket(
    ends: tuple[DeadlineSocket, socket.socket],
) -> None:
    near, far = ends
    near.settimeout(0.02)
    sender = threading.Timer(0.1, far.sendall, [b"x"])
    sender.name = "sender"
    with until(time.monotonic() + 5.0):
        sender.start()
        assert near.recv(1) == b"x"
    sender.join()


def test_after_the_deadline_the_time_out_of_the_socket_holds_again(
    ends: tuple[DeadlineSocket, socket.socket],
) -> None:
    near, far = ends
    near.settimeout(0.3)
    with until(time.monotonic() + 0.001), pytest.raises(TimeoutError):
        near.recv(1)
    sender = threading.Timer(0.1, far.sendall, [b"x"])
    sender.name = "sender"
    sender.start()
    assert near.recv(1) == b"x"
    sender.join()


def test_a_poll_does_not_wait(ends: tuple[DeadlineSocket, socket.socket]) -> None:
    near, _ = ends
    near.settimeout(0)
    with until(time.monotonic() + 5.0), pytest.raises(BlockingIOError):
        near.recv(1)


def test_everything_else_is_the_sockets_own(ends: tuple[DeadlineSocket, socket.socket]) -> None:
    near, far = ends
    assert near.fileno() >= 0
    near.shutdown(socket.SHUT_RDWR)
    assert far.recv(1) == b""
