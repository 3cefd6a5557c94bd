"""Pages of the site that are no files of ``docs/``: what lies elsewhere, and the API.

Links between files of the repository stay as they work on its own pages; here they are turned
into links between pages of the site.
"""

from __future__ import annotations

import importlib
import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "tta_agent_coordination/lua/README.md": "lua.md",
    ".github/CONTRIBUTING.md": "contributing.md",
    ".github/SECURITY.md": "security-policy.md",
}
"""File of the repository: page of the site."""

API = tomllib.loads((ROOT / "tests/support/public_modules.toml").read_text("utf-8"))
"""Public module: its title."""

_NO_EXAMPLES = {"__init__.py", "manage.py"}
"""Files that every project of Django has."""

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are no files of ``docs/``."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=_text(source)))
    files.append(File.generated(config, "license.md", content=f"```text\n{_text('LICENSE')}```\n"))
    files.append(File.generated(config, "api.md", content=_api()))
    files.append(File.generated(config, "examples.md", content=_examples()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links between files into links between pages."""
    source = {place: file for file, place in PAGES.items()}.get(page.file.src_uri)
    folder = posixpath.dirname(source if source is not None else f"docs/{page.file.src_uri}")
    here = posixpath.dirname(page.file.src_uri)

    def turned(link: re.Match[str]) -> str:
        file = posixpath.normpath(posixpath.join(folder, link[1]))
        target = _page_of(file)
        return link[1] if target is None else posixpath.relpath(target, here or ".")

    parts: list[str] = []
    end = 0
    for fence in _FENCED.finditer(markdown):
        parts += [_LINK.sub(turned, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(turned, markdown[end:])])


def _text(file: str) -> str:
    return (ROOT / file).read_text("utf-8")


def _page_of(file: str) -> str | None:
    if file in PAGES:
        return PAGES[file]
    if file.startswith("docs/") and file.endswith(".md"):
        return file.removeprefix("docs/")
    if file.startswith("examples"):
        return "examples.md"
    if file.startswith("tta_agent_coordination/") and file.endswith(".py"):
        return "api.md"
    return "license.md" if file == "LICENSE" else None


def _api() -> str:
    """Every public name of every public module: complete because it is read off ``__all__``."""
    lines = ["# API", ""]
    for name, title in API.items():
        module = importlib.import_module(name)
        lines += [f"## {title}: `{name}`", ""]
        for public in sorted(module.__all__):
            if not public.startswith("__"):
                lines += [f"::: {name}.{public}", ""]
    return "\n".join(lines)


def _examples() -> str:
    lines = ["# Examples", "", "The tests run each of them.", ""]
    for file in sorted((ROOT / "examples").rglob("*.py")):
        if file.name in _NO_EXAMPLES or file.parent.name == "migrations":
            continue
        name = file.relative_to(ROOT / "examples").as_posix()
        lines += [f"## `{name}`", "", "```python", file.read_text("utf-8").rstrip(), "```", ""]
    return "\n".join(lines)
