"""Capabilities, and versions compared as semver.org says."""

from itertools import pairwise
from typing import Any

import pytest

from tta_agent_coordination import AgentCapability
from tta_agent_coordination.agents.capability import precedence

pytestmark = pytest.mark.guarantee("3.6")

IN_ORDER = (
    "0.0.0",
    "0.9.0",
    "0.10.0",
    "1.0.0-0",
    "1.0.0-2",
    "1.0.0-11",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-beta.x",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1",
    "1.2.0",
    "1.10.0",
    "2.0.0-1-a",
    "2.0.0",
    "10.0.0",
)


@pytest.mark.parametrize(("lower", "higher"), list(pairwise(IN_ORDER)))
def test_versions_are_ordered_as_semantic_versions(lower: str, higher: str) -> None:
    assert precedence(lower) < precedence(higher)


def test_build_metadata_plays_no_part() -> None:
    assert precedence("1.2.3+build.7") == precedence("1.2.3+001") == precedence("1.2.3")


@pytest.mark.parametrize(
    "version",
    [
        "",
        "1",
        "1.2",
        "1.2.3.4",
        "v1.2.3",
        "01.2.3",
        "1.2.3-",
        "1.2.3-01",
        "1.2.3+",
        "1.2.3 ",
        "\u0661.2.3",
    ],
)
def test_what_is_no_semantic_version_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match=r"1\.2\.3"):
        AgentCapability("sum", version)


@pytest.mark.parametrize("name", ["", "Sum", "1sum", "_sum", "sum up", "sum-up", "é", "s" * 129, 7])
def test_a_name_that_cannot_be_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="name of a capability"):
        AgentCapability(name)


@pytest.mark.parametrize(
    "options", [{"version": 1}, {"description": 7}, {"tags": "en"}, {"tags": [7]}]
)
def test_fields_of_the_wrong_type_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(options))):
        AgentCapability("sum", **options)


def test_the_defaults_are_the_first_version_and_nothing_else() -> None:
    capability = AgentCapability("sum_2")
    assert (capability.version, capability.description, capability.tags) == ("1.0.0", None, ())
    assert capability == AgentCapability("sum_2", tags=[])
    assert len({capability, AgentCapability("sum_2")}) == 1


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ((), True),
        (("sum",), True),
        (("draw",), False),
        (("sum", "1.9.0"), True),
        (("sum", "1.10.1"), False),
        (("sum", None, ("a",)), True),
        (("sum", None, ["a", "b"]), True),
        (("sum", None, ("a", "c")), False),
    ],
)
def test_it_satisfies_what_is_asked_for(wanted: tuple[Any, ...], expected: bool) -> None:
    capability = AgentCapability("sum", "1.10.0", tags=("a", "b"))
    assert capability.satisfies(*wanted) is expected
