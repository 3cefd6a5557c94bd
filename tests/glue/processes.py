"""Servers of web applications, and other programs of a user's, as processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.workers.given import LONG

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
START = 30.0
"""Seconds that a program may take until it does what it is for."""


class Answer(NamedTuple):
    status: int
    body: Any


class Program:
    """A program that runs until it is ended."""

    def __init__(
        self, *command: str, cwd: Path, env: dict[str, str], pass_fds: tuple[int, ...] = ()
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=cwd,
            env={**os.environ, "PYTHONWARNINGS": "ignore", **env},
            pass_fds=pass_fds,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def end(self) -> str:
        """End it with SIGTERM; return what it wrote."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            written, _ = self._process.communicate(timeout=START)
        except subprocess.TimeoutExpired:
            self._process.kill()
            written, _ = self._process.communicate()
            raise AssertionError(f"it does not end: {written}") from None
        return written

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class WebServer(Program):
    """A server on 127.0.0.1; requests wait in the backlog until it is up."""

    _direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __init__(self, *command: str, cwd: Path, env: dict[str, str]) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        number = listening.fileno()
        words = [word.format(fd=number) for word in command]
        with listening:
            super().__init__(*words, cwd=cwd, env=env, pass_fds=(number,))

    def ask(self, path: str, **form: Any) -> Answer:
        """GET a path, or POST a form to it."""
        data = urllib.parse.urlencode(form).encode() if form else None
        return self._open(urllib.request.Request(f"{self.url}{path}", data))

    def read(self, path: str) -> str:
        """GET a path that is there and answers with text."""
        with self._direct.open(f"{self.url}{path}", timeout=START) as reply:
            return reply.read().decode()

    def post_json(self, path: str, document: Any) -> Answer:
        headers = {"Content-Type": "application/json"}
        data = json.dumps(document).encode()
        return self._open(urllib.request.Request(f"{self.url}{path}", data, headers))

    def curl(self, path: str, *options: str) -> str:
        """Do what ``curl`` does with these options, of which -H and -d are known."""
        given = dict(zip(options[::2], options[1::2], strict=True))
        data, header = given.pop("-d", None), given.pop("-H", "Accept: */*")
        assert not given, f"nothing is known of {given}"
        headers = dict([header.split(": ")])
        body = None if data is None else data.encode()
        asked = urllib.request.Request(f"{self.url}{path}", body, headers)
        try:
            with self._direct.open(asked, timeout=START) as reply:
                return reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode()

    def _open(self, request: urllib.request.Request) -> Answer:
        try:
            with self._direct.open(request, timeout=START) as reply:
                return Answer(reply.status, json.load(reply))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, json.load(error))


def gunicorn(app: str, *more: str, cwd: Path, workers: int = 3, **env: str) -> WebServer:
    """Start gunicorn, which loads the application before it forks its workers."""
    options = ("--preload", "--workers", str(workers), "--threads", "2", "--bind", "fd://{fd}")
    quick = ("--graceful-timeout", str(int(LONG)), "--no-control-socket")
    return WebServer("-m", "gunicorn", *options, *quick, *more, app, cwd=cwd, env=env)
