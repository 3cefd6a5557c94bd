"""What becomes of a message in this library and in others when a worker dies, or a reply is lost.

Run it with ``uv run --group bench --with 'celery[redis]' --with rq python -m benchmarks.failures``.
Each system runs with its own worker program and the options that it comes with; only "celery-late"
is set to ``task_acks_late`` and a visibility timeout of 30 s. A trial waits for long, up to
``--seconds`` (960), and uses next to no processor meanwhile; all of them run side by side.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import attrs
import psutil
import redis

from tta_agent_coordination.embedded import EmbeddedServer
from tta_agent_coordination.proxy import Command, FaultProxy

SYSTEMS = ("ours", "dramatiq", "huey", "rq", "celery", "celery-late")
STARTED_WITHIN = 30.0
QUIET = 10.0
"""Seconds without a further run after which a task is taken not to run any more."""
Process = subprocess.Popen[bytes]


@attrs.define
class Stage:
    """A server, a file of what ran, and the workers of one trial."""

    system: str
    folder: Path
    url: str
    workers: list[Process] = attrs.field(factory=list)

    @property
    def runs(self) -> list[str]:
        """One word for each time that the task ran."""
        log = self.folder / "log"
        return log.read_text("utf-8").splitlines() if log.exists() else []

    def environment(self, send_url: str) -> dict[str, str]:
        """Return what `benchmarks.failing_apps` reads."""
        return {
            **os.environ,
            "FAILURES_SYSTEM": self.system,
            "FAILURES_URL": self.url,
            "FAILURES_SEND_URL": send_url,
            "FAILURES_LOG": str(self.folder / "log"),
        }

    def send(self, what: str) -> None:
        """Send a task from a process of its own."""
        assert self.start_sender(what, through=self.url).wait(60) == 0

    def start_sender(self, *whats: str, through: str, go: Path | None = None) -> Process:
        """Start a process that sends tasks; before the second it waits for the file `go`.

        What ends with an error is sent once more, as a caller would; the process fails then.
        """
        code = f"""
import pathlib, sys, time
import benchmarks.failing_apps as app
failed = False
for number, what in enumerate({whats!r}):
    if number:
        pathlib.Path({str(self.folder / "first")!r}).touch()
        while not pathlib.Path({str(go)!r}).exists():
            time.sleep(0.05)
    try:
        app.send(what)
    except Exception:
        failed = True
        app.send(what)
sys.exit(failed)
"""
        return self._run("-c", code, send_url=through)

    def start_worker(self) -> Process:
        """Start the system's own worker program."""
        code = "import benchmarks.failing_apps as app; print(app.COMMAND)"
        command = subprocess.run(
            [sys.executable, "-c", code],
            env=self.environment(self.url),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        worker = self._run(*command, send_url=self.url)
        self.workers.append(worker)
        return worker

    def start_traffic(self) -> None:
        """Start a process that sends quick tasks on and on; it ends with the workers."""
        code = """
import time
import benchmarks.failing_apps as app
while True:
    app.send("quick")
    time.sleep(0.02)
"""
        self.workers.append(self._run("-c", code, send_url=self.url))

    def failed_jobs(self) -> str:
        """Say what rq keeps of jobs that failed."""
        if self.system != "rq":
            return ""
        with redis.Redis.from_url(self.url) as client:
            return f"; failed jobs: {client.zcard('rq:failed:default')}"

    def stop(self) -> None:
        """Kill what is left of the workers."""
        for worker in self.workers:
            kill(worker)

    def _run(self, *arguments: str, send_url: str) -> Process:
        with (self.folder / "output").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, *arguments],
                env=self.environment(send_url),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )


def kill(worker: Process) -> None:
    """Kill a worker and the processes that it started, as a machine that goes out does."""
    if worker.poll() is None:
        children = psutil.Process(worker.pid).children(recursive=True)
        worker.kill()
        for child in children:
            if child.is_running():
                child.kill()
    worker.wait()


