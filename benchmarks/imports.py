"""What the import of the package takes, and that it starts and opens nothing."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.report import Row, at_most
from benchmarks.server import Ground

# Descriptors and threads are counted by the system's own means: a module that counts them
# would be paid for before the clock starts.
_PROBE = """
import os, sys, time, _thread
def descriptors():
    return {n for n in range(256) if _is_open(n)}
def _is_open(n):
    try: os.fstat(n)
    except OSError: return False
    return True
seen = []
def audit(event, args):
    if event in ("socket.__new__", "socket.connect", "_thread.start_new_thread"):
        seen.append(event)
    elif event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        seen.append(f"open {args[0]} to write")
before = descriptors()
sys.addaudithook(audit)
start = time.perf_counter()
import tta_agent_coordination
seconds = time.perf_counter() - start
left = sorted(map(str, descriptors() - before))
sys.stdout.write(__import__("json").dumps(
    {"seconds": seconds, "opened": seen + left, "threads": len(sys._current_frames())}))
"""


def importing(ground: Ground) -> Iterator[Row]:
    """In a new interpreter each time, from compiled files that the system has in its cache."""
    runs = [_run() for _ in range(ground.rounds * 2 + 1)][1:]
    opened = sorted({name for run in runs for name in run["opened"]})
    threads = max(run["threads"] for run in runs) - 1
    yield at_most(
        "import of the package", statistics.median(run["seconds"] for run in runs) * 1000, 150,
        "ms", "",
    )  # fmt: skip
    after = [_run("import redis\n")["seconds"] for _ in range(ground.rounds)]
    yield Row(
        "the same in a program that has imported redis-py",
        f"{statistics.median(after) * 1000:.2f} ms",
        figures={"value": statistics.median(after) * 1000},
    )
    yield Row(
        "threads, sockets and files that the import leaves",
        f"{threads} threads; {', '.join(opened) or 'nothing opened'}",
        "none",
        not opened and not threads,
    )


def _run(first: str = "") -> dict[str, Any]:
    # Compiled files are kept, whatever the environment says: that is how programs start.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with_cache = env | {"PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "tta-bench-cache")}
    done = subprocess.run(
        [sys.executable, "-c", first + _PROBE],
        check=True,
        capture_output=True,
        text=True,
        env=with_cache,
    )
    return json.loads(done.stdout)
