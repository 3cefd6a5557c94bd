"""4.1 and 4.4: what comes is handed to the agent, and what the agent makes of it is settled."""

import logging
import threading

import pytest

from tests.support.backends import Backend
from tests.support.marks import ALL
from tests.support.waiting import eventually
from tests.workers.given import (
    ASKER,
    OWN,
    SHARED,
    Payload,
    Scripted,
    Serve,
    event,
    is_empty,
    request,
    send,
)
from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentMessage,
    AgentProxy,
    MessageType,
    RedisMessageCoordinator,
    RejectMessage,
    RemoteAgentError,
    RequestTimeoutError,
    RetryLater,
    RoutingKey,
    current_message,
    handles,
)
from tta_agent_coordination.worker.handling import Handling, Task

pytestmark = ALL

Coordinator = RedisMessageCoordinator


@pytest.mark.guarantee("4.1")
def test_a_worker_serves_its_own_inbox_and_the_shared_one(
    coordinator: Coordinator, serve: Serve
) -> None:
    agent = Scripted()
    serve(agent, coordinator)
    for number in range(20):
        send(coordinator, event(number, (OWN, SHARED)[number % 2]))

    eventually(lambda: len(agent.got) == 20)
    assert sorted(payload["number"] for payload in agent.got) == list(range(20))
    eventually(lambda: is_empty(coordinator, OWN, SHARED))


@pytest.mark.guarantee("4.1")
def test_messages_that_wait_before_the_worker_starts_are_handled(
    coordinator: Coordinator, serve: Serve
) -> None:
    coordinator.send_many(ASKER, [event(number) for number in range(50)])
    coordinator.send_many(ASKER, [event(number, SHARED) for number in range(50, 100)])
    agent = Scripted()
    serve(agent, coordinator, threads=4)
    eventually(lambda: len(agent.got) == 100)
    eventually(lambda: is_empty(coordinator, OWN, SHARED))


@pytest.mark.guarantee("4.1")
def test_a_full_inbox_does_not_starve_the_other(coordinator: Coordinator, serve: Serve) -> None:
    # given far more in the shared inbox than in the own one
    coordinator.send_many(ASKER, [event(number, SHARED) for number in range(300)])
    own_at: list[int] = []
    agent = Scripted(lambda payload: own_at.append(len(agent.got)) if payload.get("own") else {})
    serve(agent, coordinator, threads=1)
    coordinator.send_message(ASKER, OWN, AgentMessage(ASKER, OWN, {"own": True}))

    # then it is not the last to be handled
    eventually(lambda: len(agent.got) == 301)
    assert own_at[0] < 300


@pytest.mark.guarantee("4.1")
def test_one_worker_serves_several_agents(coordinator: Coordinator, serve: Serve) -> None:
    ids = [AgentId("greeter", str(number)) for number in range(3)] + [AgentId("other")]
    agents = [Scripted(agent_id=agent_id) for agent_id in ids]
    serve(agents, coordinator)
    for agent_id in ids:
        send(coordinator, event(1, agent_id))
    eventually(lambda: all(len(agent.got) == 1 for agent in agents))


@pytest.mark.guarantee("4.1")
def test_a_request_is_answered_with_what_process_returns(
    coordinator: Coordinator, serve: Serve
) -> None:
    serve(Scripted(), coordinator)
    for to in (OWN, SHARED):
        reply = coordinator.request(ASKER, to, {"number": 7}, timeout=5.0)
        assert reply.payload == {"echo": {"number": 7}}
        assert (reply.message_type, reply.sender) == (MessageType.RESPONSE, OWN)


@pytest.mark.guarantee("4.1")
def test_a_request_without_reply_to_is_answered_in_the_inbox_of_its_sender(
    coordinator: Coordinator, serve: Serve
) -> None:
    serve(Scripted(), coordinator)
    asked = request(7, correlation_id="conversation-1")
    send(coordinator, asked)
    received = coordinator.receive(ASKER, wait=5.0)
    assert received is not None
    assert received.message.correlation_id == "conversation-1"
    assert received.message.payload == {"echo": {"number": 7}}


