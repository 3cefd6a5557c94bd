"""Addresses of agents."""

import copy
import pickle
import re
from typing import Any, cast

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tta_agent_coordination import AgentId

pytestmark = pytest.mark.guarantee("2.1")

PARTS = st.from_regex(r"[A-Za-z0-9_.-]{1,128}", fullmatch=True)


@given(PARTS, st.none() | PARTS)
def test_parse_reads_back_what_str_gave(kind: str, instance: str | None) -> None:
    agent_id = AgentId(kind, instance)
    assert AgentId.parse(str(agent_id)) == agent_id


@given(st.text(max_size=300))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    if re.fullmatch(r"[A-Za-z0-9_.-]{1,128}(:[A-Za-z0-9_.-]{1,128})?", text):
        assert str(AgentId.parse(text)) == text
    else:
        with pytest.raises(ValueError, match="of an AgentId must be"):
            AgentId.parse(text)


def test_str_gives_the_type_and_the_instance() -> None:
    assert str(AgentId("worker")) == "worker"
    assert str(AgentId("worker", "1")) == "worker:1"


BAD = ["", "a b", "a:b", "é", "a\n", "\n", "a{b}", "*", "x" * 129, "\0", "\ud800"]


@pytest.mark.parametrize("bad", [*BAD, 1, b"worker", None, [], AgentId])
def test_a_bad_type_is_named(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"^the type of an AgentId must be 1 to 128 characters"):
        AgentId(bad)


@pytest.mark.parametrize("bad", [*BAD, 1, b"1", [], 0, False])
def test_a_bad_instance_is_named(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"^the instance of an AgentId must be 1 to 128"):
        AgentId("worker", bad)


def test_what_was_probably_meant_is_said() -> None:
    with pytest.raises(ValueError, match=r"; AgentId\.parse reads type:instance$"):
        AgentId("worker:1")
    with pytest.raises(ValueError, match=r"; write '1'$"):
        AgentId("worker", cast("Any", 1))


@pytest.mark.parametrize("text", ["", ":", "a:", ":a", "a:b:c", "a::b", " a", "a:b "])
def test_what_is_of_neither_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="of an AgentId"):
        AgentId.parse(text)


@pytest.mark.parametrize("thing", [None, 1, b"worker", AgentId("worker")])
def test_only_text_is_parsed(thing: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^the text of an AgentId must be a string, not .*\(\w+\)"
    ):
        AgentId.parse(thing)


def test_addresses_are_values() -> None:
    one = AgentId("worker", "1")
    assert one == AgentId("worker", "1") != AgentId("worker")
    assert len({one, AgentId("worker", "1"), AgentId("worker")}) == 2
    assert min(AgentId("b"), AgentId("a", "2"), AgentId("a", "1")) == AgentId("a", "1")
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        delattr(one, "type")
