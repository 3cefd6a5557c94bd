"""Starts, reads and ends the processes of `tests.registry.process`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from tests.registry.given import PATIENCE
from tta_agent_coordination import AgentId

ROOT = Path(__file__).parents[2]


class AgentProcess:
    """A process with one agent.

    Attributes:
        epoch: Of its registration.
        given: The states that it was given.
    """

    def __init__(
        self,
        url: str,
        prefix: str,
        agent_id: AgentId,
        *,
        ttl: float,
        state: dict[str, Any] | None = None,
        clock: float = 0.0,
    ) -> None:
        words = [url, prefix, str(agent_id), str(ttl), json.dumps(state), f"--clock={clock}"]
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.registry.process", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        word, epoch, given = self.line().split(" ", 2)
        assert word == "registered"
        self.epoch, self.given = int(epoch), json.loads(given)

    def line(self) -> str:
        """The next line that it says."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.communicate()

    def end(self, word: str = "") -> None:
        """Tell it to end, and fail unless it does so in good order."""
        self._process.communicate(f"{word}\n", timeout=PATIENCE)
        assert self._process.returncode == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()
