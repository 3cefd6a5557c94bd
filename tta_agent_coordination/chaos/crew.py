"""The processes of a run, as their parent holds them: start, kill, stop, end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Self

from tta_agent_coordination.chaos import child
from tta_agent_coordination.chaos.checker import Window
from tta_agent_coordination.chaos.settings import ChaosError, Settings
from tta_agent_coordination.server_process import launch

START_TIMEOUT = 20.0
"""Seconds that a process may take to begin."""
END_TIMEOUT = 15.0
"""Seconds that processes may take to end when they are told to."""

_LOOK = 0.01
_LAST_WORDS = 2000


def microseconds() -> int:
    """Return the monotonic clock as histories have it."""
    return time.monotonic_ns() // 1000


class Member:
    """One process, and those that it forks; they die with this one, even if that is killed."""

    def __init__(self, settings: Settings) -> None:
        """Start it."""
        self.name = settings.name
        self.role = settings.role
        folder = Path(settings.folder)
        self._diary = folder / f"{self.name}.diary"
        self._log = folder / f"{self.name}.log"
        file = folder / f"{self.name}.json"
        settings.write(file)
        # -P: nothing in the folder of the file is taken for a module.
        command = [sys.executable, "-P", str(child.__file__), str(file)]
        self._process = launch(command, self._log)
        self.pid = self._process.pid

    def await_begin(self) -> None:
        """Return once it listens to signals.

        Raises:
            ChaosError: It ended, or did not begin in `START_TIMEOUT`.
        """
        end = time.monotonic() + START_TIMEOUT
        while not self._diary.exists():
            if self._process.poll() is not None or time.monotonic() > end:
                raise ChaosError(f"process {self.name} did not begin: {self.last_words}")
            time.sleep(_LOOK)

    @property
    def last_words(self) -> str:
        """The end of what it wrote to its log; nothing but errors goes there."""
        return self._log.read_text(errors="replace")[-_LAST_WORDS:].strip()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        if self._process.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it with SIGKILL, and all that it forked."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.communicate()

    def stop(self) -> None:
        """Let it do nothing from now on; it notices nothing of that."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a `stop`."""
        self.signal(signal.SIGCONT)

    def await_end(self, deadline: float) -> str:
        """Wait until it has ended, and return what is to be said against it.

        Args:
            deadline: When it is killed if it has not, on the monotonic clock.
        """
        try:
            self._process.wait(max(deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGUSR2)  # it writes down where its threads are
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.5)
            self.kill()
            return f"did not end when it was told to: {self.last_words}"
        self._process.communicate(b"\n")
        if self._process.returncode or self.last_words:
            return f"ended with status {self._process.returncode}: {self.last_words}"
        return ""


class Crew:
    """The processes of one scenario, in one folder; none is left when the ``with`` block is."""

    def __init__(
        self, url: str, prefix: str, folder: Path, dice: random.Random, *, replicas: int = 0
    ) -> None:
        """Start nothing yet.

        Args:
            url: Where the processes find the server.
            prefix: Of the keys.
            folder: Takes diaries and logs; private.
            dice: Decides all that is random, the seeds of the processes included.
            replicas: How many replicas must have what is sent.
        """
        self.members: list[Member] = []
        self.killed: set[str] = set()
        self.stops: list[Window] = []
        self.folder = folder
        self._where = (url, prefix, str(folder))
        self._dice = dice
        self._replicas = replicas
        self._numbers = count()

    def add(self, role: str, *, clock: float = 0.0) -> Member:
        """Start a process whose clock is wrong by so many hours."""
        name = f"{role}{next(self._numbers)}"
        settings = Settings(
            *self._where, name, role, self._dice.getrandbits(32), clock, self._replicas
        )
        member = Member(settings)
        self.members.append(member)
        return member

    def of(self, *roles: str) -> list[Member]:
        """Return those that play one of these roles."""
        return [member for member in self.members if member.role in roles]

    def await_begin(self) -> None:
        """Return once all have begun."""
        for member in self.members:
            member.await_begin()

    def replace(self, victim: Member, *, clock: float = 0.0) -> Member:
        """Kill a process, and start another in its place."""
        self.members.remove(victim)
        victim.kill()
        self.killed.add(victim.name)
        return self.add(victim.role, clock=clock)

    def suspend(self, member: Member) -> int:
        """Stop a process; return when, for `resume`."""
        member.stop()
        return microseconds()

    def resume(self, member: Member, since: int) -> None:
        """Let a process go on, and note how long it did not."""
        self.stops.append(Window(since, microseconds(), member.name))
        member.go_on()

    def end(self, *roles: str) -> list[str]:
        """Tell all of these roles to finish; return what is to be said against them."""
        ending = self.of(*roles)
        for member in ending:
            member.await_begin()
            member.signal(signal.SIGTERM)
        deadline = time.monotonic() + END_TIMEOUT
        found = {member.name: member.await_end(deadline) for member in ending}
        self.members = [member for member in self.members if member not in ending]
        return [f"process {name} {said}" for name, said in found.items() if said]

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill what is left."""
        for member in self.members:
            member.kill()
