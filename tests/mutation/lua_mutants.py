"""Mutants of Lua: a statement dropped, or one word of a line altered."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lupa import lua51

from tests.mutation.mutant import Mutant

_STATEMENT = re.compile(r"^\s*(?!local\b|end\b|else|return\b|if\b|for\b|while\b|--|\}|\))\S")
_ONE_LINE_IF = re.compile(r"^\s*if .* end$")
_ALTERATIONS = (
    (r" <= ", " < "),
    (r" < ", " <= "),
    (r" >= ", " > "),
    (r" > ", " >= "),
    (r" == ", " ~= "),
    (r" ~= ", " == "),
    (r" and ", " or "),
    (r" or ", " and "),
    (r"\bnot ", ""),
    (r" \+ ", " - "),
    (r" - ", " + "),
    (r" \* ", " / "),
    (r"\btrue\b", "false"),
    (r"\bfalse\b", "true"),
    (r"math\.min", "math.max"),
    (r"math\.max", "math.min"),
)
_NUMBER = re.compile(r"(?<![\w.%'])\d+(?![\w.'])")


def mutants_of(path: str, source: str) -> Iterator[Mutant]:
    """Yield every mutant of a file that is still Lua."""
    compiles = lua51.LuaRuntime().compile
    lines = source.splitlines()
    for i, line in enumerate(lines):
        for kind, changed in _changes(line):
            text = "\n".join([*lines[:i], *changed, *lines[i + 1 :], ""])
            try:
                compiles(text)
            except lua51.LuaSyntaxError:
                continue
            yield Mutant(path, i + 1, kind, line.strip(), text)


def _changes(line: str) -> Iterator[tuple[str, list[str]]]:
    code = line.partition("--")[0]
    if _STATEMENT.match(code) or _ONE_LINE_IF.match(code):
        yield "drop", []
    for pattern, instead in _ALTERATIONS:
        for found in re.finditer(pattern, code):
            yield f"{found[0].strip()} -> {instead.strip()}", [_replaced(line, found, instead)]
    for found in _NUMBER.finditer(code):
        yield "number + 1", [_replaced(line, found, str(int(found[0]) + 1))]


def _replaced(line: str, found: re.Match[str], instead: str) -> str:
    return line[: found.start()] + instead + line[found.end() :]
