"""The layers: imports go one way, one package knows Redis, and an import does nothing."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import median

import pytest

import tta_agent_coordination

PACKAGE = Path(tta_agent_coordination.__file__).parent
NAME = PACKAGE.name

pytestmark = pytest.mark.guarantee("2.15")

LAYERS = [
    {"errors", "checks", "forks", "terminal", "waits"},
    {"threads"},
    {"identity", "retrying"},
    {"message", "keys"},
    {"delivery", "policy", "codec"},
    {"events"},
    {"interfaces"},
    {"transport"},
    {"doctor"},
    {"agents", "circuit"},
    {"coordinator"},
    {"registry"},
    {"worker"},
    {"aio", "glue", "migrate", "testing"},
    {"server_process"},
    {"embedded"},
    {"proxy"},
    {"demo"},
    {"chaos"},
    {"cli"},
    {"flask", "django", "otel", "prometheus"},
]
"""From the bottom to the top; none imports from a layer above, or from another part of its own."""

ROOT_ONLY_RE_EXPORTS = "__init__"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def part_of(module: str) -> str:
    """The part of the package to which a module belongs: its first name below the package."""
    return module.split(".")[1] if "." in module else ROOT_ONLY_RE_EXPORTS


def modules() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        names = file.relative_to(PACKAGE).with_suffix("").parts
        inside = [name for name in names if name != "__init__"]
        yield ".".join([NAME, *inside]), ast.parse(file.read_text("utf-8"))


def imports_of(tree: ast.Module) -> Iterator[str]:
    """Every module that is imported anywhere in a file, also within functions and for types."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module
            if node.module == NAME:
                yield from (f"{NAME}.{alias.name}" for alias in node.names)
            else:
                yield node.module


LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in sorted(parts)}
IMPORTS = [(module, found) for module, tree in modules() for found in imports_of(tree)]
INNER = [
    (module, found)
    for module, found in IMPORTS
    if found.startswith(f"{NAME}.") and part_of(module) != part_of(found)
]


def test_every_part_has_its_layer() -> None:
    parts = {part_of(module) for module, _ in modules()} - {ROOT_ONLY_RE_EXPORTS}
    assert parts == set(LEVEL)


def drawn() -> Iterator[tuple[str, str]]:
    """Each arrow of the diagram in docs/design.md, between each two that it connects."""
    text = (PACKAGE.parent / "docs" / "design.md").read_text("utf-8")
    lines = text.partition("```mermaid\nflowchart TD\n")[2].partition("```")[0].splitlines()
    for line in lines:
        start, end = ([*re.findall(r"\w+", re.sub(r'\w+\["', "", s))] for s in line.split(" --> "))
        yield from product(start, end)


def defined_in(found: str) -> str:
    """The part from which an import is, also when it takes a name from the root."""
    thing = getattr(tta_agent_coordination, found.split(".")[1], None)
    return part_of(found if part_of(found) in LEVEL else getattr(thing, "__module__", NAME))


def test_the_design_draws_every_part_and_imports_that_there_are() -> None:
    arrows = set(drawn())
    assert {part for arrow in arrows for part in arrow} == set(LEVEL)
    imports = {(part_of(module), defined_in(found)) for module, found in INNER}
    base = {part for part in LEVEL if LEVEL[part] == 0}
    assert {(one, other) for one, other in arrows - imports if other not in base} == set()


@pytest.mark.parametrize("part", LEVEL)
def test_imports_go_down(part: str) -> None:
    public = {f"{NAME}.{name}" for name in tta_agent_coordination.__all__}
    up = [
        f"{module} imports {found}"
        for module, found in INNER
        if part_of(module) == part
        and found not in public
        and not LEVEL[part_of(found)] < LEVEL[part]
    ]
    assert up == []


@pytest.mark.parametrize("part", [part for part in LEVEL if LEVEL[part] < LEVEL["demo"]])
def test_only_the_top_imports_from_the_root(part: str) -> None:
    public = {f"{NAME}.{name}" for name in tta_agent_coordination.__all__} | {NAME}
    wrong = [
        (module, found) for module, found in INNER if part_of(module) == part and found in public
    ]
    assert wrong == []


def test_only_the_transport_imports_redis_at_run_time() -> None:
    found = {
        (part_of(module), node.lineno)
        for module, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        and any(name.split(".")[0] == "redis" for name in imports_of(ast.Module([node], [])))
        and node not in for_types_only(tree)
    }
    assert {part for part, _ in found} == {"transport", "testing"}, found


