"""What a user writes: an agent with ``process``, or with handlers."""

import re
import threading
import time
from typing import Any

import pytest

from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentMessage,
    AgentProxy,
    MessagePriority,
    MessageType,
    QueueMessage,
    ReceivedMessage,
    RejectMessage,
    RetryLater,
    RoutingKey,
    current_message,
    handles,
)
from tta_agent_coordination.agents.agent import MessageInHand, hand_over, set_current

ME, SENDER = AgentId("greeter", "1"), AgentId("sender")
REQUEST, EVENT = MessageType.REQUEST, MessageType.EVENT


def message(kind: MessageType = REQUEST, topic: str | None = None) -> AgentMessage:
    return AgentMessage(
        SENDER, ME, {"name": "Ada"}, message_type=kind, routing=RoutingKey(topic=topic)
    )


def received() -> ReceivedMessage:
    stored = QueueMessage(message(), MessagePriority.NORMAL, message().timestamp, 2, None)
    return ReceivedMessage("token", stored, message().timestamp)


class Greeter(Agent):
    agent_id = ME

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        return {"text": f"hello {payload['name']}"}


def test_process_is_all_that_must_be_written() -> None:
    greeter = Greeter()
    assert greeter.handle(message()) == {"text": "hello Ada"}
    assert greeter.name == "greeter:1"
    assert greeter.health_check()
    assert greeter.get_capabilities() == ()
    assert greeter.export_state() is None
    assert greeter.import_state({}) is None
    assert greeter.start() is None
    assert greeter.stop() is None


def test_address_and_name_can_be_given() -> None:
    class Named(Greeter):
        name = "the greeter"

    assert Named().name == "the greeter"
    assert Named(name="another").name == "another"
    assert Greeter(SENDER).agent_id == SENDER


def test_address_and_name_can_be_properties() -> None:
    class Shared(Greeter):
        def __init__(self, number: int, **given: Any) -> None:
            self.number = number
            super().__init__(**given)

        @property
        def agent_id(self) -> AgentId:
            return AgentId("greeter", str(self.number))

        @property
        def name(self) -> str:
            return f"greeter no. {self.number}"

    assert (Shared(7).agent_id, Shared(7).name) == (AgentId("greeter", "7"), "greeter no. 7")
    assert Shared(7, agent_id=AgentId("greeter", "7")).number == 7
    with pytest.raises(AttributeError, match="agent_id"):
        Shared(7, agent_id=ME)


@pytest.mark.parametrize("arguments", [("greeter:1",), (ME, 7)])
def test_an_agent_with_a_wrong_address_or_name_is_refused(arguments: Any) -> None:
    with pytest.raises(TypeError, match="must be"):
        Agent(*arguments)


def test_an_agent_without_an_address_is_told_where_to_give_one() -> None:
    with pytest.raises(TypeError, match="Agent has no agent_id: give one to its constructor"):
        Agent()


def test_an_event_goes_to_process_too_and_is_not_answered() -> None:
    seen: list[dict[str, Any]] = []

    class Noting(Agent):
        def process(self, payload: dict[str, Any]) -> dict[str, Any]:
            seen.append(payload)
            return {"n": 1}

    assert Noting(ME).handle(message(EVENT)) is None
    assert Noting(ME).handle(message(MessageType.RESPONSE)) is None
    assert seen == [{"name": "Ada"}] * 2


def test_an_event_can_have_a_method_of_its_own() -> None:
    class Listening(Greeter):
        def on_event(self, message: AgentMessage) -> None:
            heard.append(message)

    heard: list[AgentMessage] = []
    event = message(EVENT)
    Listening().handle(event)
    assert heard == [event]


def test_an_agent_without_a_handler_rejects() -> None:
    with pytest.raises(RejectMessage, match="greeter:1 has no handler") as caught:
        Agent(ME).handle(message())
    assert "no handler" in caught.value.reason


def test_methods_are_chosen_by_topic_and_type_in_the_order_of_definition() -> None:
    class Sorting(Greeter):
        @handles(topic="orders.new")
        def zeroth(self, message: AgentMessage) -> dict[str, Any]:
            del message
            return {"by": "zeroth"}

        @handles(topic="orders.*")
        def first(self, message: AgentMessage) -> dict[str, Any]:
            del message
            return {"by": "first"}

        @handles(message_type=EVENT)
        def second(self, message: AgentMessage) -> dict[str, Any]:
            return {"by": "second", "topic": message.routing.topic}

        @handles(message_type=REQUEST, topic="bills")
        def a_third(self, message: AgentMessage) -> None:
            del message

    agent = Sorting()
    assert agent.handle(message(EVENT, "orders.new")) == {"by": "zeroth"}
    assert agent.handle(message(EVENT, "orders.old")) == {"by": "first"}
    assert agent.handle(message(EVENT, "bills")) == {"by": "second", "topic": "bills"}
    assert agent.handle(message(REQUEST, "bills")) is None
    assert agent.handle(message(REQUEST, "other")) == {"text": "hello Ada"}
    assert agent.handle(message(REQUEST)) == {"text": "hello Ada"}


