"""The public interface changes only on purpose."""

import inspect
import re
from pathlib import Path

import pytest

import tta_agent_coordination
from tests.support.public_api import FILE, described
from tta_agent_coordination import (
    AgentRegistry,
    MessageCoordinator,
    RedisAgentRegistry,
    RedisMessageCoordinator,
)


def test_the_public_interface_is_the_one_written_down() -> None:
    # After a change on purpose: python -m tests.support.public_api --write
    assert described().splitlines() == FILE.read_text("utf-8").splitlines()


def test_the_readme_names_all_that_the_package_offers() -> None:
    text = Path(__file__).parents[2].joinpath("README.md").read_text("utf-8")
    overview = text.partition("\n## What there is\n")[2].partition("\n## ")[0]
    named = {word for code in re.findall("`(.+?)`", overview) for word in re.findall(r"\w+", code)}
    assert {*tta_agent_coordination.__all__} - {"__version__"} <= named


@pytest.mark.parametrize(
    ("kind", "interface"),
    [(RedisMessageCoordinator, MessageCoordinator), (RedisAgentRegistry, AgentRegistry)],
)
def test_help_shows_the_whole_contract_of_each_method(kind: type, interface: type) -> None:
    """The linter does not ask for docstrings there; those of the interface are inherited."""
    public = [name for name in vars(kind) if not name.startswith("_")]
    promised = {name for name in public if name in vars(interface)}
    assert len(promised) > 15
    for name in public:
        text = inspect.getdoc(getattr(kind, name))
        assert text, f"{kind.__name__}.{name} has no docstring"
        assert not text.startswith("See "), f"{kind.__name__}.{name} only points somewhere"
        if name in promised:
            assert text == inspect.getdoc(getattr(interface, name))
