"""Fixtures for pytest: ``pytest_plugins = ["tta_agent_coordination.testing.plugin"]``.

In the conftest.py at the root of your tests; or ``-p tta_agent_coordination.testing.plugin``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tta_agent_coordination.coordinator import RedisMessageCoordinator
from tta_agent_coordination.registry import RedisAgentRegistry
from tta_agent_coordination.testing.clock import Clock
from tta_agent_coordination.testing.faults import Faults
from tta_agent_coordination.testing.sandbox import Sandbox

__all__ = [
    "tta_clock",
    "tta_coordinator",
    "tta_faults",
    "tta_options",
    "tta_registry",
    "tta_sandbox",
]


@pytest.fixture
def tta_options() -> dict[str, Any]:
    """Arguments of the sandbox; override it in a module or conftest of yours."""
    return {}


@pytest.fixture
def tta_sandbox(tta_options: dict[str, Any]) -> Iterator[Sandbox]:
    """A fresh server in memory, and everything around it; closed after the test."""
    with Sandbox(**tta_options) as sandbox:
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
