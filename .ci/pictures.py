"""Print what the README shows of the programs, from a real run: uv run python .ci/pictures.py.

The README keeps the lines that matter of it. For this machine's name the agents give another.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tta_agent_coordination import AgentId, RedisMessageCoordinator
from tta_agent_coordination.embedded import EmbeddedServer

ROOT = Path(__file__).parents[1]
TWO_AGENTS = ROOT / "examples" / "two_agents.py"
COUNTER = AgentId("counter")
TEXT = '{"text": "to be or not to be that is the question"}'
LONGEST = 30.0
TABLE_LINES = 4
MAIN = "from tta_agent_coordination.cli import main; raise SystemExit(main())"
COMMAND = (sys.executable, "-c", MAIN)
AS_HOST_A = """
import runpy, socket, sys
socket.gethostname = lambda: "host-a"  # now, and not in the output, whose columns are as wide as it
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
_REDRAWN = re.compile(r"\x1b\[\d+A\x1b\[J")
_COLOR = re.compile(r"\x1b\[\d*m")


def main() -> None:
    """Run the demo, then the two agents, with the commands that look at them."""
    _show_demo()
    with (
        EmbeddedServer(port=0) as server,
        _serving(server.url),
        RedisMessageCoordinator.from_url(server.url) as coordinator,
    ):
        _show(server.url, "agents", "--once")
        _show(server.url, "send", "author", "counter", TEXT)
        _wait_for_a_dead_letter(coordinator)
        _show(server.url, "dead", "list", "counter")
        _show(server.url, "dead", "replay", "counter")
        _wait_for_a_dead_letter(coordinator)
        _show(server.url, "dead", "list", "counter")


def _show_demo() -> None:
    """Run the demo as on a terminal; of the table that is drawn again, show one moment."""
    shown = bytearray()

    def read(descriptor: int) -> bytes:
        part = os.read(descriptor, 65_536)
        shown.extend(part)
        return part

    with Path(os.devnull).open("wb") as nowhere:
        standard = os.dup(1)
        os.dup2(nowhere.fileno(), 1)
        pty.spawn([*COMMAND, "demo"], read)
        os.dup2(standard, 1)
    print("$ tta-coordination demo")
    for moment in _REDRAWN.split(_COLOR.sub("", shown.decode().replace("\r", ""))):
        lines = moment.splitlines()
        table = next((n for n, line in enumerate(lines) if line.startswith("inbox  ")), len(lines))
        rest = table + TABLE_LINES
        killed = any(line.startswith("killed") for line in lines[:table])
        for line in lines if killed else lines[:table] + lines[rest:]:
            print(line)


@contextmanager
def _serving(url: str) -> Iterator[None]:
    """Have the example serve its agents, and wait until both are registered."""
    command = [sys.executable, "-c", AS_HOST_A, TWO_AGENTS, url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as agents:
        try:
            deadline = time.monotonic() + LONGEST
            while time.monotonic() < deadline and _tell(url, "agents", "--once").count("alive") < 2:
                time.sleep(0.2)
            yield
        finally:
            agents.terminate()


def _wait_for_a_dead_letter(coordinator: RedisMessageCoordinator) -> None:
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline and not coordinator.dead_letters(COUNTER):
        time.sleep(0.1)


def _show(url: str, *arguments: str) -> None:
    shown = [repr(word) if " " in word else word for word in arguments]
    print("$ tta-coordination", *shown)
    print(_tell(url, *arguments))


def _tell(url: str, *arguments: str) -> str:
    told = subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, "TTA_COORDINATION_URL": url},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return told.stdout


if __name__ == "__main__":
    main()
