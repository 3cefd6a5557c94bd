"""Every reply of every call is lost once, and nothing comes of it.

For each call the commands that it issues are counted, and then it is made as often again, each
time with another of them failing.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest

from tests.faults.calls import CALLS, INBOX, INBOXES, LONG, SENDER, Call, Stage, message
from tests.support.backends import Backend
from tests.support.waiting import eventually
from tta_agent_coordination import (
    CoordinatorUnavailableError,
    DeadLetter,
    InboxStats,
    LeaseOutcome,
    ReceivedMessage,
    RedisMessageCoordinator,
)
from tta_agent_coordination.errors import CoordinatorCircuitOpenError
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.proxy import Fault, FaultProxy

Inflict = Callable[[FaultProxy, int], Fault]

FAULTS: dict[str, Inflict] = {
    "reply-lost": lambda proxy, n: proxy.drop_reply_of(n),
    "reset-in-mid-reply": lambda proxy, n: proxy.reset_mid_reply(n),
    "request-lost": lambda proxy, n: proxy.lose_request(n),
}

SOON = 2.0
"""Seconds within which a call with one fault is over: far less than a lease."""


def describe(result: Any) -> Any:
    """Return what of a result does not differ from run to run."""
    if isinstance(result, ReceivedMessage):
        held = result.queue_message
        return (result.message.message_id, held.delivery_attempts, held.last_error)
    if isinstance(result, DeadLetter):
        return (result.message_id, result.reason, describe_held(result))
    if isinstance(result, InboxStats):
        return (dict(result.ready), result.delayed, result.leased, result.dead)
    if isinstance(result, LeaseOutcome):
        return bool(result)  # DONE, or ALREADY_DONE
    if isinstance(result, list):
        return [describe(item) for item in result]
    return result


def describe_held(letter: DeadLetter) -> Any:
    held = letter.queue_message
    return held and (held.message.payload, held.delivery_attempts, held.last_error)


class Theatre:
    """Makes calls, each under a prefix of its own, before the same server."""

    def __init__(self, backend: Backend, proxy: FaultProxy, key_prefix: str) -> None:
        self.proxy = proxy
        self._through = backend.client_through(proxy)
        self._direct = backend.client()
        self._prefixes = (f"{key_prefix}-{number}" for number in count())

    def play(self, call: Call, inflict: Callable[[FaultProxy], Fault] | None = None) -> Any:
        """Make a call, with a fault or without; return its result and all that is left of it."""
        prefix = next(self._prefixes)
        with (
            RedisMessageCoordinator(self._direct, prefix, **call.options) as helper,
            RedisMessageCoordinator(self._through, prefix, **call.options) as coordinator,
        ):
            stage = Stage(coordinator, helper, self.proxy, call.arrange(helper))
            self.proxy.forget()
            fault = inflict and inflict(self.proxy)
            began = time.monotonic()
            result = call.act(stage)
            assert time.monotonic() - began < SOON
            self.proxy.heal()
            assert not (fault and self._steady(call)) or fault.used_up, "no command met it"
            left = self.state(helper, prefix)
            settle(helper, result)
        return describe(result), left

    def _steady(self, call: Call) -> bool:
        # Each node of a cluster learns the scripts when a key of its own is first used.
        return call.steady and len(self.proxy.ports) == 1

    def play_in_vain(self, call: Call) -> tuple[str, Any]:
        """Make a call that gets no reply at all, then again; return what is left of it."""
        prefix = next(self._prefixes)
        options = {"call_timeout": 0.3, **call.options}
        with RedisMessageCoordinator(self._direct, prefix, **call.options) as helper:
            props = call.arrange(helper)
            self.proxy.drop_reply_of(lambda command: not command.opens_connection, times=10**6)
            with RedisMessageCoordinator(self._through, prefix, **options) as coordinator:
                began = time.monotonic()
                with pytest.raises(CoordinatorUnavailableError):
                    call.act(Stage(coordinator, helper, self.proxy, props))
                assert time.monotonic() - began < 0.3 + SOON
            self.proxy.heal()
            with RedisMessageCoordinator(self._through, prefix, **call.options) as coordinator:
                call.act(Stage(coordinator, helper, self.proxy, props))
            return self.state(helper, prefix)

    def state(self, helper: RedisMessageCoordinator, prefix: str) -> Any:
        """Return all that a prefix holds."""
        subscriptions = self._direct.hkeys(Keys(prefix).subscriptions)
        inboxes = [(helper.stats(inbox), helper.dead_letters(inbox)) for inbox in INBOXES]
        return sorted(subscriptions), [
            (describe(stats), sorted(describe(dead))) for stats, dead in inboxes
        ]


def settle(helper: RedisMessageCoordinator, result: Any) -> None:
    """What was handed out is held by those tokens, and by no others."""
    received = result if isinstance(result, list) else [result]
    tokens = [got.token for got in received if isinstance(got, ReceivedMessage)]
    if tokens:
        assert helper.stats(INBOX).leased == len(tokens)
        assert helper.ack_many(INBOX, tokens) == [LeaseOutcome.DONE] * len(tokens)
        assert helper.stats(INBOX).leased == 0


@pytest.fixture
def theatre(backend: Backend, proxy: FaultProxy, key_prefix: str) -> Theatre:
    return Theatre(backend, proxy, key_prefix)


def fail_each_command(theatre: Theatre, call: Call, fault: str) -> None:
    theatre.play(call)  # the server knows the scripts from now on
    expected = theatre.play(call)
    commands = theatre.proxy.commands
    for number in range(1, len(commands) + 1):
        outcome = theatre.play(call, lambda proxy, n=number: FAULTS[fault](proxy, n))
        assert outcome == expected, f"{fault} of command {number}, {commands[number - 1]}"


@pytest.mark.guarantee("2.9")
@pytest.mark.backend("valkey")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_whichever_command_of_a_call_fails_nothing_comes_of_it(
    theatre: Theatre, call: Call, fault: str
) -> None:
    fail_each_command(theatre, call, fault)


@pytest.mark.guarantee("2.9")
@pytest.mark.backend("redis62", "cluster")
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_no_lost_reply_changes_a_call_on_other_servers(theatre: Theatre, call: Call) -> None:
    fail_each_command(theatre, call, "reply-lost")


WITHOUT_EFFECT = {"receive", "receive_many", "receive-with-wait", "receive-with-wait-until-due"}
"""Calls whose second round has another token: the test below is for them."""


@pytest.mark.guarantee("2.9")
@pytest.mark.backend("valkey")
@pytest.mark.parametrize(
    "call", [call for call in CALLS if call.name not in WITHOUT_EFFECT], ids=str
)
def test_a_call_that_never_gets_a_reply_can_be_repeated(theatre: Theatre, call: Call) -> None:
    theatre.play(call)
    _, expected = theatre.play(call)

    assert theatre.play_in_vain(call) == expected


def receive_again(coordinator: RedisMessageCoordinator, most: int) -> Sequence[ReceivedMessage]:
    """Receive as soon as the breaker lets a call through."""
    pause = threading.Event()
    while True:
        try:
            return coordinator.receive_many(INBOX, most, LONG)
        except CoordinatorCircuitOpenError as error:
            pause.wait(error.retry_after)


@pytest.mark.guarantee("2.9")
@pytest.mark.backend("valkey", "redis62")
@pytest.mark.parametrize(("most", "then"), [(1, 1), (3, 3), (3, 1), (1, 3)])
def test_a_receive_that_never_got_a_reply_is_answered_by_the_next(
    backend: Backend, proxy: FaultProxy, key_prefix: str, most: int, then: int
) -> None:
    # given a receive that was carried out, whose every reply was lost
    client = backend.client_through(proxy)
    with RedisMessageCoordinator(client, key_prefix, call_timeout=0.3) as coordinator:
        coordinator.send_many(SENDER, [message(number) for number in range(most + 1)])
        proxy.forget()
        proxy.drop_reply_of("EVALSHA", times=10**6)
        began = time.monotonic()
        with pytest.raises(CoordinatorUnavailableError):
            coordinator.receive_many(INBOX, most, LONG)
        assert time.monotonic() - began < 0.3 + SOON
        claims = proxy.commands
        proxy.heal()

        # when the next is made, for as many or for another number
        received = receive_again(coordinator, then)

        # then it is the very same delivery, of the first message at least
        assert len({claim.args for claim in claims}) == 1
        assert received[0].token.partition(":")[0].encode() in claims[0].args
        assert [describe(got) for got in received] == [
            (f"message-{number:04}", 1, None) for number in range(min(most + 1, then))
        ]
        # and what nobody asked for waits for no lease, and has lost no attempt
        assert coordinator.stats(INBOX).leased == len(received)
        rest = coordinator.receive_many(INBOX, most + 1, LONG)
        assert [describe(got) for got in rest] == [
            (f"message-{number:04}", 1, None) for number in range(len(received), most + 1)
        ]


@pytest.mark.guarantee("2.9")
@pytest.mark.guarantee("2.11")
@pytest.mark.backend("valkey")
@pytest.mark.parametrize("then", [1, 32])
def test_a_batch_that_is_too_large_to_come_in_time_does_not_stop_the_inbox(
    backend: Backend, proxy: FaultProxy, key_prefix: str, then: int
) -> None:
    # given 320 kB over a line that carries 50 kB in the time of an attempt
    client = backend.client_through(proxy)
    with RedisMessageCoordinator(client, key_prefix, call_timeout=1.5) as coordinator:
        letters = [message(number, headers={"blob": "x" * 10_000}) for number in range(32)]
        coordinator.send_many(SENDER, letters)
        proxy.drip(100_000)
        with pytest.raises(CoordinatorUnavailableError):
            coordinator.receive_many(INBOX, 32, LONG)

        # when it is asked for again, for as many or for less
        received: Sequence[ReceivedMessage] = ()
        for _ in range(8):
            with contextlib.suppress(CoordinatorUnavailableError):
                received = received or receive_again(coordinator, then)
        proxy.heal()

        # then some come, and none was lost or counted twice
        assert received
        rest = receive_again(coordinator, 32)
        found = [describe(got) for got in (*received, *rest)]
        assert sorted(found) == [(f"message-{number:04}", 1, None) for number in range(32)]


@pytest.mark.guarantee("2.9")
@pytest.mark.backend("valkey")
def test_every_thread_whose_receive_got_no_reply_leaves_its_message_to_a_later_one(
    backend: Backend, proxy: FaultProxy, key_prefix: str
) -> None:
    # given four threads whose receives were carried out, without a reply
    client = backend.client_through(proxy)
    with RedisMessageCoordinator(client, key_prefix, call_timeout=0.3) as coordinator:
        coordinator.send_many(SENDER, [message(number) for number in range(4)])
        proxy.drop_reply_of("EVALSHA", times=10**6)

        def receive() -> None:
            with pytest.raises(CoordinatorUnavailableError):
                coordinator.receive(INBOX, LONG)

        threads = [threading.Thread(target=receive, name=f"consumer-{n}") for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        proxy.heal()

        # when receives get through again, they find all four
        found = [describe(got) for _ in range(4) for got in receive_again(coordinator, 1)]
        assert sorted(found) == [(f"message-{number:04}", 1, None) for number in range(4)]


@pytest.mark.guarantee("2.9")
@pytest.mark.backend("valkey", "redis62")
@pytest.mark.parametrize("give_back", ["release", "nack"])
def test_giving_back_counts_though_another_took_the_message_before_the_repeat(
    backend: Backend, proxy: FaultProxy, key_prefix: str, give_back: str
) -> None:
    # given a consumer that waits while another holds the only message
    received: list[ReceivedMessage | None] = []
    with (
        RedisMessageCoordinator(backend.client_through(proxy), key_prefix) as holder,
        RedisMessageCoordinator(backend.client(), key_prefix) as other,
    ):
        other.send_message(SENDER, INBOX, message(1))
        held = holder.receive(INBOX, LONG)
        assert held is not None
        waiter = threading.Thread(
            target=lambda: received.append(other.receive(INBOX, LONG, wait=5.0)), name="waiter"
        )
        waiter.start()
        admin = backend.client()
        eventually(lambda: waits_on_the_server(admin))

        # when the message is given back, and the reply is lost, and slowly so
        proxy.delay(0.2)
        fault = proxy.drop_reply_of("EVALSHA")
        if give_back == "release":
            outcome, attempts = holder.release(INBOX, held.token), 1
        else:
            outcome, attempts = holder.nack(INBOX, held.token, delay=0.0), 2
        waiter.join()

        # then it was done once, and the other has the message
        assert fault.used_up
        assert outcome is LeaseOutcome.DONE
        assert [describe(got) for got in received] == [("message-0001", attempts, None)]
        assert other.ack(INBOX, received[0].token) is LeaseOutcome.DONE


def waits_on_the_server(admin: Any) -> bool:
    return any(entry["cmd"].lower() == "bzpopmin" for entry in admin.client_list())
