"""What the commands have in common: their options, and the way to the server."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from typing import Any, NoReturn, Protocol, TypeVar

from tta_agent_coordination import (
    AgentId,
    RedisAgentRegistry,
    RedisMessageCoordinator,
    checks,
)
from tta_agent_coordination.glue.settings import DEFAULT_URL, URL_VARIABLE
from tta_agent_coordination.keys import DEFAULT_KEY_PREFIX, Keys

T = TypeVar("T")

PREFIX_VARIABLE = "TTA_COORDINATION_KEY_PREFIX"
MOST_PORT = 65_535

_LOGIN = re.compile(r"//\S*@")


class Commands(Protocol):
    """What commands are added to: the subparsers of argparse."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        """Add a command."""
        ...


class Parser(argparse.ArgumentParser):
    """A parser that tells what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: {one_line(message)}; see {self.prog} --help\n")


def one_line(message: str) -> str:
    """Return an error on one line, without what may be a password in a URL."""
    return _LOGIN.sub("//***@", " ".join(message.split()))


def argument(convert: Callable[[str], T]) -> Callable[[str], T]:
    """Return a type of argument; what `convert` raises says what is wrong with the text."""

    def read(text: str) -> T:
        try:
            return convert(text)
        except (TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is no whole number of at least 0")
    return int(text)


def _port(text: str) -> int:
    number = _count(text)
    if number > MOST_PORT:
        raise ValueError(f"{text!r} is no port: they go up to {MOST_PORT}")
    return number


agent_id = argument(AgentId.parse)
count = argument(_count)
port = argument(_port)
seconds = argument(lambda text: checks.duration("the number", float(text)))
prefix = argument(lambda text: Keys(text).prefix)
message_bytes = argument(lambda text: checks.count("the number", _count(text), least=64))


def add_inbox(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names an inbox."""
    parser.add_argument("inbox", type=agent_id, metavar="ID", help="type or type:instance")


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that talks to a server."""
    common = parser.add_argument_group("server and output")
    common.add_argument(
        "--url",
        help=f"of the Redis or Valkey server; default: ${URL_VARIABLE}, else {DEFAULT_URL}",
    )
    common.add_argument(
        "--prefix",
        type=prefix,
        default=os.environ.get(PREFIX_VARIABLE) or DEFAULT_KEY_PREFIX,
        help=f"what every key begins with; default: ${PREFIX_VARIABLE}, else {DEFAULT_KEY_PREFIX}",
    )
    common.add_argument("--json", action="store_true", help="write one JSON document")


def coordinator_of(arguments: argparse.Namespace) -> RedisMessageCoordinator:
    """Return a coordinator for the server and prefix that were asked for."""
    return RedisMessageCoordinator.from_url(url_of(arguments), arguments.prefix)


def registry_of(arguments: argparse.Namespace) -> RedisAgentRegistry:
    """Return a registry for the same."""
    return RedisAgentRegistry.from_url(url_of(arguments), arguments.prefix)


def url_of(arguments: argparse.Namespace) -> str:
    """Return the address of the server that was asked for."""
    return arguments.url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
