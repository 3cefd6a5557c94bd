"""Reads keys in pieces, so that no command holds the server up for long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tta_agent_coordination.errors import ConfigurationError
from tta_agent_coordination.migrate.layout import pattern
from tta_agent_coordination.transport.gate import Command
from tta_agent_coordination.transport.link import Link

_KEYS_A_LOOK = 1000
_ENTRIES_A_LOOK = 200

Word = str | int | bytes


class Server:
    """The one server on which both layouts are."""

    def __init__(self, link: Link) -> None:
        """Read through `link`.

        Raises:
            ConfigurationError: It leads to a cluster.
        """
        if link.route().spread:
            raise ConfigurationError(
                "migrate needs one server, because it removes a message there and stores it here "
                "in one step; on a cluster the two are on different nodes. Migrate on a single "
                "server and move its data into the cluster afterwards"
            )
        self._link = link

    def now(self) -> int:
        """Return the server's clock in microseconds since 1970."""
        seconds, microseconds = self._run("TIME")
        return int(seconds) * 1_000_000 + int(microseconds)

    def keys(self, prefix: str) -> list[str]:
        """Return all keys that begin with a prefix and a colon."""
        found = self._scan("SCAN", None, "MATCH", pattern(prefix), "COUNT", _KEYS_A_LOOK)
        return [key.decode("utf-8", "backslashreplace") for key in found]

    def types(self, keys: Iterable[str]) -> list[bytes]:
        """Return the types of keys, as ``TYPE`` says them."""
        commands = [Command(("TYPE", key)) for key in keys]
        return self._link.commands.run("", *commands)

    def scores(self, key: str) -> dict[bytes, float]:
        """Return the members of a sorted set with their scores."""
        found = self._scan("ZSCAN", key, "COUNT", _ENTRIES_A_LOOK)
        return {member: float(score) for member, score in zip(found, found, strict=True)}

    def fields(self, key: str) -> dict[bytes, bytes]:
        """Return the fields of a hash with their values."""
        found = self._scan("HSCAN", key, "COUNT", _ENTRIES_A_LOOK)
        return dict(zip(found, found, strict=True))

    def members(self, key: str) -> list[bytes]:
        """Return the members of a set, sorted."""
        return sorted(set(self._scan("SSCAN", key, "COUNT", _ENTRIES_A_LOOK)))

    def items(self, key: str) -> Iterator[bytes]:
        """Return the elements of a list, from its head."""
        start = 0
        while found := self._run("LRANGE", key, start, start + _ENTRIES_A_LOOK - 1):
            yield from found
            start += _ENTRIES_A_LOOK

    def counts(self, *commands: tuple[Word, ...]) -> list[int]:
        """Return what commands count, in one round trip."""
        return self._link.commands.run("", *(Command(words) for words in commands))

    def run(self, *words: Word) -> Any:
        """Run one command that can be repeated."""
        return self._run(*words)

    def _run(self, *words: Word) -> Any:
        return self._link.commands.run("", Command(words))[0]

    def _scan(self, verb: str, key: str | None, *options: Word) -> Iterator[bytes]:
        place = () if key is None else (key,)
        cursor = b"0"
        while True:
            cursor, found = self._run(verb, *place, cursor, *options)
            yield from found
            if cursor == b"0":
                return
