"""Options, their defaults and what is asked of them."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from tta_agent_coordination import (
    MessageCoordinator,
    RedisAgentRegistry,
    RedisMessageCoordinator,
    policy,
)
from tta_agent_coordination.policy import (
    CoordinatorOptions,
    InboxOptions,
    InboxPolicy,
    inbox_policy,
)
from tta_agent_coordination.registry.options import RegistryOptions


@pytest.mark.guarantee("2.8")
def test_the_defaults_are_those_of_the_contract() -> None:
    assert attrs.asdict(InboxPolicy()) == {
        "queue_size": 10_000,
        "retry_attempts": 3,
        "backoff_base": 1.0,
        "backoff_factor": 2.0,
        "backoff_max": 30.0,
        "dedup_window": 60.0,
        "dead_letter_limit": 10_000,
        "max_message_bytes": 1_048_576,
    }
    assert policy.DEFAULT_CALL_TIMEOUT == 5.0


@pytest.mark.guarantee("2.6")
def test_deliveries_are_the_first_and_the_retries() -> None:
    assert InboxPolicy().deliveries == 4
    assert InboxPolicy(retry_attempts=0).deliveries == 1


@pytest.mark.guarantee("2.14")
def test_marks_are_kept_for_the_window_and_for_a_repeated_call() -> None:
    assert InboxPolicy(dedup_window=0).retention == policy.REPLAY_WINDOW
    assert InboxPolicy(dedup_window=3600).retention == 3600


@pytest.mark.guarantee("2.12")
def test_a_consumer_looks_by_itself_seldom_enough() -> None:
    commands_a_look = 2
    assert policy.WAIT_SLICE / commands_a_look >= 4


LEAST = {"queue_size": 1, "retry_attempts": 0, "dead_letter_limit": 1, "max_message_bytes": 64}
DURATIONS = ("backoff_base", "backoff_max", "dedup_window")


@pytest.mark.guarantee("2.11")
@pytest.mark.parametrize("name", LEAST)
def test_a_count_has_a_least(name: str) -> None:
    assert getattr(InboxPolicy(**{name: LEAST[name]}), name) == LEAST[name]
    with pytest.raises(ValueError, match=rf"^{name} must be at least {LEAST[name]}"):
        InboxPolicy(**{name: LEAST[name] - 1})
    for wrong in (1.0, "1", None, True):
        value: Any = wrong
        with pytest.raises(TypeError, match=rf"^{name} must be a whole number"):
            InboxPolicy(**{name: value})


@pytest.mark.guarantee("2.11")
@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("wrong", [-1, math.nan, math.inf, 1e10])
def test_a_duration_has_bounds(name: str, wrong: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be a finite number of seconds"):
        InboxPolicy(**{name: wrong})


@pytest.mark.guarantee("2.11")
@pytest.mark.parametrize("wrong", [0.5, 0, -1, math.nan, math.inf])
def test_a_factor_does_not_shrink(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"^backoff_factor must be a finite number of at least 1"):
        InboxPolicy(backoff_factor=wrong)


def test_an_unknown_option_is_named_with_what_was_meant_or_those_there_are() -> None:
    with pytest.raises(TypeError, match=r"no option 'quue_size'; did you mean queue_size\?$"):
        inbox_policy({"quue_size": 3})
    with pytest.raises(
        TypeError, match=r"no option 'port'; the options are queue_size, .*, key_prefix, .*strict"
    ):
        inbox_policy({"port": 3})
    assert inbox_policy({"queue_size": 3}).queue_size == 3


def keywords_of(function: Callable[..., object]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]


def test_the_options_that_are_passed_on_are_those_there_are() -> None:
    own = list(InboxOptions.__annotations__)
    assert own == [field.name for field in attrs.fields(InboxPolicy)]
    assert keywords_of(MessageCoordinator.configure) == own
    passed_on = list(CoordinatorOptions.__annotations__)
    assert passed_on == own + keywords_of(RedisMessageCoordinator.__init__)
    assert list(RegistryOptions.__annotations__) == keywords_of(RedisAgentRegistry.__init__)
