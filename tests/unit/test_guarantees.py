"""Every promise of ``docs/guarantees.md`` has a test, and every test proves a promise there is."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
SUITE = TESTS / "contract"

PROMISES = re.findall(
    r"^### (\d+\.\d+) ", (ROOT / "docs" / "guarantees.md").read_text("utf-8"), re.MULTILINE
)


def marks_in(tree: ast.AST) -> Iterator[str]:
    """The numbers of every ``pytest.mark.guarantee(...)``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.guarantee":
            for argument in node.args:
                assert isinstance(argument, ast.Constant)
                assert isinstance(argument.value, str)
                yield argument.value


def files() -> Iterator[Path]:
    yield from sorted(TESTS.rglob("test_*.py"))


MARKS = {file: set(marks_in(ast.parse(file.read_text("utf-8")))) for file in files()}


def test_the_promises_are_numbered_without_gaps() -> None:
    numbers = {2: range(17), 3: range(1, 8), 4: range(1, 7), 5: range(1, 5), 6: range(1, 7)}
    assert [f"{section}.{n}" for section, ns in numbers.items() for n in ns] == PROMISES


@pytest.mark.parametrize("number", PROMISES)
def test_every_promise_has_a_test(number: str) -> None:
    assert [file.name for file, numbers in MARKS.items() if number in numbers]


@pytest.mark.parametrize("file", MARKS, ids=lambda file: str(file.relative_to(TESTS)))
def test_no_test_names_a_promise_that_is_not_there(file: Path) -> None:
    assert MARKS[file] <= set(PROMISES)


@pytest.mark.parametrize("file", sorted(SUITE.glob("test_*.py")), ids=lambda file: file.name)
def test_every_test_of_the_contract_names_its_promise(file: Path) -> None:
    tree = ast.parse(file.read_text("utf-8"))
    module_marks = [
        node
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]
    if any(list(marks_in(node)) for node in module_marks):
        return
    unmarked = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and not any(list(marks_in(decorator)) for decorator in node.decorator_list)
    ]
    assert unmarked == []
