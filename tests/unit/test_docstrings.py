"""What docstrings show as code is code, and runs."""

import ast
import re
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import flask
import pytest

import tta_agent_coordination
from tta_agent_coordination import RedisMessageCoordinator, retry
from tta_agent_coordination.embedded import EmbeddedServer
from tta_agent_coordination.flask import AgentCoordination, health

PACKAGE = Path(tta_agent_coordination.__file__).parent
NO_CODE = {"errors.py": "the tree of errors", "demo/__init__.py": "who sends what to whom"}
NAMES: dict[str, dict[str, Any]] = {
    "django/__init__.py": {},
    "embedded.py": {
        "EmbeddedServer": EmbeddedServer,
        "RedisMessageCoordinator": RedisMessageCoordinator,
    },
    "flask.py": {"AgentCoordination": AgentCoordination, "Flask": flask.Flask, "health": health},
    "retrying.py": {"httpx": SimpleNamespace(TransportError=OSError), "retry": retry, "url": ""},
}
"""What each piece of code takes for granted."""

_SHOWN = re.compile(r"::\n\n((?: .*\n|\n)+)")


def pieces() -> dict[str, str]:
    """What the docstrings of each module show after a double colon."""
    found = dict[str, str]()
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                text = ast.get_docstring(node) or ""
                for shown in _SHOWN.findall(f"{text}\n"):
                    name = file.relative_to(PACKAGE).as_posix()
                    found[name] = found.get(name, "") + dedent(shown)
    return found


SHOWN = pieces()


def test_every_piece_is_known() -> None:
    assert SHOWN.keys() == NO_CODE.keys() | NAMES.keys()


@pytest.mark.parametrize("module", NAMES)
def test_it_runs(module: str) -> None:
    space = {"__name__": __name__, **NAMES[module]}

    exec(compile(SHOWN[module], module, "exec"), space)

    if "create_app" in space:
        rules = {rule.rule for rule in space["create_app"]().url_map.iter_rules()}
        assert {"/health/live", "/health/ready"} <= rules
    if "coordinator" in space:
        space["coordinator"].close()
