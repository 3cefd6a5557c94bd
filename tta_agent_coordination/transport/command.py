"""Commands to the server, and how they go over the wire."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import attrs

from tta_agent_coordination.transport.scripts import Script


@attrs.frozen
class Fresh:
    """A word that is made anew each time its command is sent.

    Attributes:
        make: Makes it, within the deadline of the attempt.
    """

    make: Callable[[], int]

    def __str__(self) -> str:
        """Make it."""
        return str(self.make())


@attrs.frozen
class Ready:
    """Words that many commands have in common, packed once.

    Attributes:
        count: How many words.
        packed: The words as they go over the wire.
    """

    count: int
    packed: bytes

    @classmethod
    def of(cls, words: Sequence[Word]) -> Ready:
        """Make words ready."""
        return cls(*_packed(words))


NONE = Ready(0, b"")

Word = bytes | str | int | float | Fresh | Ready
"""Of a command; or several, made ready."""


def _packed(words: Sequence[Word]) -> tuple[int, bytes]:
    """Return how many words there are, and the words as they go over the wire."""
    count = len(words)
    parts: list[bytes] = []
    for word in words:
        if type(word) is int:
            parts.append(_number(word))
        elif isinstance(word, Ready):
            count += word.count - 1
            parts.append(word.packed)
        else:
            data = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return count, b"".join(parts)


@lru_cache(maxsize=1024)  # most numbers are settings, which come again with each command
def _number(number: int) -> bytes:
    data = b"%d" % number
    return b"$%d\r\n%b\r\n" % (len(data), data)


@attrs.define  # not frozen: it is made in half of the time
class Command:
    """One command to the server.

    Attributes:
        words: The command and its arguments, or what comes after the `head`.
        script: The script it calls, so that a server which forgot it can be told again.
        head: What it begins with.
        trailing: Whether it is about the commands before it, and is repeated when they are.
    """

    words: tuple[Word, ...]
    script: Script | None = None
    head: Ready = NONE
    trailing: bool = False

    def packed(self) -> bytes:
        """Return it as it goes over the wire."""
        count, words = _packed(self.words)
        return b"*%d\r\n%b%b" % (self.head.count + count, self.head.packed, words)