@pytest.mark.guarantee("4.1")
def test_one_request_sent_to_several_agents_is_answered_by_each(
    coordinator: Coordinator, serve: Serve
) -> None:
    ids = [AgentId("greeter", "1"), AgentId("greeter", "2")]
    serve([Scripted(agent_id=agent_id) for agent_id in ids], coordinator)
    coordinator.broadcast_message(ASKER, request(7), ids)
    answers = [coordinator.receive(ASKER, 30.0, wait=5.0) for _ in ids]
    assert {answer.message.sender for answer in answers if answer} == set(ids)


@pytest.mark.guarantee("4.1")
def test_a_request_that_is_delivered_again_is_answered_once(
    coordinator: Coordinator, serve: Serve
) -> None:
    # given an agent that answers, and loses its lease before it can acknowledge
    def lose_lease(payload: Payload) -> Payload:
        if len(agent.got) == 1:
            token = current_message().received.token
            assert coordinator.release(OWN, token)
        return {"echo": payload}

    agent = Scripted(lose_lease)
    serve(agent, coordinator)

    # when the request is handled twice
    send(coordinator, request(7))
    eventually(lambda: len(agent.got) == 2 and is_empty(coordinator, OWN))

    # then there is one answer
    received = coordinator.receive_many(ASKER, 10, wait=1.0)
    assert [one.message.payload for one in received] == [{"echo": {"number": 7}}]


@pytest.mark.guarantee("4.1")
def test_an_event_goes_to_on_event_and_is_not_answered(
    coordinator: Coordinator, serve: Serve
) -> None:
    agent = Scripted()
    serve(agent, coordinator)
    send(coordinator, event(7))
    eventually(lambda: agent.events)
    eventually(lambda: is_empty(coordinator, OWN))
    assert is_empty(coordinator, ASKER)


class Routed(Agent):
    agent_id = OWN

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    @handles(topic="news.*")
    def news(self, message: AgentMessage) -> Payload:
        self.seen.append(f"news {message.routing.topic}")
        return {}

    @handles(message_type=MessageType.REQUEST)
    def asked(self, message: AgentMessage) -> Payload:
        return {"asked": message.payload}


@pytest.mark.guarantee("4.1")
def test_handlers_take_the_messages_that_they_name(coordinator: Coordinator, serve: Serve) -> None:
    agent = Routed()

    @agent.on(topic="orders")
    def order(message: AgentMessage) -> None:
        agent.seen.append(f"order {message.payload['number']}")

    serve(agent, coordinator)
    send(coordinator, event(1, routing=RoutingKey("news.today")))
    send(coordinator, event(2, routing=RoutingKey("orders")))
    reply = coordinator.request(ASKER, OWN, {"number": 3}, timeout=5.0)

    assert reply.payload == {"asked": {"number": 3}}
    eventually(lambda: sorted(agent.seen) == ["news news.today", "order 2"])


@pytest.mark.guarantee("4.1")
def test_a_message_that_nobody_handles_is_a_dead_letter(
    coordinator: Coordinator, serve: Serve
) -> None:
    serve(Routed(), coordinator)
    send(coordinator, event(1, routing=RoutingKey("unknown")))
    eventually(lambda: coordinator.dead_letters(OWN))
    [letter] = coordinator.dead_letters(OWN)
    assert letter.reason == "permanent"


@pytest.mark.guarantee("4.1")
def test_an_agent_need_not_derive_from_agent(coordinator: Coordinator, serve: Serve) -> None:
    class Plain(AgentProxy):
        agent_id, name = OWN, "plain"

        def process(self, payload: Payload) -> Payload:
            return {"plain": payload}

    serve(Plain(), coordinator)
    assert coordinator.request(ASKER, OWN, {}, timeout=5.0).payload == {"plain": {}}


