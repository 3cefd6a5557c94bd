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


Word = bytes | str | int | float | Fresh
"""Of a command."""


def packed(words: Sequence[Word]) -> bytes:
    """Return words as they go over the wire, each with its length."""
    parts: list[bytes] = []
    for word in words:
        if type(word) is int:
            parts.append(_packed_number(word))
        else:
            data = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


@lru_cache(maxsize=1024)  # most numbers are settings, which come again with each command
def _packed_number(number: int) -> bytes:
    data = b"%d" % number
    return b"$%d\r\n%b\r\n" % (len(data), data)


@attrs.frozen
class Head:
    """The words that many commands begin with, made ready once.

    Attributes:
        count: How many words.
        packed: The words as they go over the wire.
    """

    count: int
    packed: bytes

    @classmethod
    def of(cls, words: Sequence[Word]) -> Head:
        """Make words ready."""
        return cls(len(words), packed(words))


NO_HEAD = Head(0, b"")


@attrs.frozen
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
    head: Head = NO_HEAD
    trailing: bool = False

    def packed(self) -> bytes:
        """Return it as it goes over the wire."""
        head = self.head
        return b"*%d\r\n%b%b" % (head.count + len(self.words), head.packed, packed(self.words))
