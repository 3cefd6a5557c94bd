"""Run a Redis or Valkey server that ends with the process that started it, however that ends.

A shell beside the server reads a pipe that only that process and its forks hold open, and kills
the server when it breaks. Linux's parent-death signal follows a thread, not the process.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import quote

from tta_agent_coordination.errors import ConfigurationError, CoordinatorUnavailableError

__all__ = [
    "DEFAULT_START_TIMEOUT",
    "STOP_TIMEOUT",
    "ServerProcess",
    "free_port",
    "launch",
    "run_server",
]

DEFAULT_START_TIMEOUT = 10.0
"""Seconds a server may take until it answers."""

STOP_TIMEOUT = 5.0
"""Seconds a server may take to end by itself before it is killed."""

_PROBE_INTERVAL = 0.005
_PROBE_TIMEOUT = 0.25
_LOG_LINES = 5
_IN_USE = os.strerror(errno.EADDRINUSE)
_PORTS = range(20_000, 32_768)
_SOCKET_PATH_LIMIT = 103  # bytes, on macOS; Linux allows four more
_SETTINGS = ("--daemonize", "no", "--logfile", "", "--save", "", "--appendonly", "no")

# $0 is a directory to remove, or empty. A line on the pipe sends the watching subshell home.
_LAUNCH = """\
exec 3<&0 </dev/null
(read -r _ <&3 || { rm -rf -- "$0"; kill -KILL 0; }) &
exec "$@" 3<&-
"""

_Address = str | tuple[str, int]


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody uses at this moment.

    It is below those that systems hand to outgoing connections, one of which could take it.

    Raises:
        CoordinatorUnavailableError: None of a hundred ports tried can be used.
    """
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise CoordinatorUnavailableError("no port of 127.0.0.1 can be used: give a directory instead")


class ServerProcess:
    """A running server that `run_server` started; it ends with `stop`, or with this object.

    Attributes:
        pid: Process id of the server, kept after its end.
        url: Its ``unix://`` or ``redis://`` URL.
    """

    def __init__(self, process: subprocess.Popen[bytes], url: str, owned_directory: str) -> None:
        """Watch over ``process``; ``owned_directory``, if not empty, is removed at its end."""
        self.pid = process.pid
        self.url = url
        self._process = process
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._end = weakref.finalize(self, _end, process, owned_directory, self._owner)

    @property
    def is_running(self) -> bool:
        """Whether the server runs, as seen by the process that started it (False elsewhere)."""
        return os.getpid() == self._owner and self._process.poll() is None

    def stop(self) -> None:
        """End the server, within `STOP_TIMEOUT` seconds, and return when it is gone.

        Idempotent, safe from any thread; does nothing in a process forked since the start.
        """
        with self._lock:
            self._end()


def _end(process: subprocess.Popen[bytes], owned_directory: str, owner: int) -> None:
    if os.getpid() != owner:
        return
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate(b"\n")
    shutil.rmtree(owned_directory, ignore_errors=True)


def run_server(
    binary: Path,
    *,
    directory: Path | None = None,
    port: int | None = None,
    arguments: Sequence[str] = (),
    config: Path | None = None,
    start_timeout: float = DEFAULT_START_TIMEOUT,
) -> ServerProcess:
    """Start a server for this process and those it tells, and wait until it answers.

    It keeps nothing on disk, logs to ``server.log``, and never gets the terminal's Ctrl-C.

    Args:
        binary: The server's executable.
        directory: Where it runs; made (mode 0700) if missing. None: a private temporary
            directory that goes with the server.
        port: TCP port on 127.0.0.1; None: only a unix socket, ``server.sock`` in the directory.
        arguments: As on the server's command line (``"--maxmemory", "64mb"``); they win.
        config: A configuration file, which a ``--sentinel`` must have.
        start_timeout: Seconds to wait for its first answer.

    Raises:
        ConfigurationError: The server refused to start; the message ends with its log, or with what
            it says of a port in use.
        CoordinatorUnavailableError: It did not answer within ``start_timeout``.
    """
    with ExitStack() as undo:
        owned = tempfile.mkdtemp(prefix="tta-coordination-") if directory is None else ""
        undo.callback(shutil.rmtree, owned, ignore_errors=True)
        home = Path(directory or owned).absolute()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        address = _socket_path(home) if port is None else ("127.0.0.1", port)
        files = () if config is None else (str(config),)
        command = [str(binary), *files, *_SETTINGS, "--dir", str(home), *_listen(address)]
        process = launch([*command, *arguments], home / "server.log", owned)
        server = ServerProcess(process, _url(address), owned)
        undo.callback(server.stop)
        _await_answer(server, address, home / "server.log", start_timeout)
        undo.pop_all()
    return server


def launch(command: Sequence[str], log: Path, owned_directory: str = "") -> subprocess.Popen[bytes]:
    """Start a command that is killed when this process ends, however that ends.

    So is what the command starts or forks: all of it is one process group. A line written to its
    standard input ends that bond; the command itself has none to read.

    Args:
        command: The program, by its path, and its arguments.
        log: Takes what it writes; it runs in the directory of that file.
        owned_directory: Is removed when it is killed so; empty for none.
    """
    with log.open("wb") as output:
        return subprocess.Popen(
            ["/bin/sh", "-c", _LAUNCH, owned_directory, *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            start_new_session=True,
        )


def _socket_path(directory: Path) -> str:
    path = str(directory / "server.sock")
    if len(os.fsencode(path)) > _SOCKET_PATH_LIMIT:
        raise ConfigurationError(
            f"{path!r} is too long for a unix socket (at most {_SOCKET_PATH_LIMIT} bytes): "
            "give a shorter directory, or a port"
        )
    return path


def _listen(address: _Address) -> tuple[str, ...]:
    if isinstance(address, str):
        return ("--port", "0", "--unixsocket", address, "--unixsocketperm", "700")
    return ("--bind", address[0], "--port", str(address[1]))


def _url(address: _Address) -> str:
    if isinstance(address, str):
        return f"unix://{quote(address)}"
    return f"redis://{address[0]}:{address[1]}"


def _await_answer(server: ServerProcess, address: _Address, log: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not _answers(address, server.pid):
        if not server.is_running:
            raise ConfigurationError(f"the server did not start: {_why(log, address)}")
        if time.monotonic() > deadline:
            text = f"the server did not answer within {timeout} s: {_last_lines(log)}"
            raise CoordinatorUnavailableError(text)
        pause.wait(_PROBE_INTERVAL)


def _answers(address: _Address, pid: int) -> bool:
    """Whether process ``pid`` serves there; another server may hold the port."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as probe, suppress(OSError):
        probe.settimeout(_PROBE_TIMEOUT)
        probe.connect(address)
        probe.sendall(b"PING\r\nINFO server\r\n")
        reply = probe.recv(4096)
        ours = reply.startswith(b"+PONG") and b"\nprocess_id:%d\r" % pid in reply
        return ours or reply.startswith(b"-NOAUTH")
    return False


def _why(log: Path, address: _Address) -> str:
    if not isinstance(address, str) and _IN_USE in log.read_text(errors="replace"):
        return f"{address[0]}:{address[1]}: {_IN_USE}"  # of its log, all that is of use
    return _last_lines(log)


def _last_lines(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
