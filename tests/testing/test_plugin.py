"""The fixtures, as pytest finds them: in processes of their own."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.code_blocks import block
from tta_agent_coordination import ConfigurationError
from tta_agent_coordination.testing import Sandbox
from tta_agent_coordination.testing import sandbox as sandbox_module

ROOT = Path(__file__).parents[2]
PLUGIN = "tta_agent_coordination.testing.plugin"
CONFTEST = f'docs/testing-your-agents.md: pytest_plugins = ["{PLUGIN}"]'


def run_pytest(
    folder: Path, *arguments: str | Path, plugin: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run pytest as a user does; every warning is an error."""
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", *arguments]
    command += ["-p", PLUGIN] if plugin else []
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=60.0,
        check=False,
    )


def test_the_example_passes_in_a_project_of_its_own(tmp_path: Path) -> None:
    for example in (ROOT / "examples").glob("test_*.py"):
        (tmp_path / example.name).write_text(example.read_text("utf-8"), "utf-8")
    (tmp_path / "conftest.py").write_text(block(CONFTEST).text, "utf-8")

    ended = run_pytest(tmp_path, plugin=False)

    assert ended.returncode == 0, ended.stdout
    assert "7 passed" in ended.stdout


FIXTURES = """
import threading
import pytest
from tta_agent_coordination import AgentId, AgentMessage

A, B = AgentId("a"), AgentId("b")

@pytest.fixture
def tta_options():
    return {"key_prefix": "mine", "coordinator": {"queue_size": 1}}

@pytest.mark.parametrize("again", [1, 2])
def test_each_test_has_a_server_of_its_own(
    again, tta_sandbox, tta_coordinator, tta_registry, tta_clock, tta_faults
):
    assert tta_sandbox.redis.keys() == []
    assert tta_coordinator.send_message(A, B, AgentMessage(A, B)).delivered
    assert not tta_coordinator.send_message(A, B, AgentMessage(A, B)).delivered
    assert all(key.startswith(b"mine:") for key in tta_sandbox.redis.keys())
    assert tta_coordinator is tta_sandbox.coordinator
    assert tta_registry is tta_sandbox.registry
    assert tta_clock is tta_sandbox.clock
    assert tta_faults is tta_sandbox.faults
    tta_registry.start_heartbeats()
    assert len(threading.enumerate()) > 1

def test_no_thread_is_left():
    assert threading.enumerate() == [threading.main_thread()]
"""


def test_each_test_has_a_server_of_its_own_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "test_fixtures.py").write_text(FIXTURES, "utf-8")

    ended = run_pytest(tmp_path, "-p", "no:randomly")

    assert ended.returncode == 0, ended.stdout
    assert "3 passed" in ended.stdout


def test_a_conftest_can_ask_for_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(f"pytest_plugins = [{PLUGIN!r}]", "utf-8")
    (tmp_path / "test_fixtures.py").write_text(FIXTURES, "utf-8")

    ended = run_pytest(tmp_path, plugin=False)

    assert ended.returncode == 0, ended.stdout


def test_every_fixture_is_listed_with_what_it_is(tmp_path: Path) -> None:
    ended = run_pytest(tmp_path, "--fixtures")

    lines = ended.stdout.splitlines()
    listed = {
        line.split()[0]: told.strip() for line, told in pairwise(lines) if line.startswith("tta_")
    }
    assert sorted(listed) == [
        *("tta_clock", "tta_coordinator", "tta_faults", "tta_options"),
        *("tta_registry", "tta_sandbox"),
    ]
    assert all(told.endswith(".") for told in listed.values()), listed


def test_without_the_extra_a_sandbox_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tta_agent_coordination.testing.fake", raising=False)
    monkeypatch.delattr(sys.modules["tta_agent_coordination.testing"], "fake", raising=False)
    monkeypatch.setitem(sys.modules, "fakeredis", None)

    with pytest.raises(ConfigurationError, match=r"tta-agent-coordination\[testing\]"):
        Sandbox()

    assert sandbox_module.DEFAULT_DRAIN_TIMEOUT > 0


def test_a_sandbox_can_be_closed_twice_and_leaves_nothing() -> None:
    sandbox = Sandbox()
    sandbox.redis.set("mine", "1")

    sandbox.close()
    sandbox.close()

    assert sandbox.redis.dbsize() == 0
    sandbox.redis.close()
