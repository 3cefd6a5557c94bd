"""Mutants of Python, made by the operators of cosmic-ray: one for each place and kind of change."""

import ast
import random
from collections.abc import Iterator
from functools import partial

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator

from tests.mutation.mutant import Maker, Mutant

Span = tuple[tuple[int, int], tuple[int, int]]

_NOT_USED = ("VariableReplacer", "VariableInserter")
"""They need the names of variables to be told."""

_IDENTITY = ("_Is_Eq", "_IsNot_NotEq", "_Eq_Is", "_NotEq_IsNot")
"""``x is None`` and ``x == None`` say the same of everything in this package."""


def makers_of(path: str, source: str, choice: random.Random) -> Iterator[Maker]:
    """Yield what makes a mutant, for each place of `source` and kind of change that fits there.

    Args:
        path: Of the file, from the root.
        source: Its text.
        choice: Picks one of the changes of a kind, such as ``<`` into ``<=`` or into ``==``.
    """
    unseen = _annotations(source)
    by_place: dict[tuple[Span, str], list[tuple[str, int]]] = {}
    tree = get_ast(source)
    for name in sorted(cosmic_ray.plugins.operator_names()):
        if not name.endswith((*_NOT_USED, *_IDENTITY)):
            for occurrence, span in enumerate(_places(tree, _operator(name))):
                if not any(start <= span[0] < end for start, end in unseen):
                    by_place.setdefault((span, _family(name)), []).append((name, occurrence))
    for (span, _), changes in sorted(by_place.items()):
        yield partial(_mutant, path, source, span[0][0], *choice.choice(changes))


def _mutant(path: str, source: str, line: int, name: str, occurrence: int) -> Mutant | None:
    try:
        changed = mutate_code(source, _operator(name), occurrence)
    except AttributeError:  # of cosmic-ray: it cannot replace an exception of another module
        return None
    if changed is None or changed == source:
        return None
    before = source.splitlines()[line - 1].strip()
    return Mutant(path, line, name.removeprefix("core/"), before, changed)


def _operator(name: str) -> Operator:
    return cosmic_ray.plugins.get_operator(name)()


def _family(name: str) -> str:
    return name.removeprefix("core/").partition("_")[0]


def _places(tree: object, operator: Operator) -> Iterator[Span]:
    for node in ast_nodes(tree):
        yield from operator.mutation_positions(node)


def _annotations(source: str) -> list[Span]:
    """Where types stand, which nothing evaluates."""
    found: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg | ast.AnnAssign):
            found.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append(node.returns)
    return [
        ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0))
        for node in found
        if node is not None
    ]
