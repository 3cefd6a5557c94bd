"""Which files the demo works on, and what is asked for each."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import attrs

from tta_agent_coordination import ConfigurationError, MessagePriority

FILES_A_POISON = 200
"""Files for each message that is not Python; there is at least one."""
FILES_A_HIGH = 20
"""One file in so many is urgent."""

_NOT_STANDARD = frozenset({"site-packages", "dist-packages"})
_POISON = "Dear analyst, this is a letter and no Python. Yours, number {}"


@attrs.frozen
class Task:
    """One thing to analyze.

    Attributes:
        file: Its path below the folder, or a made-up name for a poison.
        priority: HIGH overtakes.
        source: The text itself, where there is no file: a poison.
        hold: Whether the first analyst to get it is to be killed over it.
    """

    file: str
    priority: MessagePriority = MessagePriority.NORMAL
    source: str | None = None
    hold: bool = False

    def read(self, folder: Path) -> bytes:
        """Return what is to be analyzed.

        Raises:
            OSError: The file cannot be read.
        """
        return (folder / self.file).read_bytes() if self.source is None else self.source.encode()


def standard_library() -> Path:
    """Return the folder of the running interpreter's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def python_files(folder: Path) -> list[str]:
    """Return the paths of the Python files below `folder`, sorted, without installed packages.

    Raises:
        ConfigurationError: There are none.
    """
    found = sorted(path.relative_to(folder).as_posix() for path in _walk(folder))
    if not found:
        raise ConfigurationError(f"there are no Python files in {str(folder)!r}")
    return found


def plan(folder: Path) -> list[Task]:
    """Return a task for each Python file of `folder`, with some poison in between.

    Raises:
        ConfigurationError: There are no Python files.
    """
    files = python_files(folder)
    tasks = [
        Task(file, _priority(number), hold=number == len(files) // 4)
        for number, file in enumerate(files)
    ]
    poisons = max(1, len(files) // FILES_A_POISON)
    for number in reversed(range(poisons)):
        place = (2 * number + 1) * len(files) // (2 * poisons)
        name = f"poison-{number + 1}"
        tasks.insert(place, Task(name, MessagePriority.HIGH, source=_POISON.format(number + 1)))
    return tasks


def _priority(number: int) -> MessagePriority:
    last_of_group = number % FILES_A_HIGH == FILES_A_HIGH - 1
    return MessagePriority.HIGH if last_of_group else MessagePriority.NORMAL


def _walk(folder: Path) -> Iterator[Path]:
    for home, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NOT_STANDARD]
        for path in (Path(home, name) for name in files if name.endswith(".py")):
            if path.is_file() and _is_text(path):
                yield path


def _is_text(path: Path) -> bool:
    """Whether a message can carry the name, which need not be UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in str(path))
