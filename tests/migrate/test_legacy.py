"""What is read of the old layout at the borders of what is allowed."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tta_agent_coordination.coordinator.records import LONGEST_ERROR
from tta_agent_coordination.migrate import legacy
from tta_agent_coordination.migrate.legacy import UnreadableError

MOST = 2**53 - 1
"""Microseconds that a score holds exactly."""


@pytest.mark.parametrize(
    ("score", "due"),
    [(-1.0, 0), (0, 0), (1.6, 2), (MOST, MOST), (float(MOST + 1), MOST), (float("inf"), MOST)],
)
def test_a_score_is_a_time_as_far_as_it_can_be(score: float, due: int) -> None:
    assert legacy.due_of(score) == due


@pytest.mark.parametrize(
    ("value", "microseconds"),
    [(0, 0), (1, 10**6), (1.5, 1_500_000), (99_999_999_999, 99_999_999_999 * 10**6),
     (10**11, 10**14), (10**14 - 1, (10**14 - 1) * 1000), (10**14, 10**14), (MOST - 1, MOST - 1)],
)  # fmt: skip
def test_a_number_is_seconds_or_milliseconds_or_microseconds_by_its_size(
    value: float, microseconds: int
) -> None:
    begin = datetime(1970, 1, 1, tzinfo=UTC)
    moment = legacy._moment("at", value)
    assert (moment - begin).total_seconds() == microseconds / 10**6


@pytest.mark.parametrize("value", [-1, MOST, float("inf"), float("nan"), True, None, [], b"1"])
def test_nothing_else_is_a_time(value: Any) -> None:
    with pytest.raises(UnreadableError, match="at is no time"):
        legacy._moment("at", value)


@pytest.mark.parametrize("value", [0, 1, 1_000_000])
def test_deliveries_are_a_number(value: int) -> None:
    assert legacy._attempts(value) == value


@pytest.mark.parametrize("value", [-1, 1_000_001, True, 1.0, "1"])
def test_nothing_else_is_a_number_of_deliveries(value: Any) -> None:
    with pytest.raises(UnreadableError, match="deliveries"):
        legacy._attempts(value)


def test_an_error_is_kept_as_far_as_there_is_room() -> None:
    assert legacy._error(None) == b"-"
    assert legacy._error("") == b"+"
    assert legacy._error("x" * (LONGEST_ERROR + 1)) == b"+" + b"x" * LONGEST_ERROR
    assert legacy._error({"a": [1]}) == b'+{"a": [1]}'