@pytest.mark.guarantee("4.1")
def test_the_error_reaches_the_one_who_asked_after_the_retries(
    coordinator: Coordinator, serve: Serve
) -> None:
    def fail(payload: Payload) -> Payload:
        raise LookupError(f"no number {payload['number']}")

    agent = Scripted(fail)
    coordinator.configure(retry_attempts=2)
    serve(agent, coordinator)
    with pytest.raises(RemoteAgentError, match=r"greeter:1 failed: LookupError: no number 7") as it:
        coordinator.request(ASKER, OWN, {"number": 7}, timeout=5.0)
    assert (it.value.error_type, it.value.attempts) == ("LookupError", 3)
    assert it.value.message == "no number 7"
    assert len(agent.got) == 3
    assert coordinator.dead_letters(OWN)[0].reason == "attempts_exhausted"


@pytest.mark.guarantee("4.1", "4.4")
@pytest.mark.backend("fakeredis", "valkey")
@pytest.mark.parametrize("what", ["error", "answer"])
def test_an_error_whose_text_fits_into_no_message_is_cut(
    coordinator: Coordinator, serve: Serve, what: str
) -> None:
    # given a text, or an answer, that is longer than a message may be
    def work(_: Payload) -> Payload:
        if what == "answer":
            return {"long": "x" * 2000}
        raise LookupError("\N{SNOWMAN}" * 4000)

    coordinator.configure(retry_attempts=0, max_message_bytes=1024)
    serve(Scripted(work), coordinator)

    # then the one who asked gets what fits
    with pytest.raises(RemoteAgentError) as it:
        coordinator.request(ASKER, OWN, {}, timeout=5.0)
    if what == "answer":
        assert it.value.error_type == "MessageTooLargeError"
    else:
        assert it.value.error_type == "LookupError"
        assert len(it.value.message) > 50
        assert set(it.value.message) == {"\N{SNOWMAN}"}


