"""Starts a process of `worker`, stops it, talks with it, and ends it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
END_TIMEOUT = 15.0
"""Seconds a process may take to end when it is told to."""


class Member:
    """One process."""

    def __init__(self, role: str, url: str, prefix: str, *, clock: float = 0.0) -> None:
        """Start it, with a clock that is wrong by so many hours."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.processes.worker", role, url, prefix, str(clock)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.communicate()

    def stop(self) -> None:
        """Let it do nothing from now on; it notices nothing of that."""
        os.kill(self._process.pid, signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)

    def go_on(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def line(self) -> str:
        """Return the next line that it says."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def tell(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> tuple[int, str]:
        """Wait for its end, and return its exit status and what it had to complain of."""
        _, complaints = self._process.communicate(timeout=END_TIMEOUT)
        return self._process.returncode, complaints