def for_types_only(tree: ast.Module) -> list[ast.AST]:
    """What stands under ``if TYPE_CHECKING``."""
    blocks = (node for node in ast.walk(tree) if isinstance(node, ast.If))
    return [
        inner
        for block in blocks
        if isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for inner in ast.walk(block)
    ]


def test_the_coordinator_never_asks_the_wall_clock() -> None:
    asked = [
        (module, node.lineno, ast.unparse(node))
        for module, tree in modules()
        if part_of(module) in {"coordinator", "transport", "codec", "policy", "delivery"}
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and ast.unparse(node) in {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow"}
    ]
    assert asked == []


def test_modules_are_short() -> None:
    long = {
        str(file.relative_to(PACKAGE)): lines
        for file in PACKAGE.rglob("*.py")
        if (lines := len(file.read_text("utf-8").splitlines())) > 400
    }
    assert long == {}


def test_public_names_have_docstrings() -> None:
    missing = [
        f"{module}:{node.name}"
        for module, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, (ast.ClassDef, *FUNCTIONS))
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
        and module.split(".")[1:2] != ["demo"]
        and not is_inner(node, tree)
        and not completes_another(node)
        and not carries_out_another(module, node)
    ]
    assert missing == []


def completes_another(node: Definition) -> bool:
    """Whether it is the setter of a property, or an overload: another definition tells of it."""
    names = {ast.unparse(decorator) for decorator in node.decorator_list}
    return "overload" in names or any(name.endswith(".setter") for name in names)


def carries_out_another(module: str, node: Definition) -> bool:
    """Whether it is a method of an interface, whose docstring ``help`` shows in its place."""
    kinds = vars(importlib.import_module(module)).values()
    return any(
        inspect.getdoc(vars(kind)[node.name])
        for kind in kinds
        if inspect.isclass(kind) and node.name in vars(kind)
    )


def is_inner(node: Definition, tree: ast.Module) -> bool:
    """Whether it stands in a function, or in a private class."""
    return any(
        node in ast.walk(outer) and outer is not node
        for outer in ast.walk(tree)
        if isinstance(outer, FUNCTIONS)
        or (isinstance(outer, ast.ClassDef) and outer.name.startswith("_"))
    )


LOOK = """
import sys
seen = []
STARTS = {"socket.__new__", "subprocess.Popen", "os.mkdir", "_thread.start_new_thread"}
def writes(path, mode, flags):
    return bool(set(mode or "") & set("wax+") or (flags or 0) & 3) and not isinstance(path, int)
def hook(event, arguments):
    if event in STARTS or event == "open" and writes(*arguments):
        seen.append((event, arguments))
import threading, socket, logging, json, uuid  # their own beginnings are theirs
before = threading.active_count()
sys.addaudithook(hook)
import tta_agent_coordination
assert threading.active_count() == before, threading.enumerate()
assert not seen, seen
assert not logging.getLogger("tta_agent_coordination").handlers
assert not logging.root.handlers
"""

BROUGHT = """
import sys
import redis
known = set(sys.modules)
import tta_agent_coordination
print(*(set(sys.modules) - known))
"""
"""Prints what an import of the package loads besides what redis-py does."""

CLOCK = """
import time
start = time.process_time()
import redis
floor = time.process_time() - start
import tta_agent_coordination
print((time.process_time() - start) / floor)
"""
"""Prints how much more processor time an import takes than that of redis-py alone."""


def python(code: str) -> str:
    """What a new interpreter prints, in which every warning is an error."""
    command = [sys.executable, "-B", "-W", "error", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.stderr == ""
    return run.stdout


def test_an_import_starts_nothing_and_opens_nothing() -> None:
    python(LOOK)


def test_an_import_loads_nothing_but_the_core_and_what_it_needs() -> None:
    loaded = set(python(BROUGHT).split())
    strangers = {name.split(".")[0] for name in loaded} - sys.stdlib_module_names - {NAME}
    assert {"attrs", "backoff", "cattrs", "pybreaker"} <= strangers
    assert strangers <= {"attr", "attrs", "backoff", "cattrs", "pybreaker", "typing_extensions"}

    parts = {name.split(".")[1] for name in loaded if name.startswith(f"{NAME}.")}
    assert "worker" in parts
    assert {part for part in parts if LEVEL[part] > LEVEL["worker"]} == set()


def test_an_import_takes_no_more_than_three_times_as_long_as_that_of_redis() -> None:
    assert median(float(python(CLOCK)) for _ in range(3)) < 3.0