@pytest.mark.guarantee("4.4")
def test_an_error_is_logged_with_its_place_but_not_what_a_handler_asks_for(
    coordinator: Coordinator, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    raised = [RejectMessage("never"), RetryLater(60.0), ValueError("a slip")]

    def act(payload: Payload) -> Payload:
        raise raised[payload["number"]]

    agent = Scripted(act)
    serve(agent, coordinator)
    coordinator.send_many(ASKER, [event(number) for number in range(3)])
    eventually(lambda: coordinator.dead_letters(OWN) and len(agent.got) >= 3)

    def logged() -> set[str]:
        records = [one for one in caplog.records if getattr(one, "event", "") == "handler_failed"]
        return {str(one.exc_info[1]) for one in records if one.exc_info}

    eventually(logged)
    assert logged() == {"a slip"}


@pytest.mark.guarantee("4.4")
@pytest.mark.backend("fakeredis")
def test_an_error_for_which_there_is_no_room_at_all_is_logged(
    coordinator: Coordinator, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(payload: Payload) -> Payload:
        raise type("Long" * 500, (Exception,), {})(payload)

    coordinator.configure(retry_attempts=0, max_message_bytes=1024)
    serve(Scripted(fail), coordinator)
    with pytest.raises(RequestTimeoutError):
        coordinator.request(ASKER, OWN, {}, timeout=0.5)
    assert "was not told of its end" in caplog.text


@pytest.mark.guarantee("4.1")
def test_an_answer_that_is_no_json_object_is_an_error(
    coordinator: Coordinator, serve: Serve
) -> None:
    answers = {"list": [1], "set": {"a": {1}}}
    agent = Scripted(lambda payload: answers[payload["kind"]])
    coordinator.configure(retry_attempts=0)
    serve(agent, coordinator)
    for kind in answers:
        with pytest.raises(RemoteAgentError) as it:
            coordinator.request(ASKER, OWN, {"kind": kind}, timeout=5.0)
        assert it.value.error_type == "TypeError"


@pytest.mark.guarantee("4.1")
def test_a_reply_for_which_there_is_no_room_is_tried_again(
    coordinator: Coordinator, serve: Serve
) -> None:
    # given an asker whose inbox is full
    coordinator.configure(queue_size=1)
    send(coordinator, event(1, ASKER))
    agent = Scripted()
    serve(agent, coordinator)
    send(coordinator, request(7))
    eventually(lambda: len(agent.got) >= 2)

    # when there is room again, it gets its answer
    coordinator.purge(ASKER)
    received = coordinator.receive(ASKER, wait=5.0)
    assert received is not None
    assert received.message.payload == {"echo": {"number": 7}}


@pytest.mark.guarantee("4.4")
def test_an_exception_is_a_transient_failure(
    coordinator: Coordinator, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tta_agent_coordination")
    # given a handler that fails at first
    seen: list[tuple[int, str | None]] = []

    def fail_twice(_payload: Payload) -> Payload:
        queued = current_message().received.queue_message
        seen.append((queued.delivery_attempts, queued.last_error))
        if len(seen) < 3:
            raise OSError("disk full")
        return {}

    serve(Scripted(fail_twice), coordinator)
    send(coordinator, event(1))

    # then it is tried again with the error known, and is done at last
    eventually(lambda: is_empty(coordinator, OWN))
    assert seen == [(1, None), (2, "OSError: disk full"), (3, "OSError: disk full")]
    assert coordinator.dead_letters(OWN) == []
    assert caplog.text.count("failed, will be retried: OSError: disk full") == 2


@pytest.mark.guarantee("4.4")
@pytest.mark.parametrize("ended", ["purged", "dead"])
def test_the_log_says_what_became_of_a_message_that_failed(
    coordinator: Coordinator, serve: Serve, caplog: pytest.LogCaptureFixture, ended: str
) -> None:
    caplog.set_level(logging.INFO, "tta_agent_coordination")

    def fail(_payload: Payload) -> Payload:
        if ended == "purged":
            coordinator.purge(OWN)
            raise OSError("disk full")
        raise RejectMessage("no such thing")

    serve(Scripted(fail), coordinator)
    send(coordinator, event(1))
    fate = "permanent: " if ended == "dead" else "its lease is unknown: OSError"
    eventually(lambda: f"failed, {fate}" in caplog.text)


@pytest.mark.guarantee("4.4")
def test_an_error_of_this_library_raised_by_a_handler_is_one_like_any_other(
    coordinator: Coordinator, serve: Serve
) -> None:
    def ask_in_vain(payload: Payload) -> Payload:
        del payload
        if len(agent.got) == 1:
            coordinator.request(OWN, AgentId("nobody"), {}, timeout=0.05)
        return {"second": "try"}

    agent = Scripted(ask_in_vain)
    serve(agent, coordinator)
    assert coordinator.request(ASKER, OWN, {}, timeout=5.0).payload == {"second": "try"}


@pytest.mark.guarantee("4.4")
def test_reject_message_is_a_permanent_failure(coordinator: Coordinator, serve: Serve) -> None:
    def reject(payload: Payload) -> Payload:
        raise RejectMessage(f"cannot read {payload['number']}")

    serve(Scripted(reject), coordinator)
    with pytest.raises(RemoteAgentError) as it:
        coordinator.request(ASKER, OWN, {"number": 7}, timeout=5.0)
    assert (it.value.error_type, it.value.attempts) == ("RejectMessage", 1)
    [letter] = coordinator.dead_letters(OWN)
    assert letter.reason == "permanent"
    assert letter.queue_message is not None
    assert letter.queue_message.last_error == "RejectMessage: cannot read 7"


@pytest.mark.guarantee("4.4")
def test_retry_later_chooses_the_delay(coordinator: Coordinator, serve: Serve) -> None:
    def later(payload: Payload) -> Payload:
        if len(agent.got) == 1:
            raise RetryLater(payload["delay"], "not yet")
        return {}

    agent = Scripted(later)
    coordinator.configure(backoff_base=30.0)
    serve(agent, coordinator)
    coordinator.request(ASKER, OWN, {"delay": 0.1}, timeout=5.0)
    assert len(agent.got) == 2

    agent.got.clear()
    coordinator.send_message(ASKER, OWN, AgentMessage(ASKER, OWN, {"delay": 60.0}))
    eventually(lambda: coordinator.stats(OWN).delayed == 1)


class UnreadableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class EndingError(Exception):
    def __str__(self) -> str:
        raise SystemExit


@pytest.mark.guarantee("4.4")
@pytest.mark.backend("fakeredis", "valkey")
@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        UnreadableError(),
        EndingError(),
        OSError("x" * 9999),
    ],
)
def test_nothing_that_a_handler_raises_ends_its_thread(
    coordinator: Coordinator, serve: Serve, error: BaseException
) -> None:
    def fail(payload: Payload) -> Payload:
        if payload.get("bad"):
            raise error
        return {"fine": threading.current_thread().name}

    coordinator.configure(retry_attempts=1)
    serve(Scripted(fail), coordinator, threads=1)
    with pytest.raises(RemoteAgentError) as it:
        coordinator.request(ASKER, OWN, {"bad": True}, timeout=5.0)
    assert it.value.error_type == type(error).__name__
    assert it.value.attempts == 2
    assert "fine" in coordinator.request(ASKER, OWN, {}, timeout=5.0).payload


@pytest.mark.guarantee("4.4")
def test_a_handler_may_ask_others_and_itself_be_asked(
    coordinator: Coordinator, serve: Serve
) -> None:
    helper = AgentId("helper", "1")

    def ask(payload: Payload) -> Payload:
        return coordinator.request(OWN, helper, payload, timeout=5.0).payload

    serve(Scripted(ask), coordinator)
    serve(Scripted(agent_id=helper), coordinator)
    assert coordinator.request(ASKER, OWN, {"a": 1}, timeout=5.0).payload == {"echo": {"a": 1}}


@pytest.mark.guarantee("4.2")
def test_there_is_a_current_message_in_a_handler_and_nowhere_else(
    coordinator: Coordinator, serve: Serve
) -> None:
    found: list[object] = []

    def look(_payload: Payload) -> Payload:
        current = current_message()
        found.append((current.message.payload, current.lease_lost))
        return {}

    serve(Scripted(look), coordinator)
    coordinator.request(ASKER, OWN, {"a": 1}, timeout=5.0)
    assert found == [({"a": 1}, False)]
    with pytest.raises(LookupError):
        current_message()


@pytest.mark.guarantee("4.1")
def test_bytes_that_do_not_decode_do_not_stop_a_worker(
    backend: Backend, coordinator: Coordinator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, done = Handling.handle, list[bool]()

    def noted(handling: Handling, task: Task) -> bool:
        done.append(handle(handling, task))
        return done[-1]

    monkeypatch.setattr(Handling, "handle", noted)
    send(coordinator, event(1, message_id="broken-message"))
    key = coordinator._calls.keys.inbox(OWN)["messages"]
    backend.client().hset(key, "broken-message", "0 0 - {}")
    agent = Scripted()
    serve(agent, coordinator)
    send(coordinator, event(2))
    eventually(lambda: [payload["number"] for payload in agent.got] == [2])
    eventually(  # another thread puts it away
        lambda: [letter.reason for letter in coordinator.dead_letters(OWN)] == ["undecodable"]
    )
    eventually(lambda: sorted(done) == [False, True])  # the one is not to be acknowledged


@pytest.mark.guarantee("4.4")
def test_a_failure_of_which_nobody_can_be_told_is_final_all_the_same(
    coordinator: Coordinator, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def reject(payload: Payload) -> Payload:
        raise RejectMessage(f"cannot read {payload['number']}")

    coordinator.configure(queue_size=1)
    send(coordinator, event(1, ASKER))
    serve(Scripted(reject), coordinator)
    send(coordinator, request(7))
    eventually(lambda: "was not told of its end" in caplog.text)
    assert [letter.reason for letter in coordinator.dead_letters(OWN)] == ["permanent"]
