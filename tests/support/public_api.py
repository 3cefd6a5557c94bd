"""The public interface as text: ``python -m tests.support.public_api --write`` after a change."""

import importlib
import inspect
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import attrs

MODULES = (
    "tta_agent_coordination",
    "tta_agent_coordination.aio",
    "tta_agent_coordination.django",
    "tta_agent_coordination.flask",
    "tta_agent_coordination.testing",
)
"""Those whose ``__all__`` users may import from."""

FILE = Path(__file__).parents[1] / "unit" / "public_api.txt"


def described() -> str:
    """Every public name, with its signature and its public members."""
    return "\n".join(line for module in MODULES for line in _module(module)) + "\n"


def _module(name: str) -> Iterator[str]:
    module = importlib.import_module(name)
    yield f"# {name}"
    for public in sorted(module.__all__):
        yield from _thing(public, getattr(module, public))
    yield ""


def _thing(name: str, thing: object) -> Iterator[str]:
    if not inspect.isclass(thing):
        yield f"{name}{_signature(thing)}" if callable(thing) else name
        return
    parents = ", ".join(base.__name__ for base in thing.__bases__ if base is not object)
    made = _signature(thing) if "__init__" in _members(thing) else ""
    yield f"{name}{made}" + (f" is a {parents}" if parents else "")
    if issubclass(thing, Enum):
        yield from (f"    {member.name} = {member.value!r}" for member in thing)
        return
    fields = {field.name for field in attrs.fields(thing)} if attrs.has(thing) else set[str]()
    for member in sorted(name for name in {*_members(thing), *fields} if name[0] != "_"):
        value = inspect.getattr_static(thing, member, None)
        value = getattr(value, "__func__", value)
        yield f"    .{member}{_signature(value) if inspect.isfunction(value) else ''}"


def _members(thing: type) -> set[str]:
    """Names that it or a parent of this package defines."""
    own = [kind for kind in thing.__mro__ if kind.__module__.startswith("tta_agent_coordination")]
    return set[str]().union(*(vars(kind) for kind in own))


def _signature(thing: object) -> str:
    """Parameters and their defaults; annotations are pyright's business, ids differ each time."""
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return ""
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    return str(inspect.Signature(plain))


if __name__ == "__main__":
    if "--write" in sys.argv:
        FILE.write_text(described(), "utf-8")
    else:
        print(described(), end="")
