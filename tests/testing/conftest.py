"""A sandbox, and agents that the tests share."""

from collections.abc import Iterator

import pytest

from tta_agent_coordination.testing import Sandbox


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(coordinator={"call_timeout": 1.0}) as sandbox:
        yield sandbox
