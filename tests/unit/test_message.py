"""The message and the values it is made of."""

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    FailureType,
    MessagePriority,
    MessageType,
    RoutingKey,
)
from tta_agent_coordination.message import failure_type, types_of

pytestmark = pytest.mark.guarantee("2.11")

A, B = AgentId("a"), AgentId("b", "1")


def test_the_defaults_are_those_of_the_contract() -> None:
    before = datetime.now(UTC)
    message = AgentMessage(A, B)
    assert (message.sender, message.recipient, message.payload) == (A, B, {})
    assert message.message_type is MessageType.EVENT
    assert message.priority is MessagePriority.NORMAL
    assert message.routing == RoutingKey(None, ())
    assert message.correlation_id is message.reply_to is message.ttl is None
    assert message.headers == {}
    assert before <= message.timestamp <= datetime.now(UTC)
    assert message.timestamp.utcoffset() == timedelta(0)


def test_every_message_has_an_id_of_its_own() -> None:
    ids = {AgentMessage(A, B).message_id for _ in range(1000)}
    assert len(ids) == 1000
    assert all(6 <= len(name) <= 128 and name.isalnum() for name in ids)


def test_the_values_are_those_of_the_contract() -> None:
    assert [*MessageType] == ["request", "response", "event"]
    assert {each.name: each.value for each in MessagePriority} == {"LOW": 1, "NORMAL": 5, "HIGH": 9}
    assert [*FailureType] == ["transient", "permanent", "timeout"]


def test_names_and_numbers_become_members() -> None:
    loose: dict[str, object] = {"message_type": "request", "priority": 9}
    message = AgentMessage(A, B, **loose)
    assert message.message_type is MessageType.REQUEST
    assert message.priority is MessagePriority.HIGH


@pytest.mark.parametrize(
    ("wrong", "name"), [("high", "HIGH"), ("LOW", "LOW"), ("urgent", "NORMAL"), (2, "NORMAL")]
)
def test_a_wrong_priority_is_told_how_to_write_it(wrong: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"not .*{wrong}.*: write MessagePriority.{name}$"):
        AgentMessage(A, B, priority=wrong)


def test_what_it_was_made_from_may_change_later() -> None:
    payload, headers, tags = {"a": 1}, {"b": "c"}, ["d"]
    message = AgentMessage(A, B, payload, headers=headers, routing=RoutingKey("t", tags))
    payload["a"], headers["b"] = 2, "x"
    tags.append("e")
    assert (message.payload, message.headers, message.routing.tags) == (
        {"a": 1},
        {"b": "c"},
        ("d",),
    )
    first, second = AgentMessage(A, B), AgentMessage(A, B)
    first.payload["x"] = 1
    first.headers["x"] = "y"
    assert (second.payload, second.headers) == ({}, {})


def test_a_message_is_a_value() -> None:
    message = AgentMessage(A, B, {"n": [1]}, headers={"a": "b"}, ttl=5)
    again = attrs.evolve(message)
    assert message == again != attrs.evolve(message, payload={"n": [2]})
    assert hash(message) == hash(again)
    assert pickle.loads(pickle.dumps(message)) == message
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        delattr(message, "ttl")


def test_only_the_first_three_go_by_place() -> None:
    with pytest.raises(TypeError, match="positional"):
        AgentMessage(A, B, {}, MessageType.EVENT)


@pytest.mark.parametrize("ttl", [0, 0.0, 5, 1e-6, 86_400])
def test_a_time_to_live_is_kept_as_seconds(ttl: float) -> None:
    message = AgentMessage(A, B, ttl=ttl)
    assert message.ttl == ttl
    assert type(message.ttl) is float


def test_types_are_sorted_and_each_is_there_once() -> None:
    event, request = MessageType.EVENT, MessageType.REQUEST
    assert types_of([request, event, request]) == (request, event)


def test_a_failure_may_be_given_by_its_name() -> None:
    assert failure_type("timeout") is failure_type(FailureType.TIMEOUT) is FailureType.TIMEOUT
