"""Values can be compared, hashed, pickled and written as JSON by a converter of cattrs."""

import copy
import pickle
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from cattrs.preconf.json import make_converter

import tta_agent_coordination
from tta_agent_coordination import (
    AgentCapability,
    AgentId,
    AgentMessage,
    AgentRecord,
    CircuitBreakerConfig,
    DeadLetter,
    InboxStats,
    Liveness,
    MessagePriority,
    MessageResult,
    MessageSubscription,
    MessageType,
    QueueMessage,
    ReceivedMessage,
    RoutingKey,
)

pytestmark = pytest.mark.guarantee("2.11")

A, B = AgentId("a"), AgentId("b", "1")
NOW = datetime(2024, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
MESSAGE = AgentMessage(
    A, B, {"x": [1, {"y": None}]}, message_type=MessageType.REQUEST,
    priority=MessagePriority.HIGH, routing=RoutingKey("t", ("u", "v")), timestamp=NOW,
    correlation_id="c", reply_to=A, ttl=3.0, headers={"a": "b"},
)  # fmt: skip
HELD = QueueMessage(MESSAGE, MessagePriority.HIGH, NOW, 1, "it broke")
CAPABILITY = AgentCapability("sum", "1.2.0", "adds", ("math",))

VALUES: list[Any] = [
    A,
    B,
    RoutingKey("t", ("u",)),
    MESSAGE,
    MessageResult("the-id", delivered=False, error="queue full"),
    MessageSubscription("s", A, (MessageType.EVENT,), ("a.*",)),
    HELD,
    ReceivedMessage("token", HELD, NOW),
    DeadLetter(HELD, "permanent", NOW, "host:1", message_id=MESSAGE.message_id),
    DeadLetter(None, "undecodable", NOW, None, raw=b"\xff"),
    InboxStats({priority: priority.value for priority in MessagePriority}, 1, 2, 3, 4.5, 6),
    CAPABILITY,
    AgentRecord(A, "name", 1, Liveness.ALIVE, NOW, NOW, 30.0, capabilities=(CAPABILITY,)),
]
NO_JSON = [CircuitBreakerConfig(excluded=(KeyError,))]
"""It holds classes."""

every_value = pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
even_no_json = pytest.mark.parametrize(
    "value", VALUES + NO_JSON, ids=lambda value: type(value).__name__
)


@every_value
def test_json_by_cattrs_is_read_back(value: Any) -> None:
    converter = make_converter()
    assert converter.loads(converter.dumps(value), type(value)) == value


@even_no_json
def test_equal_values_have_one_hash(value: Any) -> None:
    again = copy.deepcopy(value)
    assert value == again
    assert len({value, again}) == 1


@even_no_json
def test_a_value_can_be_pickled_and_not_be_changed(value: Any) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, attrs.fields(type(value))[0].name, None)


def test_a_priority_that_json_made_a_string_of_is_read_and_no_other_string() -> None:
    assert [MessagePriority("1"), MessagePriority("9")] == [1, 9]
    for wrong in ("2", "HIGH", "", " 9", None, b"9"):
        with pytest.raises(ValueError, match="is not a valid MessagePriority"):
            MessagePriority(wrong)


def test_every_value_of_an_inbox_is_looked_at_here() -> None:
    modules = {f"tta_agent_coordination.{name}" for name in ("identity", "message", "delivery")}
    public = [getattr(tta_agent_coordination, name) for name in tta_agent_coordination.__all__]
    values = {one for one in public if isinstance(one, type) and attrs.has(one)}
    looked_at = {type(value) for value in VALUES}
    assert {one for one in values if one.__module__ in modules} <= looked_at