@pytest.mark.parametrize(
    ("misplaced", "instead"),
    [
        ("orders.*", '(topic="orders.*")'),
        (EVENT, "(message_type=MessageType.EVENT)"),
        (Greeter.process, "(topic=…) or @{}(message_type=…)"),
    ],
)
def test_what_is_handled_is_given_by_name(misplaced: Any, instead: str) -> None:
    for name, decorator in (("handles", handles), ("on", Greeter().on)):
        hint = f"{name} takes its arguments by name: write @{name}{instead.format(name)}"
        with pytest.raises(TypeError, match=f"^{re.escape(hint)}$"):
            decorator(misplaced)


def test_a_subclass_may_replace_or_silence_a_handler() -> None:
    class Base(Greeter):
        @handles(topic="a")
        def on_a(self, message: AgentMessage) -> dict[str, Any]:
            del message
            return {"by": "base"}

        @handles(topic="b")
        def on_b(self, message: AgentMessage) -> dict[str, Any]:
            del message
            return {"by": "base"}

    class Derived(Base):
        @handles(topic="a")
        def on_a(self, message: AgentMessage) -> dict[str, Any]:
            del message
            return {"by": "derived"}

        def on_b(self, message: AgentMessage) -> dict[str, Any]:
            raise AssertionError(f"it is no handler any more: {message}")

    assert Derived().handle(message(topic="a")) == {"by": "derived"}
    assert Derived().handle(message(topic="b")) == {"text": "hello Ada"}


def test_functions_can_handle_too() -> None:
    agent = Greeter()

    @agent.on(topic="weather.*")
    def weather(message: AgentMessage) -> dict[str, Any]:
        return {"topic": message.routing.topic}

    @agent.on(message_type=EVENT)
    def event(message: AgentMessage) -> None:
        del message

    assert agent.handle(message(topic="weather.rome")) == {"topic": "weather.rome"}
    assert weather(message(topic="x")) == {"topic": "x"}, "it stays what it was"
    assert agent.handle(message(EVENT)) is event(message())
    assert agent.handle(message()) == {"text": "hello Ada"}


def test_no_property_runs_when_an_agent_is_made() -> None:
    class Lazy(Greeter):
        @property
        def connection(self) -> object:
            raise AssertionError("connected too early")

    assert Lazy().handle(message()) == {"text": "hello Ada"}


def test_the_bare_interface_can_be_served_too() -> None:
    class Bare(AgentProxy):
        agent_id = ME
        name = "bare"

        def process(self, payload: dict[str, Any]) -> dict[str, Any]:
            return payload

    assert hand_over(Bare(), message()) == {"name": "Ada"}
    assert hand_over(Bare(), message(EVENT)) is None
    with pytest.raises(TypeError, match="abstract"):
        AgentProxy()


def test_instructions_to_the_worker_say_why() -> None:
    assert str(RejectMessage()) == "rejected"
    assert RejectMessage("not for me").reason == "not for me"
    later = RetryLater(2, "not yet")
    assert (later.delay, later.reason, str(later)) == (2.0, "not yet", "not yet")
    for delay, error in ((-1, ValueError), ("1", TypeError)):
        with pytest.raises(error, match="delay"):
            RetryLater(delay)


def test_a_lease_is_lost_once_its_time_is_over_and_stays_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    current = MessageInHand(message(), received)
    current.keep_lease(130.0)
    now[0] = 129.9
    assert not current.lease_lost
    current.keep_lease(140.0)
    now[0] = 139.9
    assert not current.lease_lost
    now[0] = 140.0
    assert not current.was_told
    assert current.lease_lost
    assert current.was_told
    current.keep_lease(200.0)
    assert current.lease_lost


def test_the_message_in_hand_is_known_in_its_own_thread() -> None:
    current = MessageInHand(message(), received)
    missed: list[bool] = []

    def elsewhere() -> None:
        with pytest.raises(LookupError, match="no message"):
            current_message()
        missed.append(True)

    set_current(current)
    thread = threading.Thread(target=elsewhere, name="elsewhere")
    thread.start()
    thread.join()
    assert missed == [True]
    assert current_message() is current
    assert current_message().message.payload == {"name": "Ada"}
    assert current_message().received.queue_message.delivery_attempts == 2
    assert not current_message().lease_lost
    current.keep_lease(time.monotonic() + 60.0)
    assert not current_message().lease_lost
    current.lose_lease()
    assert current_message().lease_lost
    set_current(None)
    with pytest.raises(LookupError):
        current_message()