def within(seconds: float, condition: Callable[[], bool]) -> float | None:
    """Return after how many seconds the condition held; None if it never did."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if condition():
            return time.monotonic() - began
        time.sleep(0.2)
    return None


def worker_killed(stage: Stage, seconds: float, *, busy: bool = False) -> str:
    """Kill a worker over a task, start another, and wait for the task to run again."""
    first = stage.start_worker()
    stage.send("long")
    if within(STARTED_WITHIN, lambda: stage.runs == ["long"]) is None:
        return "did not start"
    time.sleep(2.0)
    kill(first)
    stage.start_worker()
    if busy:
        stage.start_traffic()
    again = within(seconds, lambda: stage.runs.count("long") > 1)
    failed = stage.failed_jobs()
    return (
        f"not again within {seconds:.0f} s{failed}"
        if again is None
        else f"again after {again:.0f} s"
    )


def worker_killed_busy(stage: Stage, seconds: float) -> str:
    """Do the same on a queue that has some 50 other tasks a second."""
    return worker_killed(stage, seconds, busy=True)


def deadly_task(stage: Stage, seconds: float) -> str:
    """Send a task that kills the process it runs in, and start a worker whenever there is none."""
    stage.send("deadly")
    worker = stage.start_worker()
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if worker.poll() is not None:
            worker = stage.start_worker()
        time.sleep(0.5)
    return f"{len(stage.runs)} runs in {seconds:.0f} s{stage.failed_jobs()}"


def storing() -> Callable[[Command], bool]:
    """Return what tells the command that stores a task from those around it."""
    in_transaction = False

    def stores(command: Command) -> bool:
        nonlocal in_transaction
        in_transaction |= command.name == "RPUSH"  # rq's, whose reply is that of EXEC
        return command.name in ("LPUSH", "EVALSHA") or (command.name == "EXEC" and in_transaction)

    return stores


def reply_lost(stage: Stage, seconds: float) -> str:
    """Lose the reply to the second of two sends, and count how often it runs."""
    port = int(stage.url.rpartition(":")[2].partition("/")[0])
    go = stage.folder / "go"
    with FaultProxy(("127.0.0.1", port)) as proxy:
        sender = stage.start_sender("quick", "quick", through=proxy.url, go=go)
        # Scripts are loaded and queues declared; it waits for `go` with its connections open.
        within(STARTED_WITHIN, (stage.folder / "first").exists)
        fault = proxy.drop_reply_of(storing())
        go.touch()
        told = sender.wait(60) == 0
        assert fault.used_up, "no reply was lost"
    stage.start_worker()
    within(STARTED_WITHIN, lambda: len(stage.runs) >= 2)
    known = -1
    while len(stage.runs) != known:
        known = len(stage.runs)
        time.sleep(min(QUIET, seconds))
    return f"{known - 1} runs; the sender saw {'no error' if told else 'an error, and sent again'}"


TRIALS = {
    "worker killed": worker_killed,
    "worker killed, busy queue": worker_killed_busy,
    "deadly task": deadly_task,
    "reply lost": reply_lost,
}


def trial(name: str, system: str, seconds: float) -> str:
    """Play one trial on a server of its own."""
    with (
        EmbeddedServer(port=0) as server,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
    ):
        stage = Stage(system, Path(folder), server.url)
        try:
            found = TRIALS[name](stage, seconds)
        finally:
            stage.stop()
        if "-v" in sys.argv:
            print((stage.folder / "output").read_text("utf-8", "replace")[-3_000:])
        return found


def main() -> None:
    """Play all trials side by side and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=960.0)
    parser.add_argument("--only", action="append", choices=list(TRIALS))
    parser.add_argument("--system", action="append", choices=SYSTEMS)
    parser.add_argument("-v", action="store_true")
    arguments = parser.parse_args()
    pairs = [
        (name, system)
        for name in arguments.only or TRIALS
        for system in arguments.system or SYSTEMS
    ]
    with ThreadPoolExecutor(len(pairs)) as threads:
        found = [threads.submit(trial, *pair, arguments.seconds) for pair in pairs]
    packages = ("tta-agent-coordination", "dramatiq", "huey", "rq", "celery", "kombu", "redis")
    print(", ".join(f"{name} {version(name)}" for name in packages))
    for pair, answer in zip(pairs, found, strict=True):
        print("| " + " | ".join([*pair, answer.result()]) + " |")


if __name__ == "__main__":
    main()
