"""Checks of arguments."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tta_agent_coordination import checks

pytestmark = pytest.mark.guarantee("2.11")

ANYTHING = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.lists(st.integers()) | st.complex_numbers()
)  # fmt: skip


def outcome(check: Callable[..., Any], value: object, **options: Any) -> Any:
    """What a check returns, or the text of the error that names the argument."""
    try:
        return check("the_name", value, **options)
    except (TypeError, ValueError) as error:
        return str(error)


@given(ANYTHING)
def test_a_duration_is_a_float_in_bounds_or_an_error_with_its_name(value: Any) -> None:
    seconds = outcome(checks.duration, value)
    if isinstance(seconds, str):
        assert seconds.startswith("the_name must be")
    else:
        assert type(seconds) is float
        assert 0 <= seconds <= checks.MAX_DURATION
        assert seconds == value


@given(ANYTHING)
def test_a_factor_is_a_float_of_at_least_one_or_an_error_with_its_name(value: Any) -> None:
    factor = outcome(checks.factor, value)
    if isinstance(factor, str):
        assert factor.startswith("the_name must be")
    else:
        assert type(factor) is float
        assert 1 <= factor < math.inf


@given(ANYTHING, st.integers(0, 3))
def test_a_count_is_whole_or_an_error_with_its_name(value: Any, least: int) -> None:
    count = outcome(checks.count, value, least=least)
    if isinstance(count, str):
        assert count.startswith("the_name must be")
    else:
        assert type(count) is int
        assert count >= least


@pytest.mark.parametrize(
    "value", [10**400, -(10**400), 10**5000], ids=["long", "negative", "longer"]
)
def test_numbers_too_large_for_a_float_are_refused_in_short(value: int) -> None:
    with pytest.raises(ValueError, match=r"^x must be a finite number of seconds") as caught:
        checks.duration("x", value)
    assert len(str(caught.value)) < 200
    if value > 0:
        with pytest.raises(ValueError, match=r"^x must be a finite number of at least 1"):
            checks.factor("x", value)


def test_an_instance_is_handed_back_or_named() -> None:
    assert checks.instance_of("x", "text", str) == "text"
    with pytest.raises(TypeError, match=r"^x must be a str, not 5 \(int\)$"):
        checks.instance_of("x", 5, str)
    with pytest.raises(TypeError, match=r"^x must be an int, not '5' \(str\)$"):
        checks.instance_of("x", "5", int)


def test_texts_are_a_tuple_and_one_text_is_not_split() -> None:
    assert checks.strings("x", ["a", "b"]) == checks.strings("x", iter("ab")) == ("a", "b")
    assert checks.strings("x", []) == ()
    for wrong in ("ab", b"ab", None, 5):
        with pytest.raises(TypeError, match=r"^x must be a sequence of strings"):
            checks.strings("x", wrong)
    with pytest.raises(TypeError, match=r"^each of x must be a str, not b'a' \(bytes\)$"):
        checks.strings("x", [b"a"])


def deep_list() -> list[Any]:
    inner: list[Any] = []
    for _ in range(100_000):
        inner = [inner]
    return inner


def test_a_description_is_short_whatever_the_value() -> None:
    assert checks.describe("x") == "'x' (str)"
    assert checks.describe("x" * 1000) == f"'{'x' * 76}... (str)"
    assert checks.describe(10**5000) == "one too large to show (int)"
    assert checks.describe(deep_list()) == "one too large to show (list)"


@pytest.mark.parametrize("length", [78, 79])
def test_a_long_value_is_told_by_its_beginning(length: int) -> None:
    value = "x" * length
    told = f"'{value}'" if length == 78 else f"'{'x' * 76}..."
    assert checks.describe(value) == f"{told} (str)"
