"""The names of keys."""

import pytest

from tta_agent_coordination import AgentId
from tta_agent_coordination.keys import INBOX_KEYS, Keys

pytestmark = pytest.mark.guarantee("2.15")


def test_a_key_is_the_prefix_the_agent_and_a_name() -> None:
    keys = Keys("tta-coord")
    assert keys.inbox(AgentId("worker"))["ready"] == "tta-coord:{worker}:ready"
    assert keys.inbox(AgentId("worker", "1"))["dead"] == "tta-coord:{worker:1}:dead"
    assert (keys.inboxes, keys.subscriptions) == ("tta-coord:inboxes", "tta-coord:subscriptions")
    assert tuple(keys.inbox(AgentId("a"))) == INBOX_KEYS
    assert len(set(INBOX_KEYS)) == len(INBOX_KEYS)


@pytest.mark.parametrize("prefix", ["a", "x" * 128, "app:prod/eu.1_b-c"])
def test_a_prefix_may_have_levels(prefix: str) -> None:
    assert Keys(prefix).inboxes == f"{prefix}:inboxes"


@pytest.mark.parametrize("prefix", ["", "{a}", "a b", "*", "x" * 129, "a\n"])
def test_a_prefix_with_a_hash_tag_or_a_pattern_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match=r"^key_prefix must be"):
        Keys(prefix)
