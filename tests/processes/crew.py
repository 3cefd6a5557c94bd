"""Starts the processes of `worker`, kills some of them, and ends them all."""

import os
import random
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
END_TIMEOUT = 15.0
"""Seconds a process may take to end when it is told to."""


class Member:
    """One process."""

    def __init__(self, name: str, role: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self.role = role
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.communicate()

    def stop(self) -> None:
        """Let it do nothing from now on; it notices nothing of that."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def line(self) -> str:
        """Return the next line that it says."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def tell(self, line: str = "") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def end(self) -> tuple[int, str]:
        """Tell it to finish, and return its exit status and what it had to complain of."""
        try:
            _, complaints = self._process.communicate("\n", timeout=END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL, "it did not end when it was told to"
        return self._process.returncode, complaints


class Crew:
    """Processes on one inbox of one server, with a folder for their diaries."""

    def __init__(self, url: str, prefix: str, folder: Path, seed: int) -> None:
        self.dice = random.Random(seed)
        self.members: list[Member] = []
        self.killed: set[str] = set()
        self._options = ("--url", url, "--prefix", prefix, "--folder", str(folder))
        self._numbers = count()

    def add(self, role: str, *, clock: float = 0.0) -> Member:
        """Start a process whose clock is wrong by so many hours."""
        name = f"{role}{next(self._numbers)}"
        own = ("--name", name, "--seed", str(self.dice.getrandbits(32)), "--clock", str(clock))
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.processes.worker", role, *self._options, *own],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        member = Member(name, role, process)
        self.members.append(member)
        return member

    def replace_one(self) -> None:
        """Kill a process and start another in its place."""
        victim = self.dice.choice(self.members)
        self.members.remove(victim)
        victim.kill()
        self.killed.add(victim.name)
        self.add(victim.role, clock=self.dice.choice((-1.0, 0.0, 1.0)))

    def end(self) -> None:
        """Tell all to finish, and fail if one of them does not do so in good order."""
        members, self.members = self.members, []
        endings = {member.name: member.end() for member in members}
        bad = {name: ending for name, ending in endings.items() if ending != (0, "")}
        assert not bad, f"processes failed: {bad}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.kill()
