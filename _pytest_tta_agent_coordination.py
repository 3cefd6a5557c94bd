"""Fixtures for pytest: see ``tta_agent_coordination.testing``.

pytest imports this module at the start of every run, so it lies outside of the package and imports
nothing of it before a fixture is used. PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tta_agent_coordination import RedisAgentRegistry, RedisMessageCoordinator
    from tta_agent_coordination.testing import Clock, Faults, Sandbox


@pytest.fixture
def tta_options() -> dict[str, Any]:
    """Arguments of the sandbox; override it in a module or conftest of yours."""
    return {}


@pytest.fixture
def tta_sandbox(tta_options: dict[str, Any]) -> Iterator[Sandbox]:
    """A fresh server in memory, and everything around it; closed after the test."""
    testing: Any = importlib.import_module("tta_agent_coordination.testing")
    with testing.Sandbox(**tta_options) as sandbox:
        yield sandbox


@pytest.fixture
def tta_coordinator(tta_sandbox: Sandbox) -> RedisMessageCoordinator:
    """The coordinator of the sandbox."""
    return tta_sandbox.coordinator


@pytest.fixture
def tta_registry(tta_sandbox: Sandbox) -> RedisAgentRegistry:
    """The registry of the sandbox."""
    return tta_sandbox.registry


@pytest.fixture
def tta_clock(tta_sandbox: Sandbox) -> Clock:
    """The clock of the sandbox's server."""
    return tta_sandbox.clock


@pytest.fixture
def tta_faults(tta_sandbox: Sandbox) -> Faults:
    """What goes wrong on the way to the sandbox's server."""
    return tta_sandbox.faults
