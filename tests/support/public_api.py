"""The public interface as text: ``python -m tests.support.public_api --write`` after a change."""

import argparse
import importlib
import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import attrs

from tta_agent_coordination import cli

MODULES = tuple(tomllib.loads(Path(__file__).with_name("public_modules.toml").read_text("utf-8")))
"""Those whose ``__all__`` users may import from; the site documents the same ones."""

HIDDEN = "internals"
"""What this package has for itself may change without notice."""

FILE = Path(__file__).parents[1] / "unit" / "public_api.txt"


_PLACE = re.compile(r" at 0x[0-9a-f]+")
"""Where an object is in memory: another place each time."""


class _Text(str):
    """An annotation as its module writes it, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def described() -> str:
    """Every public name, with its signature and its public members; then the command line."""
    lines = [line for module in MODULES for line in _module(module)]
    return "\n".join([*lines, "# command line", *_command(cli.parser())]) + "\n"


def _module(name: str) -> Iterator[str]:
    module = importlib.import_module(name)
    yield f"# {name}"
    for public in sorted({*module.__all__} - {"__version__"}):  # another one each time
        yield from _thing(public, getattr(module, public))
    yield ""


def _thing(name: str, thing: object) -> Iterator[str]:
    if not inspect.isclass(thing):
        is_function = inspect.isroutine(thing) or hasattr(thing, "__wrapped__")  # or a fixture
        yield name + (_signature(thing) if is_function else _value(thing))
        return
    parents = ", ".join(base.__name__ for base in thing.__bases__ if base is not object)
    is_made = "__init__" in _members(thing) and Protocol not in thing.__bases__
    made = _signature(thing) if is_made else ""
    yield f"{name}{made}" + (f" is a {parents}" if parents else "")
    if issubclass(thing, Enum):
        yield from (f"    {member.name} = {member.value!r}" for member in thing)
        return
    fields = {field.name for field in attrs.fields(thing)} if attrs.has(thing) else set[str]()
    public = {name for name in {*_members(thing), *fields} if name[0] != "_"} - {HIDDEN}
    for member in sorted(public):
        yield f"    .{member}{_member(inspect.getattr_static(thing, member, None))}"


def _member(value: Any) -> str:
    if isinstance(value, (property, cached_property)):
        read = value.fget if isinstance(value, property) else value.func
        return _signature(read).removeprefix("(self)")
    value = getattr(value, "__func__", value)
    return _signature(value) if inspect.isfunction(value) else _value(value)


def _members(thing: type) -> set[str]:
    """Names that it or a parent of this package defines."""
    own = [kind for kind in thing.__mro__ if kind.__module__.startswith("tta_agent_coordination")]
    return set[str]().union(*(vars(kind) for kind in own))


def _value(thing: object) -> str:
    """What a constant is."""
    return f" = {thing!r}" if isinstance(thing, (str, int, float, tuple)) else ""


def _signature(thing: Any) -> str:
    """Parameters, their defaults and annotations."""
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return ""
    parameters = [
        parameter.replace(annotation=_as_text(parameter.annotation))
        for parameter in signature.parameters.values()
    ]
    returned = _as_text(signature.return_annotation)
    # attrs says that its __init__ returns None, which is no news of a class.
    returned = inspect.Signature.empty if inspect.isclass(thing) else returned
    return _PLACE.sub("", str(inspect.Signature(parameters, return_annotation=returned)))


def _as_text(annotation: Any) -> Any:
    return _Text(annotation) if isinstance(annotation, str) else annotation


def _command(parser: argparse.ArgumentParser) -> Iterator[str]:
    """A command with its arguments, then those below it."""
    below: dict[str, argparse.ArgumentParser] = {}
    yield parser.prog
    for action in parser._actions:
        if isinstance(action.choices, dict):
            below |= action.choices
        elif not isinstance(action, argparse._HelpAction):
            yield f"    {_argument(action)}"
    for command in below.values():
        yield from _command(command)


def _argument(action: argparse.Action) -> str:
    words = ", ".join(action.option_strings) or action.metavar or action.dest
    if action.nargs != 0:  # a switch takes nothing, and is off
        words += f" {action.nargs}" if action.nargs else ""
        words += f" in {', '.join(map(str, action.choices))}" if action.choices else ""
        given = action.default not in (None, argparse.SUPPRESS)
        words += f" = {action.default!r}" if given else ""
    return words + (" (required)" if action.option_strings and action.required else "")


if __name__ == "__main__":
    if "--write" in sys.argv:
        FILE.write_text(described(), "utf-8")
    else:
        print(described(), end="")
